-- A limit on each end user is rebuilt from that end user's calls alone, however many there are.
CREATE INDEX calls_by_end_user ON calls (end_user_id, id) WHERE end_user_id <> 0;
