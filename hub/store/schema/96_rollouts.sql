-- What hub/rollouts keeps. Times are Unix time in nanoseconds, zero for none.
CREATE TABLE rollout (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of their starts
  id      TEXT NOT NULL UNIQUE,
  product TEXT NOT NULL,
  stage   TEXT NOT NULL,
  doc     TEXT NOT NULL -- rollout.Rollout, JSON
);
CREATE INDEX rollout_stage ON rollout (stage);
CREATE TABLE rollout_device (
  rollout BIGINT NOT NULL, -- rollout.seq
  device  TEXT   NOT NULL,
  grp     TEXT   NOT NULL,
  place   BIGINT NOT NULL, -- in the order of the rollout
  state   TEXT   NOT NULL,
  cause   TEXT   NOT NULL,
  reason  TEXT   NOT NULL,
  attempt BIGINT NOT NULL,
  step    TEXT   NOT NULL,
  bytes   BIGINT NOT NULL,
  length  BIGINT NOT NULL,
  offered BIGINT NOT NULL,
  heard   BIGINT NOT NULL,
  changed BIGINT NOT NULL,
  due     BIGINT NOT NULL,
  tried   BIGINT NOT NULL,
  told    BIGINT NOT NULL,
  PRIMARY KEY (rollout, device)
) WITHOUT ROWID;
CREATE INDEX rollout_device_device ON rollout_device (device, rollout);
CREATE INDEX rollout_device_turn ON rollout_device (rollout, place, tried) WHERE state = 'waiting';
CREATE INDEX rollout_device_due ON rollout_device (rollout, due) WHERE due > 0;
CREATE INDEX rollout_device_told ON rollout_device (rollout, told) WHERE state IN ('offered', 'updating', 'committed');
-- How many devices are in a state, for a cause, and when one last came into it
-- or left it. It is written with the devices.
CREATE TABLE rollout_count (
  rollout BIGINT NOT NULL,
  state   TEXT   NOT NULL,
  cause   TEXT   NOT NULL,
  devices BIGINT NOT NULL,
  last    BIGINT NOT NULL,
  PRIMARY KEY (rollout, state, cause)
) WITHOUT ROWID;
-- What the ledger has to be told.
CREATE TABLE rollout_event (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  kind    TEXT NOT NULL,
  device  TEXT NOT NULL,
  details TEXT NOT NULL
);
