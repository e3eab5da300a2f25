-- name: unmade
-- Of these indexes in the schema, those that are not there, or that an interrupted CREATE INDEX has left invalid. Not those
-- whose column is that of a later migration.
SELECT name FROM unnest(%(names)b::text[], %(needs)b::text[]) WITH ORDINALITY AS wanted (name, needs, place)
 WHERE EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass('cgk.runs') AND a.attname = wanted.needs)
   AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    WHERE c.relname = wanted.name AND c.relnamespace = 'cgk'::regnamespace AND i.indisvalid)
 ORDER BY place;

-- name: partitions_without
-- Of the history, those that lack this index, if there is such an index.
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = to_regclass('cgk.run_history') AND to_regclass(%(index)s) IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_inherits x JOIN pg_index p ON p.indexrelid = x.inhrelid
                    WHERE x.inhparent = to_regclass(%(index)s) AND p.indrelid = c.oid)
 ORDER BY 1;
