-- The other uses of vectors: recommendations, diversity, classification, and clusterings with their labels.

-- What uses of vectors are computed with. Where a body is parsed when it is made (BEGIN ATOMIC, RETURN), the extension's types
-- and operators are bound then: callers with any search path get the same. Plpgsql binds late and therefore calls these.

CREATE FUNCTION embedq.cosine_distance(one vector, other vector)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN one <=> other;
COMMENT ON FUNCTION embedq.cosine_distance(vector, vector) IS 'The operator <=>, by a name that any search path finds. The planner puts the operator in its place.';

CREATE FUNCTION embedq.cosine_distance(one halfvec, other halfvec)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN one <=> other;
COMMENT ON FUNCTION embedq.cosine_distance(halfvec, halfvec) IS 'The operator <=>, by a name that any search path finds. The planner puts the operator in its place.';

CREATE FUNCTION embedq.unit_vector(given vector)
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN l2_normalize(given);
COMMENT ON FUNCTION embedq.unit_vector(vector) IS 'The vector of length 1 in the same direction.';

CREATE FUNCTION embedq.unit_vector(given halfvec)
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN l2_normalize(given::vector);
COMMENT ON FUNCTION embedq.unit_vector(halfvec) IS 'The vector of length 1 in the same direction, in single precision.';

CREATE FUNCTION embedq.cosine_distances(vectors vector[], other vector)
RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT array_agg(each.value <=> other ORDER BY each.number)
    FROM unnest(vectors) WITH ORDINALITY AS each (value, number);
END;
COMMENT ON FUNCTION embedq.cosine_distances IS 'The distance of each vector to another one.';

CREATE FUNCTION embedq.mean_direction(vectors vector[])
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT l2_normalize(avg(l2_normalize(each.value))) FROM unnest(vectors) AS each (value);
END;
COMMENT ON FUNCTION embedq.mean_direction IS 'Where vectors point to on average, each with the same weight, as a vector of length 1. Null for none.';

CREATE FUNCTION embedq.rocchio(liked vector[], disliked vector[], disliked_weight double precision)
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH mean AS (
        SELECT (SELECT avg(l2_normalize(each.value)) FROM unnest(liked) AS each (value)) AS liked,
               (SELECT avg(l2_normalize(each.value)) FROM unnest(disliked) AS each (value)) AS disliked
    )
    SELECT l2_normalize(CASE
        WHEN mean.disliked IS NULL THEN mean.liked
        -- No operator multiplies by a number.
        ELSE mean.liked - mean.disliked * array_fill(disliked_weight::real, ARRAY[vector_dims(mean.disliked)])::vector
    END)
    FROM mean;
END;
COMMENT ON FUNCTION embedq.rocchio IS 'The mean of liked vectors minus a weight of the mean of disliked ones, as a vector of length 1 (Rocchio 1971, without a first query). Null without a liked one.';

CREATE FUNCTION embedq.diversity(vectors vector[])
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- Of n unit vectors with the mean m, all products of two add up to n²·|m|², of which n are those of a vector with itself.
    SELECT CASE WHEN count(*) > 1 THEN
        greatest(0, 1 - (count(*) * power(vector_norm(avg(l2_normalize(each.value))), 2) - 1) / (count(*) - 1)) END
    FROM unnest(vectors) AS each (value);
END;
COMMENT ON FUNCTION embedq.diversity IS 'The mean cosine distance of all pairs of vectors, exact, in one pass. Null for fewer than two.';

CREATE FUNCTION embedq.mmr(query vector, candidates vector[], k integer, lambda double precision DEFAULT 0.5)
RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    to_query double precision[] := embedq.cosine_distances(candidates, query);
    to_picks double precision[];  -- of each candidate to the nearest pick; null before the first
    picks integer[] := '{}';
    pick integer;
