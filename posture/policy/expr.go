package policy

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"holdfast/measure"
	"holdfast/posture"
)

// The bounds of expressions, beside their length.
const (
	maxNodes = 256
	maxDepth = 32
	maxRegex = 100  // instructions of a compiled pattern
	maxCost  = 2000 // in CEL's units: estimated before, and counted while it runs
	maxText  = 260  // the longest id, group or release that the estimate reckons with
)

// Bind compiles the conditions of p. There are no macros and so no loops in
// their language; an expression that makes no sense of the catalogue, that has
// another type than bool, or that may cost too much is an error.
func Bind(p posture.Policy) (posture.Policy, error) {
	if len(p.Conditions) == 0 {
		return p, nil
	}
	return p.Compile(compile)
}

// exprError is what is wrong at a place in an expression, counted in characters.
type exprError struct {
	column int
	text   string
}

func (e *exprError) Error() string { return fmt.Sprintf("character %d: %s", e.column+1, e.text) }

// environment is what expressions see.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	return cel.NewEnv(
		cel.CustomTypeProvider(provider{registry}), cel.CustomTypeAdapter(registry), cel.ClearMacros(),
		cel.Variable("device.id", cel.StringType), cel.Variable("device.group", cel.StringType), cel.Variable("device.release", cel.StringType),
		cel.Variable("rows", cel.MapType(cel.StringType, rowType)), cel.Variable("now", cel.TimestampType),
		cel.Function("meets", cel.MemberOverload("grade_meets_grade", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(meets))),
		cel.ParserExpressionSizeLimit(posture.MaxExpression), cel.ExpressionNodeLimit(maxNodes), cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNestingDepthLimit(maxDepth), cel.RegexProgramSizeLimit(maxRegex),
	)
})

// meets is grade.meets("attested"): evidence of a grade satisfies the demand
// for another.
func meets(have, want ref.Val) ref.Val {
	h, ok1 := have.(types.String)
	w, ok2 := want.(types.String)
	if !ok1 || !ok2 {
		return types.MaybeNoSuchOverloadErr(have)
	}
	return types.Bool(measure.Grade(h).Meets(measure.Grade(w)))
}

// compile makes a test of an expression.
func compile(text string) (posture.Test, error) {
	if err := noComment(text); err != nil {
		return posture.Test{}, err
	}
	env, err := environment()
	if err != nil {
		return posture.Test{}, fmt.Errorf("language of conditions: %w", err)
	}
	checked, issues := env.Compile(text)
	if issues != nil && len(issues.Errors()) > 0 {
		e := issues.Errors()[0]
		return posture.Test{}, &exprError{max(0, e.Location.Column()), e.Message}
	}
	if checked.OutputType() != cel.BoolType {
		return posture.Test{}, &exprError{0, fmt.Sprintf("it is a %s, want a condition", checked.OutputType())}
	}
	l := lint{ast: checked.NativeRep()}
	if err := l.check(); err != nil {
		return posture.Test{}, err
	}
	estimate, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		return posture.Test{}, fmt.Errorf("cost: %w", err)
	}
	if estimate.Max > maxCost {
		return posture.Test{}, &exprError{0, fmt.Sprintf("it may cost %d, at most %d is allowed", estimate.Max, maxCost)}
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return posture.Test{}, &exprError{0, err.Error()}
	}
	return posture.Test{Timed: l.timed, Holds: func(v posture.View) (bool, error) { return holds(program, v) }}, nil
}

func holds(program cel.Program, v posture.View) (bool, error) {
	out, _, err := program.Eval(activation(v))
	if err != nil {
		return false, err
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it is a %s", out.Type().TypeName())
	}
	return b, nil
}

// sizes bounds what an expression can come upon.
type sizes struct{}

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if n.Type() != nil && n.Type().Kind() == types.StringKind && len(n.Path()) > 0 {
		return &cost.SizeEstimate{Max: maxText}
	}
	return nil
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// lint finds what the types let pass but no policy means.
type lint struct {
	ast   *ast.AST
	timed bool
	named map[int64]bool // identifiers "rows" that a measure's id follows
	err   *exprError
}

func (l *lint) check() error {
	l.named = make(map[int64]bool)
	ast.PreOrderVisit(l.ast.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.CallKind:
			l.call(e)
		case ast.IdentKind:
			l.timed = l.timed || e.AsIdent() == "now"
			if e.AsIdent() == "rows" && !l.named[e.ID()] {
				l.refuse(e, `rows: name one measure, as rows["app.debug"]`)
			}
		case ast.SelectKind:
			l.timed = l.timed || e.AsSelect().FieldName() == "age"
		}
	}))
	if l.err != nil {
		return l.err
	}
	return nil
}

func (l *lint) refuse(e ast.Expr, format string, args ...any) {
	if l.err == nil {
		at := l.ast.SourceInfo().GetStartLocation(e.ID())
		l.err = &exprError{max(0, at.Column()), fmt.Sprintf(format, args...)}
	}
}

