-- Reports of one tag read the calls that have it, and no others. Calls without tags are not in here.
CREATE INDEX calls_by_tags ON calls (tags_id, id) WHERE tags_id IS NOT NULL;
