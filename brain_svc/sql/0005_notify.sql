-- Brains tell each other: of a user's event for a run that is held (its brain
-- may be another than the one that was called), and of a run that was given
-- back. A message to a session that nobody runs notifies no one: the brain that
-- was called claims it.

CREATE OR REPLACE FUNCTION brain.event_post(
    p_tenant text, p_session text,
    p_ids text[], p_types text[], p_bodies text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    s record;
    is_held boolean;
    first bigint;
BEGIN
    SELECT status, archived_at INTO s FROM brain.session
        WHERE id = p_session FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no session "%"', p_session USING ERRCODE = 'BB003';
    END IF;
    IF s.archived_at IS NOT NULL OR s.status = 'terminated' THEN
        RAISE EXCEPTION 'session "%" has ended: create a new one', p_session
            USING ERRCODE = 'BB006';
    END IF;
    FOR i IN 1 .. cardinality(p_types) LOOP
        IF p_types[i] IN ('user.custom_tool_result', 'user.tool_confirmation')
        THEN
            PERFORM brain.event_check_answer(p_session, p_types[i],
                                             p_bodies[i]::json);
            -- Two answers in one request.
            IF p_bodies[i]::json ->> 'custom_tool_use_id' = ANY (
                   SELECT b::json ->> 'custom_tool_use_id'
                   FROM unnest(p_bodies[:i - 1]) b)
               OR p_bodies[i]::json ->> 'tool_use_id' = ANY (
                   SELECT b::json ->> 'tool_use_id'
                   FROM unnest(p_bodies[:i - 1]) b) THEN
                RAISE EXCEPTION 'events[%]: a second answer to one call',
                    i - 1 USING ERRCODE = 'BB001';
            END IF;
        END IF;
    END LOOP;
    UPDATE brain.run SET is_wanted = true WHERE session_id = p_session
        RETURNING owner IS NOT NULL AND lease_until > now() INTO is_held;
    first := brain.event_append(p_tenant, p_session, 0, p_ids, p_types,
                                p_bodies);
    IF is_held THEN
        PERFORM pg_notify('brain_runs',
            CASE WHEN 'user.interrupt' = ANY (p_types) THEN 'stop '
                 ELSE 'told ' END || p_session || ' '
            || first + cardinality(p_ids) - 1);
    END IF;
    RETURN first;
END $$;

CREATE OR REPLACE FUNCTION brain.run_release(p_owner text, p_session text,
                                             p_fence bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = brain, pg_temp AS $$
    WITH r AS (UPDATE brain.run SET owner = NULL, lease_until = NULL
        WHERE session_id = p_session AND fence = p_fence AND owner = p_owner
        RETURNING session_id)
    SELECT pg_notify('brain_runs', 'free ' || session_id) FROM r
$$;
