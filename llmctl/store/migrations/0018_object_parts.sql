-- What is in a stored response, or was made for one, and can be referred to by an id of its own: items, containers,
-- spoken answers. Whose it is, and where it is kept, the object of the same call says.
CREATE TABLE object_parts (
    call_id INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (call_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX object_parts_by_id ON object_parts (id);
