-- Of each device's document what the fleet page and dry-runs of policies ask of
-- all devices. It is written with the document; fleet fills in what is missing.
CREATE TABLE fleet_outline (
  id          TEXT   PRIMARY KEY,
  grp         TEXT   NOT NULL,
  release     TEXT   NOT NULL,
  flags       BIGINT NOT NULL,
  provisional BIGINT NOT NULL, -- Unix time in nanoseconds; 0: none
  seen        BIGINT NOT NULL, -- likewise
  marks       BLOB   NOT NULL  -- posture.Marks
);
