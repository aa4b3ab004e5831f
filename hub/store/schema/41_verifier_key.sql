-- Which AK certified a key: only the one of the device's latest birth counts.
ALTER TABLE verifier_key ADD COLUMN ak TEXT NOT NULL DEFAULT '';
