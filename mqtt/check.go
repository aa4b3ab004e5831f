package mqtt

import "cmp"

// The check methods have the rules on a packet's content. Decoding and
// encoding both end in them, so neither side lets pass what the other refuses.

func (p *Connect) check(v Version) error {
	switch {
	case v != V311 && v != V5 || p.Version != 0 && p.Version != v:
		return ErrVersion
	case v == V311 && p.ClientID == "" && !p.Clean:
		return ErrClientID
	case v == V311 && p.Password != nil && p.Username == nil:
		return ErrPassword
	case len(p.Password) > maxField:
		return ErrTooLong
	}
	var user string
	if p.Username != nil {
		user = *p.Username
	}
	return cmp.Or(CheckText(p.ClientID), p.Will.check(v), CheckText(user), p.Properties.check(v, in(CONNECT)))
}

func (w *Will) check(v Version) error {
	switch {
	case w == nil:
		return nil
	case w.QoS > ExactlyOnce:
		return ErrWillQoS
	case len(w.Payload) > maxField:
		return ErrTooLong
	}
	switch err := CheckTopic(w.Topic); err {
	case nil:
		return w.Properties.check(v, inWill)
	case ErrTopic, ErrWildcard:
		return ErrWillTopic
	default:
		return err
	}
}

func (p *Connack) check(v Version) error {
	switch {
	case v == V311 && p.Code > RefusedForbidden:
		return ErrConnack
	case p.Code != Accepted && p.SessionPresent:
		return ErrSession
	}
	if v == V311 {
		return p.Properties.check(v, in(CONNACK))
	}
	return cmp.Or(checkCode(CONNACK, p.Code), p.Properties.check(v, in(CONNACK)))
}

func (p *Publish) check(v Version) error {
	switch {
	case p.QoS > ExactlyOnce:
		return ErrQoS
	case p.QoS == AtMostOnce && p.Dup:
		return ErrDup
	case p.QoS != AtMostOnce && p.ID == 0:
		return ErrPacketID
	case len(p.Payload) > maxRemaining-maxField:
		return ErrTooLarge
	}
	if err := p.Properties.check(v, in(PUBLISH)); err != nil {
		return err
	}
	if p.Topic == "" && len(p.Properties) > 0 {
		if _, ok := p.Properties.Number(TopicAlias); ok {
			return nil
		}
	}
	return CheckTopic(p.Topic)
}

func (p *Puback) check(v Version) error {
	return cmp.Or(checkID(p.ID), checkReason(v, PUBACK, p.Code), p.Properties.check(v, in(PUBACK)))
}

func checkID(id uint16) error {
	if id == 0 {
		return ErrPacketID
	}
	return nil
}

// checkReason checks the code of a packet that has none in MQTT 3.1.1.
func checkReason(v Version, t Type, c Code) error {
	switch {
	case v == V5:
		return checkCode(t, c)
	case c != Success:
		return ErrReason
	}
	return nil
}

func (p *Subscribe) check(v Version) error {
	if len(p.Filters) == 0 {
		return ErrNoFilters
	}
	for _, f := range p.Filters {
		if f.QoS > ExactlyOnce || f.RetainHandling > 2 || v == V311 && f.options() != byte(f.QoS) {
			return ErrSubscribeQoS
		}
		if err := CheckFilter(f.Filter); err != nil {
			return err
		}
	}
	return cmp.Or(checkID(p.ID), p.Properties.check(v, in(SUBSCRIBE)))
}

func (p *Suback) check(v Version) error {
	if len(p.Codes) == 0 {
		return ErrNoSubackCodes
	}
	for _, c := range p.Codes {
		if v == V311 && c > byte(ExactlyOnce) && c != SubackFailure || v == V5 && checkCode(SUBACK, Code(c)) != nil {
			return ErrSubackCode
		}
	}
	return cmp.Or(checkID(p.ID), p.Properties.check(v, in(SUBACK)))
}

func (p *Unsubscribe) check(v Version) error {
	if len(p.Filters) == 0 {
		return ErrNoTopics
	}
	for _, f := range p.Filters {
		if err := CheckFilter(f); err != nil {
			return err
		}
	}
	return cmp.Or(checkID(p.ID), p.Properties.check(v, in(UNSUBSCRIBE)))
}

func (p *Unsuback) check(v Version) error {
	if (len(p.Codes) > 0) != (v == V5) {
		return ErrReason
	}
	for _, c := range p.Codes {
		if err := checkCode(UNSUBACK, Code(c)); err != nil {
			return err
		}
	}
	return cmp.Or(checkID(p.ID), p.Properties.check(v, in(UNSUBACK)))
}

func (*Pingreq) check(Version) error  { return nil }
func (*Pingresp) check(Version) error { return nil }

func (p *Disconnect) check(v Version) error {
	return cmp.Or(checkReason(v, DISCONNECT, p.Code), p.Properties.check(v, in(DISCONNECT)))
}
