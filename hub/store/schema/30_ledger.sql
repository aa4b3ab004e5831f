-- The ledger (package ledger): rows are added and never changed. time is in
-- nanoseconds since 1970, details the canonical JSON or nothing.
CREATE TABLE ledger (
    seq     INTEGER PRIMARY KEY,
    time    INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    device  TEXT NOT NULL,
    grp     TEXT NOT NULL,
    actor   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    details TEXT NOT NULL,
    prev    BLOB NOT NULL,
    hash    BLOB NOT NULL
);
