-- What a provider keeps for us and gives out by its id (a stored response): whose it is, and where it is kept.
-- One of a call at most; its id rises with time, so the old ones are a range.
CREATE TABLE objects (
    call_id INTEGER PRIMARY KEY,         -- the call that made it
    id TEXT NOT NULL,                    -- the provider's: resp_...
    user_id INTEGER NOT NULL,
    model_id INTEGER NOT NULL,           -- provider and upstream model
    credential_id INTEGER NOT NULL       -- a name: the fingerprint of the credential whose account keeps it
) STRICT;
CREATE INDEX objects_by_id ON objects (id, user_id);
