-- The packet identifier that a message was last sent under: a session that goes
-- on gets it under the same (MQTT-4.4.0-1). Zero: it was not sent, or with
-- quality of service 0.
ALTER TABLE message ADD COLUMN packet INTEGER NOT NULL DEFAULT 0;
