-- What hub/auditors keeps. Times are nanoseconds of Unix time, digests are
-- hexadecimal.
CREATE TABLE auditor (
  name  TEXT   NOT NULL PRIMARY KEY,
  id    TEXT   NOT NULL UNIQUE, -- digest of the key
  key   TEXT   NOT NULL,        -- PEM
  by    TEXT   NOT NULL,
  added BIGINT NOT NULL
);
CREATE TABLE auditor_statement (
  id       TEXT   NOT NULL PRIMARY KEY, -- digest of the envelope
  auditor  TEXT   NOT NULL,             -- id of the key that signed it
  envelope BLOB   NOT NULL,
  by       TEXT   NOT NULL,
  received BIGINT NOT NULL
);

-- Of hub/fleet: the statements by which its devices were last decided on.
CREATE TABLE fleet_audits (
  place INTEGER NOT NULL PRIMARY KEY CHECK (place = 1),
  epoch TEXT    NOT NULL
);
