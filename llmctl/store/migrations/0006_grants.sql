-- What a limit allows more for a time, to one member or (0) to all.
CREATE TABLE grants (
    id INTEGER PRIMARY KEY,
    limit_id INTEGER NOT NULL REFERENCES limits (id) ON DELETE CASCADE,
    member_id INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    until_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_limit ON grants (limit_id);
