-- What a refused call was told, and the limits that were looked at: kept for those calls that have a row.
CREATE TABLE refusals (
    call_id INTEGER PRIMARY KEY,
    message TEXT NOT NULL,
    bound TEXT NOT NULL,                 -- the limit that refused it, l3; "" for another reason
    looked TEXT NOT NULL                 -- JSON, see domain/why.py
) STRICT;
