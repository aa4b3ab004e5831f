-- What hub/gateway keeps of the sessions of devices: gateway.Kept as JSON.
CREATE TABLE gateway_session (
	device TEXT PRIMARY KEY,
	doc    TEXT NOT NULL
);
