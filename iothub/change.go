package iothub

import (
	"encoding/json"
	"strconv"
	"time"

	"holdfast/identity"
)

// The kinds of events that the hub itself makes.
const (
	TwinChange Kind = "twin"     // a device or an operator changed a twin
	Feedback   Kind = "feedback" // what became of a message to a device
)

// NewTwinChange makes the event of a change of a section of a device's twin
// ("tags", "desired" or "reported"). Patch is what changed, as JSON; version
// is the section's afterwards.
func NewTwinChange(d identity.Device, section string, patch []byte, version int64, replaced bool, now time.Time) Message {
	op := "updateTwin"
	if replaced {
		op = "replaceTwin"
	}
	body := []byte(`{"properties":{"` + section + `":` + string(patch) + `}}`)
	if section == "tags" {
		body = []byte(`{"tags":` + string(patch) + `}`)
	}
	m := hubMessage(d, TwinChange, "twinChangeEvents", body, now)
	m.Properties = map[string]string{"opType": op, "deviceId": string(d), "section": section}
	if version > 0 {
		m.Properties["version"] = strconv.FormatInt(version, 10)
	}
	return m
}

// Outcome says what became of a message to a device.
type Outcome string

// The outcomes.
const (
	Success   Outcome = "Success" // the device acknowledged it
	Expired   Outcome = "Expired"
	Exhausted Outcome = "DeliveryCountExceeded"
	Purged    Outcome = "Purged" // an operator emptied the queue
)

// Fate is the record of a Feedback event.
type Fate struct {
	MessageID   string          `json:"originalMessageId"`
	Enqueued    time.Time       `json:"enqueuedTimeUtc"`
	Outcome     Outcome         `json:"statusCode"`
	Description string          `json:"description"`
	Device      identity.Device `json:"deviceId"`
}

// NewFeedback makes the event that tells an operator of a message's fate: in
// Azure's form, which is a list of records. There is one record in it.
func NewFeedback(f Fate, now time.Time) Message {
	f.Enqueued, f.Description = f.Enqueued.UTC(), string(f.Outcome)
	body, _ := json.Marshal([]Fate{f}) // texts and a time always marshal
	m := hubMessage(f.Device, Feedback, "feedback", body, now)
	m.System["content-type"] = "application/vnd.microsoft.iothub.feedback.json"
	m.System["correlation-id"] = f.MessageID
	return m
}

func hubMessage(d identity.Device, k Kind, source string, body []byte, now time.Time) Message {
	now = now.UTC()
	return Message{Device: d, Kind: k, Time: now, Body: body, System: map[string]string{
		EnqueuedTime: now.Format(time.RFC3339Nano), MessageSource: source,
	}}
}
