-- What hub/verifier keeps. Digests are in hexadecimal; times are microseconds
-- of Unix time.
CREATE TABLE verifier_reference (
	grp     TEXT   NOT NULL,
	pcr     BIGINT NOT NULL,
	digest  TEXT   NOT NULL,
	kind    TEXT   NOT NULL,
	name    TEXT   NOT NULL,
	version TEXT   NOT NULL,
	PRIMARY KEY (grp, pcr, digest)
);

-- What must not go back, for each attestation key: appraise.State as JSON.
CREATE TABLE verifier_memory (
	device  TEXT   NOT NULL,
	ak      TEXT   NOT NULL,
	version BIGINT NOT NULL,
	state   TEXT   NOT NULL,
	PRIMARY KEY (device, ak)
);

-- The last appraisals of each device.
CREATE TABLE verifier_appraisal (
	device TEXT   NOT NULL,
	number BIGINT NOT NULL,
	ak     TEXT   NOT NULL,
	step   TEXT   NOT NULL,
	result TEXT   NOT NULL,
	facts  TEXT   NOT NULL,
	PRIMARY KEY (device, number)
);

-- Keys that an AK certified lately.
CREATE TABLE verifier_key (
	device       TEXT   NOT NULL,
	key          TEXT   NOT NULL,
	certified_at BIGINT NOT NULL,
	PRIMARY KEY (device, key)
);
