-- A command looks its key or user up inside the transaction that calls wait for: also those that are gone.
CREATE INDEX users_by_name ON users (name);
CREATE INDEX keys_by_user ON keys (user_id);
CREATE INDEX secrets_by_prefix ON secrets (prefix);