func (l *lint) call(e ast.Expr) {
	c := e.AsCall()
	switch c.FunctionName() {
	case operators.Index:
		if rows := c.Args()[0]; rows.Kind() == ast.IdentKind && rows.AsIdent() == "rows" {
			id, ok := literal(c.Args()[1])
			if !ok {
				return // said where rows is looked at
			}
			l.named[rows.ID()] = true
			if _, err := measure.Parse(id); err != nil {
				l.refuse(c.Args()[1], "%v", err)
			}
		}
	case operators.Equals, operators.NotEquals:
		l.compared(c.Args()[0], c.Args()[1])
		l.compared(c.Args()[1], c.Args()[0])
	case operators.In:
		if list := c.Args()[1]; list.Kind() == ast.ListKind {
			for _, element := range list.AsList().Elements() {
				l.compared(c.Args()[0], element)
			}
		}
	case "meets":
		l.grade(c.Args()[0])
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		for _, id := range l.ast.GetOverloadIDs(e.ID()) {
			if slices.Contains([]string{overloads.LessString, overloads.LessEqualsString, overloads.GreaterString, overloads.GreaterEqualsString}, id) {
				l.refuse(e, `texts have no order that means anything here; of grades, use rows["app.debug"].grade.meets("attested")`)
			}
		}
	}
}

// compared refuses a verdict or grade that does not exist.
func (l *lint) compared(field, with ast.Expr) {
	text, ok := literal(with)
	if !ok || field.Kind() != ast.SelectKind {
		return
	}
	switch field.AsSelect().FieldName() {
	case "verdict":
		if v := measure.Verdict(text); v != measure.Pass && v != measure.Fail && v != measure.Unknown {
			l.refuse(with, "verdict %q: want pass, fail or unknown", text)
		}
	case "grade":
		l.grade(with)
	}
}

func (l *lint) grade(e ast.Expr) {
	if text, ok := literal(e); ok {
		if _, err := measure.ParseGrade(text); err != nil {
			l.refuse(e, "%v", err)
		}
	}
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// activation gives expressions their variables.
type activation posture.View

func (activation) Parent() cel.Activation { return nil }

func (a activation) ResolveName(name string) (any, bool) {
	switch name {
	case "rows":
		return rows{a.Marks, a.Now}, true
	case "now":
		return a.Now, true
	case "device.id":
		return string(a.Device), true
	case "device.group":
		return string(a.Group), true
	case "device.release":
		return a.Release, true
	}
	return nil, false
}

// rowType is the type of rows["app.debug"].
var rowType = types.NewObjectType("row")

// row is a measure of a device as expressions see it.
type row struct {
	verdict measure.Verdict
	grade   measure.Grade
	age     time.Duration // the longest there is where no evidence is
}

// fields are those of a row.
var fields = map[string]*types.FieldType{
	"verdict": field(cel.StringType, func(r row) any { return string(r.verdict) }),
	"grade":   field(cel.StringType, func(r row) any { return string(r.grade) }),
	"age":     field(cel.DurationType, func(r row) any { return r.age }),
}

var errNoRow = errors.New("not a row")

func field(t *cel.Type, get func(row) any) *types.FieldType {
	return &types.FieldType{Type: t, IsSet: func(any) bool { return true }, GetFrom: func(of any) (any, error) {
		r, ok := of.(row)
		if !ok {
			return nil, errNoRow
		}
		return get(r), nil
	}}
}

// provider knows the type of rows besides those of the language.
type provider struct{ *types.Registry }

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	if name == rowType.TypeName() {
		return types.NewTypeTypeWithParam(rowType), true
	}
	return p.Registry.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if name == rowType.TypeName() {
		return []string{"age", "grade", "verdict"}, true
	}
	return p.Registry.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	if name == rowType.TypeName() {
		f, ok := fields[fieldName]
		return f, ok
	}
	return p.Registry.FindStructFieldType(name, fieldName)
}

// ConvertToNative implements ref.Val.
func (r row) ConvertToNative(reflect.Type) (any, error) { return nil, errNoRow }

// ConvertToType implements ref.Val.
func (r row) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("a row is not a %s", t.TypeName())
}

// Equal implements ref.Val.
func (r row) Equal(other ref.Val) ref.Val { return types.Bool(r == other) }

// Type implements ref.Val.
func (r row) Type() ref.Type { return rowType }

// Value implements ref.Val.
func (r row) Value() any { return r }

// rows is a device's posture as a map from measure to row.
type rows struct {
	marks posture.Marks
	now   time.Time
}

var _ traits.Mapper = rows{}

// Find implements traits.Mapper.
func (m rows) Find(key ref.Val) (ref.Val, bool) {
	id, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	verdict, grade, at, ok := m.marks.Of(measure.ID(id))
	if !ok {
		return nil, false
	}
	r := row{verdict, grade, math.MaxInt64}
	if verdict != measure.Unknown {
		r.age = m.now.Sub(at)
	}
	return r, true
}

// Get implements traits.Indexer.
func (m rows) Get(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	if !ok && v == nil {
		return types.NewErr("no such measure: %v", key)
	}
	return v
}

// Contains implements traits.Container.
func (m rows) Contains(key ref.Val) ref.Val {
	_, ok := m.Find(key)
	return types.Bool(ok)
}

// Iterator implements traits.Iterable: nothing in the language asks for it.
func (m rows) Iterator() traits.Iterator {
	return types.NewStringList(types.DefaultTypeAdapter, nil).Iterator()
}

// Size implements traits.Sizer.
func (m rows) Size() ref.Val { return types.Int(len(measure.IDs())) }

// ConvertToNative implements ref.Val.
func (m rows) ConvertToNative(reflect.Type) (any, error) { return nil, errNoRow }

// ConvertToType implements ref.Val.
func (m rows) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("rows are not a %s", t.TypeName())
}

// Equal implements ref.Val.
func (m rows) Equal(other ref.Val) ref.Val { return types.Bool(m == other) }

// Type implements ref.Val.
func (m rows) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m rows) Value() any { return m }
