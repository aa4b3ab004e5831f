-- What the stream of events still has to take (iothub.Message as JSON).
CREATE TABLE outbox (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  doc    TEXT NOT NULL
);
