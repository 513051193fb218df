-- Roll-ups summed over days and months, so that a report reads what it shows and not each quarter of an hour.
-- They repeat the roll-ups up to one place in them (`folded`); the daemon carries them on, and begins with what is old.

CREATE TABLE spans (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('day', 'month')),
    first INTEGER NOT NULL,              -- bucket; days and months of every zone in use, so none crosses a midnight
    end INTEGER NOT NULL,                -- bucket, exclusive
    UNIQUE (kind, first)
) STRICT;

CREATE TABLE summaries (
    span_id INTEGER NOT NULL REFERENCES spans (id),
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

-- `folded`: the last row of the roll-ups that the summaries hold, in the order of the roll-ups' primary key.
ALTER TABLE settings ADD COLUMN folded_bucket INTEGER NOT NULL DEFAULT -1;
ALTER TABLE settings ADD COLUMN folded_lineage_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE settings ADD COLUMN folded_user_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE settings ADD COLUMN folded_key_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE settings ADD COLUMN folded_model_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE settings ADD COLUMN folded_end_user_id INTEGER NOT NULL DEFAULT 0;

ALTER TABLE calls ADD COLUMN tags_id INTEGER;  -- a name: tags as their caller set them, joined by commas; NULL: none
