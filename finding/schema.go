package finding

import _ "embed"

//go:embed report.schema.json
var schema string

// Schema returns the JSON Schema (draft 2020-12) of reports.
func Schema() string { return schema }
