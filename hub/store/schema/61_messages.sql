-- Messages that wait for their device, in the order of their numbers, which
-- are never used twice. Times are Unix time in nanoseconds.
CREATE TABLE message (
  number     INTEGER PRIMARY KEY AUTOINCREMENT,
  device     TEXT NOT NULL,
  expires    BIGINT NOT NULL,
  deliveries INTEGER NOT NULL, -- how often it was sent
  doc        TEXT NOT NULL
);
CREATE INDEX message_device ON message (device, number);
CREATE INDEX message_expires ON message (expires);
