-- An append without a subtransaction and without a trigger: what repeats
-- collides with itself, which the caller looks into (brain_io.c), and the digest
-- is made on the way in.

DROP TRIGGER event_digest ON brain.event;
DROP FUNCTION brain.event_digest();

CREATE OR REPLACE FUNCTION brain.event_append(
    p_tenant text, p_session text, p_fence bigint,
    p_ids text[], p_types text[], p_bodies text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
    n integer := cardinality(p_ids);
    n_steps integer := 0;
    u record;
BEGIN
    IF p_types && ARRAY['span.model_request_end', 'agent.tool_result',
                        'session.status_idle', 'span.model_request_start',
                        'agent.tool_use'] THEN
        SELECT * INTO u FROM brain.usage_of(p_types, p_bodies);
        SELECT count(*) INTO n_steps FROM unnest(p_types) t
            WHERE t IN ('span.model_request_start', 'agent.tool_use');
        UPDATE brain.session s SET next_seq = next_seq + n, updated_at = now(),
            input_tokens = input_tokens + coalesce(u.input, 0),
            output_tokens = output_tokens + coalesce(u.output, 0),
            cache_read_tokens = cache_read_tokens + coalesce(u.cache_read, 0),
            cache_write_tokens = cache_write_tokens
                + coalesce(u.cache_write, 0),
            reasoning_tokens = reasoning_tokens + coalesce(u.reasoning, 0),
            cost_nano_usd = cost_nano_usd + coalesce(u.cost, 0),
            unpriced_calls = unpriced_calls + u.unpriced,
            sandbox_ms = sandbox_ms + coalesce(u.sandbox, 0),
            steps = steps + n_steps,
            budget_asked = budget_asked | coalesce(u.asked, 0)
            WHERE id = p_session RETURNING next_seq - n INTO first;
    ELSE
        UPDATE brain.session SET next_seq = next_seq + n, updated_at = now()
            WHERE id = p_session RETURNING next_seq - n INTO first;
    END IF;
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
    INSERT INTO brain.event (tenant, session_id, seq, id, type, body, digest)
        SELECT p_tenant, p_session, first + e.ord - 1, e.id, e.type,
               e.body::json, sha256(convert_to(e.body, 'UTF8'))
        FROM unnest(p_ids, p_types, p_bodies) WITH ORDINALITY
             AS e (id, type, body, ord);
    RETURN first;
END $$;