BEGIN
    IF lambda IS NULL OR lambda NOT BETWEEN 0 AND 1 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('lambda is %s', coalesce(lambda::text, 'null')),
            HINT = 'Give a number from 0 (as different as can be) to 1 (as near as can be).';
    END IF;
    WHILE cardinality(picks) < least(k, cardinality(candidates)) LOOP
        SELECT each.number INTO pick
        FROM unnest(to_query, to_picks) WITH ORDINALITY AS each (to_query, to_picks, number)
        WHERE each.number <> ALL (picks)
        ORDER BY lambda * (1 - each.to_query) - (1 - lambda) * (1 - coalesce(each.to_picks, 1)) DESC, each.number
        LIMIT 1;
        picks := picks || pick;
        SELECT array_agg(least(each.before, each.to_pick) ORDER BY each.number) INTO to_picks
        FROM unnest(to_picks, embedq.cosine_distances(candidates, candidates[pick]))
            WITH ORDINALITY AS each (before, to_pick, number);
    END LOOP;
    RETURN picks;
END
$$;
COMMENT ON FUNCTION embedq.mmr IS 'Picks k candidates, by number, one after the other: each time the one with the most lambda · similarity to the query − (1 − lambda) · similarity to the nearest pick (maximal marginal relevance; Carbonell and Goldstein 1998). Similarity is 1 − cosine distance.';

