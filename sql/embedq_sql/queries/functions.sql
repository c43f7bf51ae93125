-- The functions of a collection.

-- name: functions_named
-- The functions of these names in a schema: signature, name, whether embedq made them, and what changes when one is replaced.
SELECT format('%%I.%%I(%%s)', nspname, proname, pg_get_function_identity_arguments(pg_proc.oid)) AS signature,
       proname::text AS name,
       coalesce(obj_description(pg_proc.oid, 'pg_proc') LIKE 'embedq: %%', false) AS is_ours,
       pg_proc.ctid::text AS made_by
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname = %(schema)s AND proname = ANY (%(names)s)
ORDER BY signature;

-- name: searched_by
-- Which vectors search functions of collections order by: it depends on what pgvector makes shorter ones with. 'none' also where
-- there is no such function.
SELECT wanted.number, (
    SELECT CASE
               WHEN bool_or(called.proname = 'binary_quantize') THEN 'binary'
               WHEN bool_or(called.proname = 'vector_to_halfvec') THEN 'halfvec'
               ELSE 'none'
           END
    FROM pg_proc AS searching
    JOIN pg_namespace ON pg_namespace.oid = searching.pronamespace
    JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = searching.oid AND refclassid = 'pg_proc'::regclass
    JOIN pg_proc AS called ON called.oid = refobjid
    WHERE nspname = wanted.schema_name AND searching.proname = wanted.function_name
)
FROM unnest(%(schemas)s::text[], %(functions)s::text[]) WITH ORDINALITY AS wanted (schema_name, function_name, number)
ORDER BY wanted.number;

-- name: functions_path
-- The search path that the functions of collections use: pgvector's schema after Postgres' own.
SELECT 'pg_catalog, ' || quote_ident(nspname)
FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'vector';
