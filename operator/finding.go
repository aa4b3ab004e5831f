package operator

// How a check came out.
const (
	FindingOK   = "ok"
	FindingWarn = "warn" // it works, but not for long, or not as it should
	FindingFail = "fail" // something does not work
)

// Finding is what one check of a hub found.
type Finding struct {
	Check string `json:"check"`
	State string `json:"state" enum:"ok,warn,fail"`
	Text  string `json:"text" doc:"what was found"`
	Fix   string `json:"fix,omitempty" doc:"what to do about it"`
}
