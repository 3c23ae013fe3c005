-- Agents, environments, sessions, events and runs.
--
-- Every row carries its tenant, and row security compares it with
-- brainbox.tenant, which lib/db.c sets for each statement. The owner migrates
-- and owns the few SECURITY DEFINER functions that look across tenants; the
-- runtime role does everything else. JSON is stored as text of type json: as it
-- came, byte for byte.

GRANT USAGE ON SCHEMA brain TO brain_run;

CREATE TABLE brain.agent (
    tenant text NOT NULL,
    id text PRIMARY KEY,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz
);

CREATE TABLE brain.agent_version (
    tenant text NOT NULL,
    agent_id text NOT NULL REFERENCES brain.agent (id) ON DELETE CASCADE,
    version integer NOT NULL,
    name text NOT NULL,
    description text,
    model json NOT NULL,
    system text,
    tools json NOT NULL,
    mcp_servers json NOT NULL,
    skills json NOT NULL,
    metadata json NOT NULL,
    harness text NOT NULL,
    max_steps integer NOT NULL,
    max_turn_seconds integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, version)
);

CREATE TABLE brain.environment (
    tenant text NOT NULL,
    id text PRIMARY KEY,
    version integer NOT NULL,
    name text NOT NULL,
    description text,
    config json NOT NULL,
    metadata json NOT NULL,
    policy_digest text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz
);

CREATE TABLE brain.session (
    tenant text NOT NULL,
    id text PRIMARY KEY,
    agent_id text NOT NULL,
    agent_version integer NOT NULL,
    environment_id text NOT NULL REFERENCES brain.environment (id),
    environment_ids text[] NOT NULL,
    vault_ids text[] NOT NULL,
    title text,
    metadata json NOT NULL,
    status text NOT NULL DEFAULT 'idle'
        CHECK (status IN ('idle', 'running', 'rescheduling', 'terminated')),
    next_seq bigint NOT NULL DEFAULT 1,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    active_us bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    FOREIGN KEY (agent_id, agent_version)
        REFERENCES brain.agent_version (agent_id, version)
);
CREATE INDEX session_by_tenant ON brain.session (tenant, id);
CREATE INDEX session_by_environment ON brain.session (environment_id);

CREATE TABLE brain.event (
    tenant text NOT NULL,
    session_id text NOT NULL REFERENCES brain.session (id) ON DELETE CASCADE,
    seq bigint NOT NULL,
    id text NOT NULL UNIQUE,
    type text NOT NULL,
    body json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, seq)
);

-- One row a session: who runs it and until when. `fence` grows with each
-- claim; a writer whose number is old has lost the lease.
CREATE TABLE brain.run (
    tenant text NOT NULL,
    session_id text PRIMARY KEY
        REFERENCES brain.session (id) ON DELETE CASCADE,
    is_wanted boolean NOT NULL DEFAULT false,
    owner text,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    turn_started_at timestamptz
);
CREATE INDEX run_wanted ON brain.run (session_id) WHERE is_wanted;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['agent', 'agent_version', 'environment',
                             'session', 'event', 'run'] LOOP
        EXECUTE format('ALTER TABLE brain.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE brain.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY tenant_rows ON brain.%I TO brain_run USING '
            '(tenant = current_setting(''brainbox.tenant'', true))', t);
        EXECUTE format(
            'CREATE POLICY owner_rows ON brain.%I TO brain_owner '
            'USING (true)', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON brain.%I '
                       'TO brain_run', t);
    END LOOP;
END $$;

