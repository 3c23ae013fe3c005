-- Answers of clients (results of custom tools, yes or no to a call) are taken
-- once, and only for a call that waits for one.

CREATE FUNCTION brain.event_check_answer(p_session text, p_type text,
                                         p_body json) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    field text := CASE p_type WHEN 'user.custom_tool_result'
        THEN 'custom_tool_use_id' ELSE 'tool_use_id' END;
    call text := p_body ->> field;
    asked bigint;
BEGIN
    SELECT seq INTO asked FROM brain.event
        WHERE id = call AND session_id = p_session AND
        CASE p_type WHEN 'user.custom_tool_result'
            THEN type = 'agent.custom_tool_use'
            ELSE type = 'agent.tool_use'
                AND body ->> 'evaluated_permission' = 'ask' END;
    IF NOT FOUND THEN
        RAISE EXCEPTION '%: no call "%" of this session waits for that',
            field, call USING ERRCODE = 'BB001';
    END IF;
    PERFORM 1 FROM brain.event WHERE session_id = p_session AND seq > asked
        AND type IN (p_type, 'agent.tool_result')
        AND coalesce(body ->> 'custom_tool_use_id', body ->> 'tool_use_id')
            = call;
    IF FOUND THEN
        RAISE EXCEPTION '%: the call "%" has its answer already', field, call
            USING ERRCODE = 'BB006';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION brain.event_post(
    p_tenant text, p_session text,
    p_ids text[], p_types text[], p_bodies text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE s record;
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
    UPDATE brain.run SET is_wanted = true WHERE session_id = p_session;
    RETURN brain.event_append(p_tenant, p_session, 0, p_ids, p_types,
                              p_bodies);
END $$;

REVOKE ALL ON FUNCTION brain.event_check_answer(text, text, json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION brain.event_check_answer(text, text, json)
    TO brain_run;
