-- What a session used is counted in the transaction that stores the span's end:
-- neither lost nor counted twice, whoever dies. `input_tokens` are those that no
-- cache knew; money is in nano-dollars (1e-9 USD).

ALTER TABLE brain.session
    ADD COLUMN cache_read_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN cache_write_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN reasoning_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN cost_nano_usd bigint NOT NULL DEFAULT 0;

CREATE FUNCTION brain.usage_count(p_session text, p_types text[],
                                  p_bodies text[]) RETURNS void
LANGUAGE sql AS $$
    UPDATE brain.session s SET
        input_tokens = input_tokens + u.input,
        output_tokens = output_tokens + u.output,
        cache_read_tokens = cache_read_tokens + u.cache_read,
        cache_write_tokens = cache_write_tokens + u.cache_write,
        reasoning_tokens = reasoning_tokens + u.reasoning,
        cost_nano_usd = cost_nano_usd + u.cost
    FROM (SELECT
        coalesce(sum((b #>> '{model_usage,input_tokens}')::bigint), 0) AS input,
        coalesce(sum((b #>> '{model_usage,output_tokens}')::bigint), 0)
            AS output,
        coalesce(sum((b #>> '{model_usage,cache_read_input_tokens}')::bigint),
                 0) AS cache_read,
        coalesce(sum(
            (b #>> '{model_usage,cache_creation_input_tokens}')::bigint), 0)
            AS cache_write,
        coalesce(sum((b #>> '{brainbox.model,reasoning_tokens}')::bigint), 0)
            AS reasoning,
        coalesce(sum((b #>> '{brainbox.model,cost_nano_usd}')::bigint), 0)
            AS cost
        FROM (SELECT e.body::json AS b FROM unnest(p_types, p_bodies)
              AS e (type, body) WHERE e.type = 'span.model_request_end') x) u
    WHERE s.id = p_session
$$;

CREATE OR REPLACE FUNCTION brain.event_append(
    p_tenant text, p_session text, p_fence bigint,
    p_ids text[], p_types text[], p_bodies text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
    n integer := cardinality(p_ids);
BEGIN
    UPDATE brain.session SET next_seq = next_seq + n, updated_at = now()
        WHERE id = p_session RETURNING next_seq - n INTO first;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no session "%"', p_session USING ERRCODE = 'BB003';
    END IF;
    IF p_fence > 0 THEN
        PERFORM 1 FROM brain.run
            WHERE session_id = p_session AND fence = p_fence;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the run''s lease was taken over'
                USING ERRCODE = 'BB005';
        END IF;
    END IF;
    INSERT INTO brain.event (tenant, session_id, seq, id, type, body)
        SELECT p_tenant, p_session, first + e.ord - 1, e.id, e.type,
               e.body::json
        FROM unnest(p_ids, p_types, p_bodies) WITH ORDINALITY
             AS e (id, type, body, ord);
    IF 'span.model_request_end' = ANY (p_types) THEN
        PERFORM brain.usage_count(p_session, p_types, p_bodies);
    END IF;
    RETURN first;
EXCEPTION WHEN unique_violation THEN
    -- The block's work is undone. Only the same ids can collide.
    SELECT seq INTO first FROM brain.event
        WHERE id = p_ids[1] AND session_id = p_session;
    IF NOT FOUND THEN
        RAISE;
    END IF;
    RETURN first;
END $$;

REVOKE ALL ON FUNCTION brain.usage_count(text, text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION brain.usage_count(text, text[], text[]) TO brain_run;
