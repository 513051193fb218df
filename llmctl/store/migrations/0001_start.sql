-- Times are unix seconds unless a name ends in _ms. Money is nano-USD. Removed rows stay: history needs their names.

CREATE TABLE settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    settings_version INTEGER NOT NULL,   -- bumped by every change that the daemon must see before its next call
    prices_version INTEGER NOT NULL,     -- the same for prices only
    timezone TEXT NOT NULL               -- the zone that balances were last computed in
) STRICT;
INSERT INTO settings VALUES (1, 1, 1, 'UTC');

CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,
    parent_id INTEGER REFERENCES groups (id),
    timezone TEXT,                       -- NULL: inherited
    created_at INTEGER NOT NULL,
    disabled_at INTEGER,
    removed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX groups_name ON groups (name) WHERE removed_at IS NULL;

CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,
    group_id INTEGER REFERENCES groups (id),
    email TEXT,
    created_at INTEGER NOT NULL,
    disabled_at INTEGER,
    removed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX users_name ON users (name) WHERE removed_at IS NULL;
CREATE INDEX users_group ON users (group_id) WHERE removed_at IS NULL;

CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,      -- k_7Q2M: what people write instead of a secret
    user_id INTEGER NOT NULL REFERENCES users (id),
    name TEXT NOT NULL COLLATE NOCASE,
    acts_for_end_users INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE UNIQUE INDEX keys_name ON keys (user_id, name) WHERE revoked_at IS NULL;

-- A key has one current secret and, while a rotation's grace lasts, older ones. Only hashes are kept.
CREATE TABLE secrets (
    hash BLOB PRIMARY KEY,               -- SHA-256 of the secret: 256 random bits need no slow hash
    key_id INTEGER NOT NULL REFERENCES keys (id),
    prefix TEXT NOT NULL,                -- the first characters, to recognise a leaked secret by
    created_at INTEGER NOT NULL,
    expires_at INTEGER                   -- end of the grace after a rotation
) STRICT, WITHOUT ROWID;
CREATE INDEX secrets_key ON secrets (key_id);

CREATE TABLE model_rules (
    id INTEGER PRIMARY KEY,
    principal TEXT NOT NULL CHECK (principal IN ('org', 'group', 'user', 'key')),
    principal_id INTEGER NOT NULL,       -- 0 for the organisation
    effect TEXT NOT NULL CHECK (effect IN ('allow', 'deny')),
    pattern TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (principal, principal_id, pattern)
) STRICT;

CREATE TABLE limits (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- shown as l3; never given out twice
    principal TEXT NOT NULL CHECK (principal IN ('org', 'group', 'user', 'key')),
    principal_id INTEGER NOT NULL,
    each TEXT NOT NULL DEFAULT '' CHECK (each IN ('', 'user', 'end_user')),
    measure TEXT NOT NULL CHECK (measure IN ('cost', 'tokens', 'requests', 'concurrency')),
    window TEXT NOT NULL CHECK (window IN ('minute', 'hour', 'day', 'week', 'month', 'total')),
    model_pattern TEXT NOT NULL DEFAULT '',
    amount INTEGER NOT NULL CHECK (amount >= 0),
    soft INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    UNIQUE (principal, principal_id, each, measure, window, model_pattern)
) STRICT;

-- A cache over calls and roll-ups: created on first use, deleted when a limit, zone or tree changes.
CREATE TABLE balances (
    limit_id INTEGER NOT NULL,
    member_id INTEGER NOT NULL,          -- the user of an --each limit, else 0
    window_start INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (limit_id, member_id, window_start)
) STRICT, WITHOUT ROWID;

