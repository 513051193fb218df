-- What a call would have cost by our own price, where the provider stated the money: beside cost_nano, which is what
-- the provider said. And which of several services at different prices it says that it gave.
ALTER TABLE calls ADD COLUMN own_cost_nano INTEGER;
ALTER TABLE calls ADD COLUMN own_price_id INTEGER;
ALTER TABLE calls ADD COLUMN service_tier_id INTEGER;  -- a name; NULL: the standard one, or not told

-- Costs that were worked out anew: one row a run. One that was interrupted goes on after `last_call_id`.
CREATE TABLE repricings (
    id INTEGER PRIMARY KEY,
    since_at INTEGER NOT NULL,
    until_at INTEGER,                    -- NULL: until now
    model_pattern TEXT NOT NULL,         -- '': every model
    last_call_id INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;

-- The old figure of each call that such a run changed, and the new one; NULL: unpriced.
CREATE TABLE repriced_calls (
    call_id INTEGER NOT NULL,
    repricing_id INTEGER NOT NULL REFERENCES repricings (id),
    old_cost_nano INTEGER,
    old_price_id INTEGER,
    new_cost_nano INTEGER,
    new_price_id INTEGER,
    stated INTEGER NOT NULL,             -- our own figure changed; what the provider stated stays
    PRIMARY KEY (call_id, repricing_id)
) STRICT, WITHOUT ROWID;
