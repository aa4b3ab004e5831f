-- Who may ask (hub/accounts). Secrets are kept as their SHA-256 in hexadecimal;
-- times are nanoseconds of Unix time, 0: never. Documents are JSON.
CREATE TABLE account (
  name      TEXT PRIMARY KEY,
  lower     TEXT NOT NULL UNIQUE, -- name in lower case
  handle    TEXT NOT NULL UNIQUE, -- what passkeys call it, hexadecimal
  subject   TEXT UNIQUE,          -- what a provider calls it; NULL: none, or revoked
  last_seen BIGINT NOT NULL,
  doc       TEXT NOT NULL
);
CREATE TABLE account_passkey (
  id      TEXT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (name),
  doc     TEXT NOT NULL
);
CREATE INDEX account_passkey_account ON account_passkey (account);
CREATE TABLE account_link (
  hash    TEXT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (name),
  expires BIGINT NOT NULL,
  used    BIGINT NOT NULL
);
CREATE INDEX account_link_account ON account_link (account);
CREATE TABLE account_session (
  id      TEXT PRIMARY KEY,
  hash    TEXT NOT NULL UNIQUE,
  account TEXT NOT NULL REFERENCES account (name),
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  ended   BIGINT NOT NULL,
  doc     TEXT NOT NULL
);
CREATE INDEX account_session_account ON account_session (account);
CREATE TABLE account_token (
  id      TEXT PRIMARY KEY,
  hash    TEXT NOT NULL UNIQUE,
  account TEXT NOT NULL REFERENCES account (name),
  created BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  doc     TEXT NOT NULL
);
CREATE INDEX account_token_account ON account_token (account);
