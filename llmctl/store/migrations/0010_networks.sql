-- From where a key, or the keys of a group and of those below it, may be used: "10.0.0.0/8, 192.0.2.7/32". NULL: anywhere.
ALTER TABLE keys ADD COLUMN allow_from TEXT;
ALTER TABLE groups ADD COLUMN allow_from TEXT;
