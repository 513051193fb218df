-- Calls of this key that are open and began before this moment are ended: `--now`.
ALTER TABLE keys ADD COLUMN cut_at_ms INTEGER;
CREATE INDEX keys_cut ON keys (cut_at_ms) WHERE cut_at_ms IS NOT NULL;