-- Strings that repeat with every call, kept once.
CREATE TABLE lineages (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE            -- group ids from the root: /1/4/
) STRICT;
CREATE TABLE lineage_groups (
    lineage_id INTEGER NOT NULL REFERENCES lineages (id),
    group_id INTEGER NOT NULL REFERENCES groups (id),
    PRIMARY KEY (group_id, lineage_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,                 -- upstream model
    UNIQUE (provider, model)
) STRICT;
CREATE TABLE endpoints (
    id INTEGER PRIMARY KEY,
    dialect TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    UNIQUE (dialect, endpoint)
) STRICT;
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE            -- request and response models, end users, error codes
) STRICT;
CREATE TABLE usage_shapes (
    id INTEGER PRIMARY KEY,
    shape TEXT NOT NULL UNIQUE           -- a provider's usage object with its numbers taken out
) STRICT;

CREATE TABLE calls (
    id INTEGER PRIMARY KEY,              -- rises with time, unique over workers: see store/ids.py
    started_at_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'settled', 'released', 'refused')),
    owner INTEGER,                       -- the process that has the call open
    lineage_id INTEGER NOT NULL REFERENCES lineages (id),
    user_id INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    end_user_id INTEGER NOT NULL DEFAULT 0,
    model_id INTEGER NOT NULL,           -- 0: refused before a route was found
    endpoint_id INTEGER NOT NULL,
    request_model_id INTEGER NOT NULL,
    response_model_id INTEGER,
    stream INTEGER NOT NULL,
    status INTEGER,                      -- HTTP status that the client got
    error_id INTEGER,
    held_nano INTEGER NOT NULL,          -- the worst case that was held; kept, so that `why` can explain
    held_input_tokens INTEGER NOT NULL,
    held_output_tokens INTEGER NOT NULL,
    usage_source TEXT CHECK (usage_source IN ('reported', 'estimated')),
    input_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0,
    input_audio_tokens INTEGER NOT NULL DEFAULT 0,
    input_image_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    output_audio_tokens INTEGER NOT NULL DEFAULT 0,
    output_image_tokens INTEGER NOT NULL DEFAULT 0,
    web_search_calls INTEGER NOT NULL DEFAULT 0,
    file_search_calls INTEGER NOT NULL DEFAULT 0,
    code_interpreter_calls INTEGER NOT NULL DEFAULT 0,
    image_generation_calls INTEGER NOT NULL DEFAULT 0,
    cost_nano INTEGER,                   -- NULL: unpriced
    price_id INTEGER,                    -- NULL with a cost: the provider stated it
    usage_shape_id INTEGER,              -- with usage_values: the provider's usage object, byte for byte
    usage_values TEXT,
    latency_ms INTEGER,
    ttft_ms INTEGER
) STRICT;
CREATE INDEX calls_open ON calls (owner) WHERE state = 'open';

CREATE TABLE refusal_counts (             -- refusals beyond the first ones per key, code and minute
    minute INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    error_id INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (minute, key_id, error_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollups (
    bucket INTEGER NOT NULL,             -- unix seconds / 900
    lineage_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
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
    PRIMARY KEY (bucket, lineage_id, user_id, key_id, model_id, end_user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollups_user ON rollups (user_id, bucket);

-- Price history: rows are never changed, a newer one supersedes (see store/prices.py).
CREATE TABLE prices (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,              -- a provider's name or its catalogue's; '*' = any
    model TEXT NOT NULL,                 -- name for people; for an admin's price also the pattern
    match TEXT NOT NULL,                 -- JSON clause that says which upstream models it is for
    source TEXT NOT NULL,                -- admin, catalogue, sandbox
    effective_from INTEGER NOT NULL,     -- 0: always
    terms TEXT NOT NULL,                 -- JSON: nano-USD per million units by meter, steps, service tiers
    context_tokens INTEGER,
    output_tokens_max INTEGER,
    position INTEGER NOT NULL DEFAULT 0, -- of two that match a model, the lower wins; one model's dates share it
    created_at INTEGER NOT NULL,
    superseded_at INTEGER                -- no longer used for new calls; kept for those it priced
) STRICT;
CREATE INDEX prices_provider ON prices (provider) WHERE superseded_at IS NULL;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,                 -- the system user, and who they were before sudo
    action TEXT NOT NULL,                -- "user add", "limit set"
    subject TEXT NOT NULL,               -- names as they were
    before TEXT,
    after TEXT
) STRICT;
