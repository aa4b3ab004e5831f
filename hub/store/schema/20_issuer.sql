-- What hub/issuer issued. Times are seconds of Unix time; keys are SHA-256 of
-- the SubjectPublicKeyInfo in hexadecimal.
CREATE TABLE certificates (
	serial     TEXT   PRIMARY KEY,
	class      TEXT   NOT NULL,
	name       TEXT   NOT NULL,
	key        TEXT   NOT NULL,
	not_before BIGINT NOT NULL,
	not_after  BIGINT NOT NULL,
	der        BLOB   NOT NULL,
	issued_at  BIGINT NOT NULL,
	revoked_at BIGINT,
	reason     INTEGER
);
CREATE INDEX certificates_by_name ON certificates (name, class);
CREATE INDEX certificates_revoked ON certificates (class, not_after) WHERE revoked_at IS NOT NULL;

-- Every public key that was ever seen in the fleet, and whose it was first.
CREATE TABLE keys_seen (
	key     TEXT   PRIMARY KEY,
	owner   TEXT   NOT NULL,
	kind    TEXT   NOT NULL,
	seen_at BIGINT NOT NULL
);

CREATE TABLE crl_numbers (
	class  TEXT   PRIMARY KEY,
	number BIGINT NOT NULL
);
