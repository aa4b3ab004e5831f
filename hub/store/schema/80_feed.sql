-- Hub (the security events of the stream). The number of the last record of
-- the ledger that is in the stream.
CREATE TABLE feed (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL
);
INSERT INTO feed (one, seq) VALUES (1, 0);
