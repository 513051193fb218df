-- Which model a name of one's own is (azure/my-gpt5 is gpt-5), as the gateway that started or reloaded last has it in
-- its configuration: calls are kept by the name, limits on the model count them too. What is not here goes by its own
-- name, as do the calls of before until a gateway starts: then balances are counted anew, see store/deployments.py.
CREATE TABLE deployments (
    provider TEXT NOT NULL,
    name TEXT NOT NULL,                  -- in lower case
    model TEXT NOT NULL,
    PRIMARY KEY (provider, name)
) STRICT, WITHOUT ROWID;
