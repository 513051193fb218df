-- A limit on models counts their calls under other spellings too by now (openrouter/openai/gpt-5, us.amazon.nova-pro):
-- the next hold computes its balances anew. Not those of a minute, of which none may be missing: they are over before
-- long.
DELETE FROM balances WHERE limit_id IN (SELECT id FROM limits WHERE model_pattern <> '' AND window <> 'minute');
