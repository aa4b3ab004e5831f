package mqtt

import "cmp"

// The check methods have the rules on a packet's content. Decoding and
// encoding both end in them, so neither side lets pass what the other refuses.

func (p *Connect) check() error {
	switch {
	case p.Version != 0 && p.Version != V311:
		return ErrVersion
	case p.ClientID == "" && !p.Clean:
		return ErrClientID
	case p.Password != nil && p.Username == nil:
		return ErrPassword
	case len(p.Password) > maxField:
		return ErrTooLong
	}
	var user string
	if p.Username != nil {
		user = *p.Username
	}
	return cmp.Or(CheckText(p.ClientID), p.Will.check(), CheckText(user))
}

func (w *Will) check() error {
	switch {
	case w == nil:
		return nil
	case w.QoS > ExactlyOnce:
		return ErrWillQoS
	case len(w.Payload) > maxField:
		return ErrTooLong
	}
	switch err := CheckTopic(w.Topic); err {
	case ErrTopic, ErrWildcard:
		return ErrWillTopic
	default:
		return err
	}
}

func (p *Connack) check() error {
	switch {
	case p.Code > RefusedForbidden:
		return ErrConnack
	case p.Code != Accepted && p.SessionPresent:
		return ErrSession
	}
	return nil
}

func (p *Publish) check() error {
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
	return CheckTopic(p.Topic)
}

func (p *Puback) check() error   { return checkID(p.ID) }
func (p *Unsuback) check() error { return checkID(p.ID) }

func checkID(id uint16) error {
	if id == 0 {
		return ErrPacketID
	}
	return nil
}

func (p *Subscribe) check() error {
	if len(p.Filters) == 0 {
		return ErrNoFilters
	}
	for _, f := range p.Filters {
		if f.QoS > ExactlyOnce {
			return ErrSubscribeQoS
		}
		if err := CheckFilter(f.Filter); err != nil {
			return err
		}
	}
	return checkID(p.ID)
}

func (p *Suback) check() error {
	if len(p.Codes) == 0 {
		return ErrNoSubackCodes
	}
	for _, c := range p.Codes {
		if c > byte(ExactlyOnce) && c != SubackFailure {
			return ErrSubackCode
		}
	}
	return checkID(p.ID)
}

func (p *Unsubscribe) check() error {
	if len(p.Filters) == 0 {
		return ErrNoTopics
	}
	for _, f := range p.Filters {
		if err := CheckFilter(f); err != nil {
			return err
		}
	}
	return checkID(p.ID)
}

func (*Pingreq) check() error    { return nil }
func (*Pingresp) check() error   { return nil }
func (*Disconnect) check() error { return nil }
