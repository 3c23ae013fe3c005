-- The operator ->> refuses a body that holds \u0000 anywhere, and models and
-- commands may say that: it is read without.

CREATE FUNCTION brain.plain(p_body json) RETURNS json
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN position('\u0000' IN p_body::text) = 0 THEN p_body
        ELSE regexp_replace(p_body::text,
                            '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g')::json END
$$;

CREATE OR REPLACE FUNCTION brain.event_check_answer(
    p_session text, p_type text, p_body json) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    field text := CASE p_type WHEN 'user.custom_tool_result'
        THEN 'custom_tool_use_id' ELSE 'tool_use_id' END;
    call text := brain.plain(p_body) ->> field;
    asked bigint;
BEGIN
    SELECT seq INTO asked FROM brain.event
        WHERE id = call AND session_id = p_session AND
        CASE p_type WHEN 'user.custom_tool_result'
            THEN type = 'agent.custom_tool_use'
            ELSE type = 'agent.tool_use'
                AND brain.plain(body) ->> 'evaluated_permission' = 'ask' END;
    IF NOT FOUND THEN
        RAISE EXCEPTION '%: no call "%" of this session waits for that',
            field, call USING ERRCODE = 'BB001';
    END IF;
    PERFORM 1 FROM brain.event WHERE session_id = p_session AND seq > asked
        AND type IN (p_type, 'agent.tool_result')
        AND coalesce(brain.plain(body) ->> 'custom_tool_use_id',
                     brain.plain(body) ->> 'tool_use_id') = call;
    IF FOUND THEN
        RAISE EXCEPTION '%: the call "%" has its answer already', field, call
            USING ERRCODE = 'BB006';
    END IF;
END $$;

-- Which call an event answers, or NULL.
CREATE FUNCTION brain.answered_call(p_type text, p_body text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_type
        WHEN 'user.custom_tool_result'
            THEN brain.plain(p_body::json) ->> 'custom_tool_use_id'
        WHEN 'user.tool_confirmation'
            THEN brain.plain(p_body::json) ->> 'tool_use_id' END
$$;

CREATE OR REPLACE FUNCTION brain.event_post(
    p_tenant text, p_session text,
    p_ids text[], p_types text[], p_bodies text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    s record;
    is_held boolean;
    first bigint;
    call text;
    calls text[] := '{}';
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
        call := brain.answered_call(p_types[i], p_bodies[i]);
        CONTINUE WHEN call IS NULL;
        PERFORM brain.event_check_answer(p_session, p_types[i],
                                         p_bodies[i]::json);
        IF call = ANY (calls) THEN
            RAISE EXCEPTION 'events[%]: a second answer to one call', i - 1
                USING ERRCODE = 'BB001';
        END IF;
        calls := calls || call;
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

REVOKE ALL ON FUNCTION brain.plain(json) FROM PUBLIC;
REVOKE ALL ON FUNCTION brain.answered_call(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION brain.plain(json) TO brain_run;
GRANT EXECUTE ON FUNCTION brain.answered_call(text, text) TO brain_run;
