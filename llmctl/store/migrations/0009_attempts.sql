-- The call that this one is another attempt of: another credential, or what stands in for its model. NULL: the first.
ALTER TABLE calls ADD COLUMN attempt_of INTEGER;
CREATE INDEX calls_by_attempt ON calls (attempt_of) WHERE attempt_of IS NOT NULL;
