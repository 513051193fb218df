ALTER TABLE keys ADD COLUMN note TEXT;   -- what it is for, in the admin's words

-- Where secrets are used from: written by the daemon a while after, so that a leaked or forgotten one is found.
CREATE TABLE sightings (
    hash BLOB NOT NULL REFERENCES secrets (hash),
    address TEXT NOT NULL,               -- of the client; "" where it is not known
    client TEXT NOT NULL,                -- the first word of its User-Agent
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (hash, address, client)
) STRICT, WITHOUT ROWID;
