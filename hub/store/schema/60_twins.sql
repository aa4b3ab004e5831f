-- Twins that somebody has written to; a section is a JSON object.
CREATE TABLE twin (
  device           TEXT PRIMARY KEY,
  tags             TEXT NOT NULL,
  desired          TEXT NOT NULL,
  desired_version  BIGINT NOT NULL,
  reported         TEXT NOT NULL,
  reported_version BIGINT NOT NULL
);
