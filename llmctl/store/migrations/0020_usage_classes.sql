ALTER TABLE calls ADD COLUMN input_video_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN cache_read_audio_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN web_search_preview_calls INTEGER NOT NULL DEFAULT 0;  -- no part of web_search_calls
ALTER TABLE calls ADD COLUMN map_search_calls INTEGER NOT NULL DEFAULT 0;
-- Of the model behind a tool that makes images, where an answer says it: no part of input_tokens and output_tokens.
ALTER TABLE calls ADD COLUMN image_tool_text_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN image_tool_image_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN image_tool_output_tokens INTEGER NOT NULL DEFAULT 0;
