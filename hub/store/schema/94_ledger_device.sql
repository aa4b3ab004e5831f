-- What the ledger says of one device, without reading all of it.
CREATE INDEX ledger_device ON ledger (device, seq) WHERE device <> '';
