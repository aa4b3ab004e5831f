-- Groups, registered authorities, devices and arrivals are documents (JSON)
-- beside the columns that have to be unique or are searched.
CREATE TABLE fleet_group (
  id  TEXT PRIMARY KEY,
  doc TEXT NOT NULL
);
CREATE TABLE fleet_ca (
  name TEXT PRIMARY KEY,
  doc  TEXT NOT NULL
);
CREATE TABLE fleet_device (
  id    TEXT PRIMARY KEY,
  grp   TEXT NOT NULL REFERENCES fleet_group (id),
  ek    TEXT UNIQUE, -- SHA-256 of the EK's public area, hexadecimal; NULL: none
  token TEXT UNIQUE, -- SHA-256 of the claim token, hexadecimal; NULL: none
  doc   TEXT NOT NULL
);
CREATE INDEX fleet_device_grp ON fleet_device (grp);
CREATE TABLE fleet_arrival (
  ek   TEXT PRIMARY KEY,
  last BIGINT NOT NULL, -- Unix time in nanoseconds
  doc  TEXT NOT NULL
);
-- What the ledger still has to record. Numbers are never used twice.
CREATE TABLE fleet_event (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  kind    TEXT NOT NULL,
  device  TEXT NOT NULL,
  details TEXT NOT NULL
);
