-- What admins were told or are to be told, once each; and to whom it still has to be delivered.
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,            -- names the crossing: the same one is never told again
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    facts TEXT NOT NULL                  -- JSON
) STRICT;
CREATE INDEX alerts_at ON alerts (at);

CREATE TABLE deliveries (
    alert_id INTEGER NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    receiver TEXT NOT NULL,              -- its name in the configuration
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER,                     -- NULL: delivered, or given up
    delivered_at INTEGER,
    error TEXT,                          -- of the last attempt that failed
    PRIMARY KEY (alert_id, receiver)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE next_at IS NOT NULL;
