-- name: unmade
-- Of these indexes in the schema, those that are not there, or that an interrupted CREATE INDEX has left invalid.
SELECT name FROM unnest(%(names)b::text[]) WITH ORDINALITY AS wanted (name, place)
 WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    WHERE c.relname = wanted.name AND c.relnamespace = 'cgk'::regnamespace AND i.indisvalid)
 ORDER BY place;
