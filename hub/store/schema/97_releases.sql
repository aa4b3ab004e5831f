-- What hub/fleet has seen of published releases: since when each is there, and
-- whether the devices that it concerns were decided on since it changed.
CREATE TABLE fleet_release (
  product   TEXT   NOT NULL,
  place     BIGINT NOT NULL, -- in the order in which they are kept
  version   TEXT   NOT NULL,
  digest    TEXT   NOT NULL, -- as its image measures, hexadecimal
  since     BIGINT NOT NULL, -- Unix time in nanoseconds
  withdrawn BIGINT NOT NULL, -- likewise; 0: it is not
  gone      BIGINT NOT NULL, -- 1: it is not published any more
  settled   BIGINT NOT NULL, -- 1: acted on
  PRIMARY KEY (product, place)
);
