-- The kill switch: a row stops a session, all of a tenant's ('*'), or, under the
-- tenant '*', everything. Nothing is posted to what is stopped, and its turns
-- end; a row that is removed lets it go on.

CREATE TABLE brain.stop (
    tenant text NOT NULL,
    session_id text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, session_id)
);
ALTER TABLE brain.stop ENABLE ROW LEVEL SECURITY;
ALTER TABLE brain.stop FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_rows ON brain.stop TO brain_run
    USING (tenant = current_setting('brainbox.tenant', true));
CREATE POLICY seen_by_all ON brain.stop FOR SELECT TO brain_run
    USING (tenant = '*');
CREATE POLICY owner_rows ON brain.stop TO brain_owner USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON brain.stop TO brain_run;

CREATE FUNCTION brain.stop_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('brain_runs',
                      'halt ' || NEW.tenant || ' ' || NEW.session_id);
    RETURN NEW;
END $$;
CREATE TRIGGER stop_notify AFTER INSERT OR UPDATE ON brain.stop
    FOR EACH ROW EXECUTE FUNCTION brain.stop_notify();

-- Everything: for root's command line. An empty reason lets it go on.
CREATE FUNCTION brain.stop_all(p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = brain, pg_temp AS $$
BEGIN
    IF p_reason = '' THEN
        DELETE FROM brain.stop WHERE tenant = '*';
    ELSE
        INSERT INTO brain.stop (tenant, session_id, reason)
            VALUES ('*', '*', p_reason)
            ON CONFLICT (tenant, session_id)
            DO UPDATE SET reason = EXCLUDED.reason;
    END IF;
END $$;

-- Why a session is stopped, or NULL.
CREATE FUNCTION brain.stop_reason(p_tenant text, p_session text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT reason FROM brain.stop WHERE tenant IN (p_tenant, '*')
        AND session_id IN (p_session, '*') ORDER BY tenant, session_id LIMIT 1
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
    SELECT status, archived_at, brain.stop_reason(p_tenant, p_session) AS why
        INTO s FROM brain.session WHERE id = p_session FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no session "%"', p_session USING ERRCODE = 'BB003';
    END IF;
    IF s.archived_at IS NOT NULL OR s.status = 'terminated' THEN
        RAISE EXCEPTION 'session "%" has ended: create a new one', p_session
            USING ERRCODE = 'BB006';
    END IF;
    IF s.why IS NOT NULL THEN
        RAISE EXCEPTION 'session "%" is stopped (%): see /platform/v1/stops',
            p_session, s.why USING ERRCODE = 'BB006';
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

REVOKE ALL ON FUNCTION brain.stop_all(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION brain.stop_notify() FROM PUBLIC;
REVOKE ALL ON FUNCTION brain.stop_reason(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION brain.stop_all(text) TO brain_run;
GRANT EXECUTE ON FUNCTION brain.stop_reason(text, text) TO brain_run;
