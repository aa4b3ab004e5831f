package csource

// Value is a number of a condition, or that it is not known.
type Value struct {
	N     int64
	Known bool
}

// Eval returns what an expression of #if comes to.
func (t *Table) Eval(expression string) Value {
	_ = expression
	return Value{}
}
