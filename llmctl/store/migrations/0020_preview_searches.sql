ALTER TABLE calls ADD COLUMN web_search_preview_calls INTEGER NOT NULL DEFAULT 0;  -- no part of web_search_calls