CREATE FUNCTION embedq.nearest_centroids(direction vector, centroids vector[], k integer DEFAULT 1)
RETURNS TABLE (cluster integer, distance double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT each.number::integer, each.centroid <=> direction
    FROM unnest(centroids) WITH ORDINALITY AS each (centroid, number)
    ORDER BY each.centroid <=> direction, each.number
    LIMIT k;
END;
COMMENT ON FUNCTION embedq.nearest_centroids IS 'The k nearest of some centroids, by number, nearest first.';

CREATE FUNCTION embedq.mean_directions(vectors vector[], clusters integer[])
RETURNS TABLE (cluster integer, centroid vector)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT each.cluster, l2_normalize(avg(l2_normalize(each.value)))
    FROM unnest(vectors, clusters) AS each (value, cluster)
    GROUP BY each.cluster;
END;
COMMENT ON FUNCTION embedq.mean_directions IS 'The mean direction of the vectors of each cluster.';

CREATE FUNCTION embedq.kmeans_seeds(vectors vector[], k integer, seed bigint, OUT seeds vector[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    distances double precision[];  -- of each vector to the nearest seed
    picked integer;
    share double precision;  -- from 0 to 1, made of the seed: the session's random() is left as it is
BEGIN
    FOR round IN 1..least(k, coalesce(cardinality(vectors), 0)) LOOP
        share := (hashint8extended(round, seed) & 4503599627370495) / 4503599627370496.0;
        IF round = 1 THEN
            picked := 1 + floor(share * cardinality(vectors));
        ELSE
            SELECT each.number INTO picked
            FROM (SELECT number, distance, sum(distance) OVER (ORDER BY number) AS upto, sum(distance) OVER () AS total
                  FROM unnest(distances) WITH ORDINALITY AS one (distance, number)) AS each
            WHERE each.distance > 0 AND each.upto > share * each.total
            ORDER BY each.number
            LIMIT 1;
            EXIT WHEN NOT FOUND;  -- every vector equals a seed
        END IF;
        seeds := array_append(seeds, vectors[picked]);
        -- What is this near is the same, but for rounding; a vector of zeros has no distance (NaN).
        SELECT array_agg(least(each.before, CASE WHEN each.distance BETWEEN 1e-6 AND 3 THEN each.distance ELSE 0 END)
                         ORDER BY each.number) INTO distances
        FROM unnest(distances, embedq.cosine_distances(vectors, vectors[picked]))
            WITH ORDINALITY AS each (before, distance, number);
    END LOOP;
END
$$;
COMMENT ON FUNCTION embedq.kmeans_seeds IS 'k-means++ (Arthur and Vassilvitskii 2007): the first at random, each further one with a chance that grows with its distance to the nearest before it (on the unit sphere the cosine distance is half the squared one). Fewer than k where fewer vectors differ.';

CREATE FUNCTION embedq.kmeans(
    vectors vector[], k integer, seed bigint DEFAULT 0, iterations integer DEFAULT 50,
    OUT centroids vector[], OUT rounds integer
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    clusters integer[];
    before integer[];
    distances double precision[];
    vacant integer;
    furthest integer;
BEGIN
    IF k IS NULL OR k < 1 OR iterations IS NULL OR iterations < 1 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('%s clusters in %s iterations cannot be made',
                coalesce(k::text, 'null'), coalesce(iterations::text, 'null')),
            HINT = 'Both are 1 at least.';
    END IF;
    rounds := 0;
    centroids := embedq.kmeans_seeds(vectors, k, seed);
    WHILE rounds < iterations AND cardinality(vectors) > 0 LOOP
        before := clusters;
        SELECT array_agg(near.cluster ORDER BY each.number), array_agg(near.distance ORDER BY each.number)
        INTO clusters, distances
        FROM unnest(vectors) WITH ORDINALITY AS each (value, number)
        CROSS JOIN LATERAL embedq.nearest_centroids(each.value, centroids) AS near;
        EXIT WHEN clusters = before;
        rounds := rounds + 1;
        FOR vacant IN SELECT n FROM generate_series(1, cardinality(centroids)) AS n WHERE n <> ALL (clusters) LOOP
            -- A cluster that lost its last member starts again with the vector that fits worst where it is.
            SELECT each.number INTO furthest FROM unnest(distances) WITH ORDINALITY AS each (distance, number)
            ORDER BY each.distance DESC, each.number LIMIT 1;
            clusters[furthest] := vacant;
            distances[furthest] := 0;
        END LOOP;
        SELECT array_agg(mean.centroid ORDER BY mean.cluster) INTO centroids
        FROM embedq.mean_directions(vectors, clusters) AS mean;
    END LOOP;
END
$$;
COMMENT ON FUNCTION embedq.kmeans IS 'Spherical k-means (Dhillon and Modha 2001): centroids of length 1 by cosine distance, and how many rounds it took until no vector changed its cluster, iterations at most. The same for the same vectors in the same order, k and seed.';

CREATE TABLE embedq.clustering (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL REFERENCES embedq.collection ON DELETE CASCADE,
    name text NOT NULL CHECK (name <> ''),
    generation integer NOT NULL,
    k integer NOT NULL,
    seed bigint NOT NULL,
    sample integer NOT NULL,
    rounds integer NOT NULL,
    made_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (collection_id, name)
);
COMMENT ON TABLE embedq.clustering IS 'Clusterings of collections, by name. They go with their collection.';
COMMENT ON COLUMN embedq.clustering.collection_id IS 'embedq.collection.id.';
COMMENT ON COLUMN embedq.clustering.name IS 'A collection may have several.';
COMMENT ON COLUMN embedq.clustering.generation IS 'embedq.collection.generation when it was made: of another, its centroids mean nothing.';
COMMENT ON COLUMN embedq.clustering.k IS 'How many clusters were asked for.';
COMMENT ON COLUMN embedq.clustering.seed IS 'What chance was made of: the same rows and seed give the same clusters.';
COMMENT ON COLUMN embedq.clustering.sample IS 'How many rows the centroids were made from at most.';
COMMENT ON COLUMN embedq.clustering.rounds IS 'Rounds that it took.';
COMMENT ON COLUMN embedq.clustering.made_at IS 'When the centroids were made.';
COMMENT ON COLUMN embedq.clustering.updated_at IS 'When rows were labelled last.';

CREATE TABLE embedq.cluster (
    clustering_id integer NOT NULL REFERENCES embedq.clustering ON DELETE CASCADE,
    cluster integer NOT NULL,
    size bigint NOT NULL,
    distance double precision,
    centroid vector NOT NULL,
    PRIMARY KEY (clustering_id, cluster)
);
COMMENT ON TABLE embedq.cluster IS 'The clusters of each clustering.';
COMMENT ON COLUMN embedq.cluster.clustering_id IS 'embedq.clustering.id.';
COMMENT ON COLUMN embedq.cluster.cluster IS 'Its number, from 1.';
COMMENT ON COLUMN embedq.cluster.size IS 'Its members when rows were labelled last.';
COMMENT ON COLUMN embedq.cluster.distance IS 'Their mean cosine distance to the centroid; null without a member.';
COMMENT ON COLUMN embedq.cluster.centroid IS 'Where its members point to on average; of length 1.';

CREATE TABLE embedq.cluster_member (
    clustering_id integer NOT NULL REFERENCES embedq.clustering ON DELETE CASCADE,
    id text COLLATE "C" NOT NULL,
    chunk integer NOT NULL,
    cluster integer NOT NULL,
    distance double precision NOT NULL,
    version bigint,
    PRIMARY KEY (clustering_id, id, chunk)
);
CREATE INDEX cluster_member_cluster_idx ON embedq.cluster_member (clustering_id, cluster, distance);
COMMENT ON TABLE embedq.cluster_member IS 'The label of each row, as of when rows were labelled last. Ids only: whoever may not read these should not read it.';
COMMENT ON COLUMN embedq.cluster_member.clustering_id IS 'embedq.clustering.id.';
COMMENT ON COLUMN embedq.cluster_member.id IS 'The item''s id.';
COMMENT ON COLUMN embedq.cluster_member.chunk IS 'Which part of its text.';
COMMENT ON COLUMN embedq.cluster_member.cluster IS 'embedq.cluster.cluster: the nearest.';
COMMENT ON COLUMN embedq.cluster_member.distance IS 'Cosine distance to its centroid.';
COMMENT ON COLUMN embedq.cluster_member.version IS 'The version that was labelled; null of an own table, whose rows say none.';

CREATE FUNCTION embedq.registered_collection(name text)
RETURNS embedq.collection
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection;
BEGIN
    SELECT c.* INTO registered FROM embedq.collection AS c WHERE c.name = registered_collection.name;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('there is no collection %L', name),
            HINT = 'SELECT name FROM embedq.collection lists them.';
    END IF;
    RETURN registered;
END
$$;
COMMENT ON FUNCTION embedq.registered_collection IS 'A collection''s entry in the registry, or an error that says that there is none.';

CREATE FUNCTION embedq.rows_query(registered embedq.collection)
RETURNS text
LANGUAGE sql STABLE
RETURN format(
    'SELECT stored.%I::text AS id, %s AS chunk, stored.%I AS embedding, %s AS version
     FROM %I.%I AS stored WHERE stored.%I IS NOT NULL%s',
    (registered).key_column, CASE WHEN (registered).is_managed THEN 'stored.chunk' ELSE '0' END, (registered).vector_column,
    CASE WHEN (registered).is_managed THEN 'stored.version' ELSE 'NULL::bigint' END,
    (registered).table_schema, (registered).table_name, (registered).vector_column,
    -- A vector of zeros, which embedq does not write, has no distance (NaN).
    CASE WHEN NOT (registered).is_managed THEN
        format(' AND embedq.cosine_distance(stored.%1$I, stored.%1$I) < ''NaN''', (registered).vector_column) END);
COMMENT ON FUNCTION embedq.rows_query IS 'The query for the rows of a collection: id, chunk, embedding, version.';

CREATE FUNCTION embedq.sample_vectors(collection text, size integer, seed bigint, OUT vectors vector[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    most integer := 1000000000 / (4 * registered.dimensions + 16);  -- an array holds 1 GB
BEGIN
    IF size IS NULL OR size NOT BETWEEN 1 AND most THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('a sample of %s vectors cannot be drawn', coalesce(size::text, 'null')),
            HINT = format('Of %s dimensions 1 to %s can.', registered.dimensions, most);
    END IF;
    EXECUTE format(
        'SELECT array_agg(embedq.unit_vector(drawn.embedding) ORDER BY drawn.draw, drawn.id COLLATE "C", drawn.chunk)
         FROM (SELECT live.*, hashtextextended(live.id || '' '' || live.chunk, $2) AS draw FROM (%s) AS live
               ORDER BY draw, live.id COLLATE "C", live.chunk LIMIT $1) AS drawn', embedq.rows_query(registered))
    INTO vectors USING size, seed;
END
$$;
COMMENT ON FUNCTION embedq.sample_vectors IS 'Vectors of a collection as vectors of length 1, chosen and ordered by a seed, the same for the same rows. Null if there are none.';

CREATE FUNCTION embedq.label_rows(registered embedq.collection, clustering_id integer, centroids vector[])
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    labelled bigint;
BEGIN
    EXECUTE format(
        'DELETE FROM embedq.cluster_member AS member
         WHERE member.clustering_id = $1
           AND NOT EXISTS (SELECT FROM (%s) AS live WHERE live.id = member.id AND live.chunk = member.chunk)',
        embedq.rows_query(registered)) USING clustering_id;
    EXECUTE format(
        'INSERT INTO embedq.cluster_member AS member (clustering_id, id, chunk, cluster, distance, version)
         SELECT $1, live.id, live.chunk, near.cluster, near.distance, live.version
         FROM (SELECT fresh.id, fresh.chunk, fresh.version, embedq.unit_vector(fresh.embedding) AS direction
               FROM (%s) AS fresh
               WHERE NOT EXISTS (SELECT FROM embedq.cluster_member AS old
                                 WHERE old.clustering_id = $1 AND old.id = fresh.id AND old.chunk = fresh.chunk
                                   AND old.version = fresh.version)
               OFFSET 0) AS live  -- not flattened: the vector is read and normalised once, not for each centroid
         CROSS JOIN LATERAL embedq.nearest_centroids(live.direction, $2) AS near
         ON CONFLICT ON CONSTRAINT cluster_member_pkey DO UPDATE
         SET cluster = excluded.cluster, distance = excluded.distance, version = excluded.version',
        embedq.rows_query(registered)) USING clustering_id, centroids;
    GET DIAGNOSTICS labelled = ROW_COUNT;
    UPDATE embedq.cluster AS c
    SET size = coalesce(counted.size, 0), distance = counted.distance
    FROM generate_series(1, cardinality(centroids)) AS n
    LEFT JOIN (SELECT member.cluster, count(*) AS size, avg(member.distance) AS distance
               FROM embedq.cluster_member AS member WHERE member.clustering_id = label_rows.clustering_id
               GROUP BY member.cluster) AS counted ON counted.cluster = n
    WHERE c.clustering_id = label_rows.clustering_id AND c.cluster = n;
    RETURN labelled;
END
$$;
COMMENT ON FUNCTION embedq.label_rows IS 'Gives rows without a label, or with one of another version, that of the nearest centroid, and takes away the labels of rows that are gone. How many it gave.';

CREATE FUNCTION embedq.make_clustering(
    collection text, name text, k integer, seed bigint DEFAULT 0, sample integer DEFAULT 10000, iterations integer DEFAULT 50
)
RETURNS TABLE (cluster integer, size bigint, distance double precision)
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    made record;
    made_id integer;
BEGIN
    SELECT trained.centroids, trained.rounds INTO made
    FROM embedq.kmeans(embedq.sample_vectors(collection, sample, seed), k, seed, iterations) AS trained;
    IF made.centroids IS NULL THEN
        RAISE no_data_found USING MESSAGE = format('collection %L has no rows to cluster', collection),
            HINT = 'Or none that row-level security lets you see.';
    END IF;
    -- Read again: now that its table is in use, no other model's vectors can take the place of these.
    registered := embedq.registered_collection(collection);
    INSERT INTO embedq.clustering AS c
        (collection_id, name, generation, k, seed, sample, rounds, made_at, updated_at)
    VALUES
        (registered.id, make_clustering.name, registered.generation, make_clustering.k, make_clustering.seed,
         make_clustering.sample, made.rounds, now(), now())
    ON CONFLICT ON CONSTRAINT clustering_collection_id_name_key DO UPDATE
    SET generation = excluded.generation, k = excluded.k, seed = excluded.seed, sample = excluded.sample,
        rounds = excluded.rounds, made_at = excluded.made_at, updated_at = excluded.updated_at
    RETURNING c.id INTO made_id;
    DELETE FROM embedq.cluster_member AS member WHERE member.clustering_id = made_id;
    DELETE FROM embedq.cluster AS old WHERE old.clustering_id = made_id;
    INSERT INTO embedq.cluster (clustering_id, cluster, size, centroid)
    SELECT made_id, each.number, 0, each.centroid
    FROM unnest(made.centroids) WITH ORDINALITY AS each (centroid, number);
    PERFORM embedq.label_rows(registered, made_id, made.centroids);
    RETURN QUERY
        SELECT c.cluster, c.size, c.distance FROM embedq.cluster AS c WHERE c.clustering_id = made_id ORDER BY c.cluster;
END
$$;
COMMENT ON FUNCTION embedq.make_clustering IS 'Clusters the rows of a collection by spherical k-means and labels every row, in place of an earlier clustering of that name, in the caller''s transaction. The centroids are made from a sample, the labels in one pass. Returns each cluster with its size and the mean distance of its members to the centroid.';

CREATE FUNCTION embedq.current_clustering(
    registered embedq.collection, name text, OUT clustering_id integer, OUT centroids vector[]
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
DECLARE
    chosen embedq.clustering;
BEGIN
    SELECT c.* INTO chosen FROM embedq.clustering AS c
    WHERE c.collection_id = registered.id AND c.name = current_clustering.name;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('collection %L has no clustering %L', registered.name, name),
            HINT = 'SELECT embedq.make_clustering(…) makes one; embedq.clustering lists them.';
    END IF;
    IF chosen.generation <> registered.generation THEN
        RAISE data_exception USING
            MESSAGE = format('clustering %L is of generation %s, collection %L holds generation %s (model %s)',
                name, chosen.generation, registered.name, registered.generation, registered.model),
            HINT = 'Make it again: its centroids and the vectors in the table come from different models.';
    END IF;
    clustering_id := chosen.id;
    SELECT array_agg(c.centroid ORDER BY c.cluster) INTO centroids FROM embedq.cluster AS c WHERE c.clustering_id = chosen.id;
END
$$;
COMMENT ON FUNCTION embedq.current_clustering IS 'A clustering''s id and centroids, or an error that says that there is none for the vectors of now.';

CREATE FUNCTION embedq.update_clustering(collection text, name text)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    chosen record;
BEGIN
    -- The lock first: of two at the same time the later sees what the earlier did.
    UPDATE embedq.clustering AS c SET updated_at = now()
    WHERE c.collection_id = registered.id AND c.name = update_clustering.name;
    SELECT current.* INTO chosen FROM embedq.current_clustering(registered, name) AS current;
    RETURN embedq.label_rows(registered, chosen.clustering_id, chosen.centroids);
END
$$;
COMMENT ON FUNCTION embedq.update_clustering IS 'Gives rows that are new, or were embedded anew, the label of the nearest centroid, and takes away the labels of rows that are gone; the centroids stay. How many rows it labelled: of an own table all.';

CREATE FUNCTION embedq.nearest_clusters(
    collection text, name text, query vector, k integer DEFAULT 1, generation integer DEFAULT NULL
)
RETURNS TABLE (cluster integer, distance double precision)
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    chosen record;
BEGIN
    PERFORM embedq.check_generation(registered.id, registered.generation, generation) WHERE generation IS NOT NULL;
    SELECT current.* INTO chosen FROM embedq.current_clustering(registered, name) AS current;
    RETURN QUERY SELECT near.cluster, near.distance FROM embedq.nearest_centroids(query, chosen.centroids, k) AS near;
END
$$;
COMMENT ON FUNCTION embedq.nearest_clusters IS 'The k clusters whose centroids are nearest to a vector, nearest first. With the vector''s generation, one of another model is refused.';

CREATE FUNCTION embedq.drop_clustering(collection text, name text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
BEGIN
    DELETE FROM embedq.clustering AS c WHERE c.collection_id = registered.id AND c.name = drop_clustering.name;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('collection %L has no clustering %L', collection, name),
            HINT = 'embedq.clustering lists them.';
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.drop_clustering IS 'Drops a clustering with its labels.';
