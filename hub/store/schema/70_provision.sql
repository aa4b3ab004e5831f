-- What hub/provision keeps. Enrolments are documents (JSON) under their ids in
-- lower case; a certificate belongs to one of them.
CREATE TABLE provision_enrollment (
  kind TEXT NOT NULL,
  key  TEXT NOT NULL,
  doc  TEXT NOT NULL,
  PRIMARY KEY (kind, key)
);
CREATE TABLE provision_pin (
  certificate TEXT PRIMARY KEY, -- SHA-256 of the DER, hexadecimal
  kind        TEXT NOT NULL,
  key         TEXT NOT NULL,
  FOREIGN KEY (kind, key) REFERENCES provision_enrollment (kind, key) ON DELETE CASCADE
);
CREATE INDEX provision_pin_key ON provision_pin (kind, key);
CREATE TABLE provision_registration (
  device TEXT PRIMARY KEY,
  doc    TEXT NOT NULL
);