-- Append events to a session's log, in order and without a gap in `seq`.
-- Returns the first seq. Repeated with the same ids (after a lost connection)
-- it returns what it returned before and writes nothing. `p_fence` 0 is a
-- writer from outside; otherwise the run's fencing number must still be that.
CREATE FUNCTION brain.event_append(
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

-- Events from a caller: the session must be open; a user event makes the run
-- wanted.
CREATE FUNCTION brain.event_post(
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
    UPDATE brain.run SET is_wanted = true WHERE session_id = p_session;
    RETURN brain.event_append(p_tenant, p_session, 0, p_ids, p_types,
                              p_bodies);
END $$;

-- Begin a turn: status and event in one step.
CREATE FUNCTION brain.turn_begin(
    p_tenant text, p_session text, p_fence bigint,
    p_ids text[], p_types text[], p_bodies text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE brain.session SET status = 'running' WHERE id = p_session;
    UPDATE brain.run SET turn_started_at = now()
        WHERE session_id = p_session AND fence = p_fence;
    RETURN brain.event_append(p_tenant, p_session, p_fence, p_ids, p_types,
                              p_bodies);
END $$;

-- End a turn unless a user's event came behind `p_seen`: then nothing is
-- written and 0 is returned, and the turn goes on.
CREATE FUNCTION brain.turn_end(
    p_tenant text, p_session text, p_fence bigint, p_seen bigint,
    p_ids text[], p_types text[], p_bodies text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE first bigint;
BEGIN
    PERFORM 1 FROM brain.session WHERE id = p_session FOR UPDATE;
    PERFORM 1 FROM brain.event WHERE session_id = p_session AND seq > p_seen
        AND type LIKE 'user.%' AND NOT id = ANY (p_ids);
    IF FOUND THEN
        RETURN 0;
    END IF;
    first := brain.event_append(p_tenant, p_session, p_fence, p_ids, p_types,
                                p_bodies);
    UPDATE brain.session SET status = 'idle',
        active_us = active_us + coalesce(
            (SELECT extract(epoch FROM now() - turn_started_at) * 1000000
             FROM brain.run WHERE session_id = p_session), 0)::bigint
        WHERE id = p_session AND status <> 'terminated';
    UPDATE brain.run SET is_wanted = false, owner = NULL, lease_until = NULL,
        turn_started_at = NULL
        WHERE session_id = p_session AND fence = p_fence;
    RETURN first;
END $$;

-- Claim wanted runs that nobody holds, across tenants: one session, or with
-- '' the oldest `p_limit`. `p_restart`: also those that this owner held before
-- it was restarted.
CREATE FUNCTION brain.run_claim(
    p_owner text, p_lease_ms bigint, p_session text, p_limit integer,
    p_restart boolean)
RETURNS TABLE (tenant text, session_id text, fence bigint,
               turn_started_us bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = brain, pg_temp AS $$
BEGIN
    RETURN QUERY
    UPDATE brain.run r SET owner = p_owner, fence = r.fence + 1,
        lease_until = now() + p_lease_ms * interval '1 millisecond'
    FROM (SELECT c.session_id FROM brain.run c
          WHERE c.is_wanted AND (p_session = '' OR c.session_id = p_session)
            AND (c.lease_until IS NULL OR c.lease_until < now()
                 OR (p_restart AND c.owner = p_owner))
          ORDER BY c.session_id LIMIT p_limit
          FOR UPDATE SKIP LOCKED) w
    WHERE r.session_id = w.session_id
    RETURNING r.tenant, r.session_id, r.fence,
        (extract(epoch FROM r.turn_started_at) * 1000000)::bigint;
END $$;

-- Keep the leases; returns the sessions that are still this owner's.
CREATE FUNCTION brain.run_renew(p_owner text, p_lease_ms bigint,
                                p_sessions text[], p_fences bigint[])
RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = brain, pg_temp AS $$
    UPDATE brain.run r
    SET lease_until = now() + p_lease_ms * interval '1 millisecond'
    FROM unnest(p_sessions, p_fences) AS h (session_id, fence)
    WHERE r.session_id = h.session_id AND r.fence = h.fence
      AND r.owner = p_owner
    RETURNING r.session_id
$$;

-- Give leases back at once, so that another brain need not wait.
CREATE FUNCTION brain.run_release(p_owner text, p_session text,
                                  p_fence bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = brain, pg_temp AS $$
    UPDATE brain.run SET owner = NULL, lease_until = NULL
    WHERE session_id = p_session AND fence = p_fence AND owner = p_owner
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA brain FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA brain TO brain_run;
ALTER FUNCTION brain.event_append OWNER TO brain_owner;
