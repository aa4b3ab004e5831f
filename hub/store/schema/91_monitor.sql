-- What hub/monitor keeps. Times are Unix time in nanoseconds, zero for none.

-- How far the ledger has been looked at: the number of its last record, and of
-- the last of the registry's events in it, which may stand there twice.
CREATE TABLE monitor_place (
  seq    BIGINT NOT NULL,
  event  BIGINT NOT NULL,
  probed BIGINT NOT NULL, -- when a write was last tried out
  hooked BIGINT NOT NULL  -- the last alert that was posted; -1: none was to be
);
INSERT INTO monitor_place (seq, event, probed, hooked) VALUES (0, 0, 0, -1);
-- What the ledger says of each device: its last status, and when somebody has
-- to be warned of the end of its certificate.
CREATE TABLE monitor_device (
  device    TEXT PRIMARY KEY,
  status    TEXT NOT NULL,
  warn_at   BIGINT NOT NULL,
  not_after BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX monitor_device_warn ON monitor_device (warn_at) WHERE warn_at > 0;
-- How many devices have a verdict, of those that are not unknown.
CREATE TABLE monitor_verdict (
  measure TEXT NOT NULL,
  verdict TEXT NOT NULL,
  devices BIGINT NOT NULL,
  PRIMARY KEY (measure, verdict)
) WITHOUT ROWID;
-- One alert is open of a subject and a kind. A subject is a device, or the EK
-- of one that has no id yet. Numbers are never used twice.
CREATE TABLE monitor_alert (
  number       INTEGER PRIMARY KEY AUTOINCREMENT,
  subject      TEXT NOT NULL,
  kind         TEXT NOT NULL,
  device       TEXT NOT NULL,
  grp          TEXT NOT NULL,
  severity     TEXT NOT NULL,
  was          TEXT NOT NULL,
  becomes      TEXT NOT NULL,
  reason       TEXT NOT NULL,
  at           BIGINT NOT NULL,
  last         BIGINT NOT NULL,
  times        BIGINT NOT NULL,
  cleared      BIGINT NOT NULL,
  acknowledged BIGINT NOT NULL,
  by           TEXT NOT NULL
);
CREATE UNIQUE INDEX monitor_alert_open ON monitor_alert (subject, kind) WHERE cleared = 0;
CREATE INDEX monitor_alert_cleared ON monitor_alert (subject, kind, cleared);
CREATE INDEX monitor_alert_device ON monitor_alert (device, number);
-- Quantities over time: the mean of the step (seconds) that begins at (Unix
-- time in seconds).
CREATE TABLE monitor_sample (
  step  BIGINT NOT NULL,
  name  TEXT NOT NULL,
  at    BIGINT NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (step, name, at)
) WITHOUT ROWID;
CREATE INDEX monitor_sample_at ON monitor_sample (step, at);
