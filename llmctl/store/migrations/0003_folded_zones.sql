-- Summaries know whose midnights they end at, so that a time zone that comes into use has them made anew.

-- `folded_zones`: with commas between.
ALTER TABLE settings ADD COLUMN folded_zones TEXT NOT NULL DEFAULT '';
UPDATE settings SET folded_bucket = -1;

-- Both repeat the roll-ups: the daemon fills them again.
DROP TABLE summaries;
DROP TABLE spans;

CREATE TABLE spans (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- of two, the later one is the higher: see fold.py
    kind TEXT NOT NULL CHECK (kind IN ('day', 'month')),
    first INTEGER NOT NULL,              -- bucket; days and months of every zone in use, so none crosses a midnight
    end INTEGER NOT NULL,                -- bucket, exclusive
    UNIQUE (kind, first)
) STRICT;

CREATE TABLE summaries (
    span_id INTEGER NOT NULL,            -- no span of this id: left over, and read by nobody
    user_id INTEGER NOT NULL,
    lineage_id INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    model_id INTEGER NOT NULL,
    end_user_id INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    estimated_calls INTEGER NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_nano INTEGER NOT NULL,
    PRIMARY KEY (span_id, user_id, lineage_id, key_id, model_id, end_user_id)
) STRICT, WITHOUT ROWID;
