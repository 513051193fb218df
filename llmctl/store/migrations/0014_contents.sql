-- Since when the prompts and answers of a group, and of those below it, are kept; NULL: they are not.
ALTER TABLE groups ADD COLUMN keeps_content_since INTEGER;
