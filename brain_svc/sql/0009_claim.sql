-- A message to a session that nobody runs is claimed in the transaction that
-- stores it, and the brain that took it gets what it needs to go on in the same
-- round trip.

-- What a run begins with: first a row of the pinned agent and of what the
-- session may use and has used, then its events, `seq` and `body` alone: from
-- the beginning of the turn on, or, for a driver in `p_history`, from what the
-- last compaction kept on; at most `p_limit`. No row when there is no session.
CREATE FUNCTION brain.run_read(p_session text, p_history text[],
                               p_limit integer)
RETURNS TABLE (
    harness text, model text, system text, max_steps integer,
    max_turn_seconds integer, environment_id text, tools text, base bigint,
    is_stopped boolean, budget text, cost_nano_usd bigint, tokens bigint,
    steps bigint, active_ms bigint, sandbox_ms bigint, unpriced_calls bigint,
    budget_asked integer, seq bigint, body text)
LANGUAGE plpgsql AS $$
DECLARE
    a record;
    kept bigint;
BEGIN
    SELECT v.harness, v.model::text AS model, v.system, v.max_steps,
        v.max_turn_seconds, v.tools::text AS tools, s.tenant,
        s.environment_id, s.budget::text AS budget, s.cost_nano_usd,
        s.input_tokens + s.output_tokens + s.cache_read_tokens
            + s.cache_write_tokens AS tokens,
        s.steps, s.active_us / 1000 AS active_ms, s.sandbox_ms,
        s.unpriced_calls, s.budget_asked,
        -- where this turn begins, as brain_turn.h has it
        coalesce((SELECT e.seq FROM brain.event e
            WHERE e.session_id = s.id AND e.type = 'session.status_idle'
            AND e.body #>> '{stop_reason,type}'
                NOT IN ('requires_action', 'budget_reached')
            ORDER BY e.seq DESC LIMIT 1), 0) AS base
        INTO a FROM brain.session s JOIN brain.agent_version v
            ON v.agent_id = s.agent_id AND v.version = s.agent_version
        WHERE s.id = p_session;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF a.harness = ANY (p_history) THEN
        SELECT (brain.plain(e.body) ->> 'brainbox.kept_seq')::bigint - 1
            INTO kept FROM brain.event e WHERE e.session_id = p_session
            AND e.type = 'agent.thread_context_compacted'
            ORDER BY e.seq DESC LIMIT 1;
        a.base := least(a.base, coalesce(kept, 0));
    END IF;
    RETURN QUERY SELECT a.harness, a.model, a.system, a.max_steps,
        a.max_turn_seconds, a.environment_id, a.tools, a.base,
        brain.stop_reason(a.tenant, p_session) IS NOT NULL, a.budget,
        a.cost_nano_usd, a.tokens, a.steps, a.active_ms, a.sandbox_ms,
        a.unpriced_calls, a.budget_asked, NULL::bigint, NULL::text;
    RETURN QUERY SELECT NULL::text, NULL::text, NULL::text, NULL::integer,
        NULL::integer, NULL::text, NULL::text, NULL::bigint, NULL::boolean,
        NULL::text, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
        NULL::bigint, NULL::bigint, NULL::integer, e.seq, e.body::text
        FROM brain.event e WHERE e.session_id = p_session AND e.seq > a.base
        ORDER BY e.seq LIMIT p_limit;
END $$;

-- Events from a caller: the session must be open; a user event makes the run
-- wanted. When nobody holds it, `p_owner` does from now on, and `fence` is its
-- number; else `fence` is 0 and its holder is told. An owner '' claims nothing.
DROP FUNCTION brain.event_post(text, text, text[], text[], text[]);
CREATE FUNCTION brain.event_post(
    p_tenant text, p_session text,
    p_ids text[], p_types text[], p_bodies text[],
    p_owner text, p_lease_ms bigint,
    OUT first bigint, OUT fence bigint, OUT turn_started_us bigint)
LANGUAGE plpgsql AS $$
DECLARE
    s record;
    r record;
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
        CONTINUE WHEN p_types[i] NOT IN ('user.custom_tool_result',
                                         'user.tool_confirmation');
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
    UPDATE brain.run u SET is_wanted = true,
        owner = CASE WHEN o.is_free THEN p_owner ELSE u.owner END,
        fence = u.fence + o.is_free::integer,
        lease_until = CASE WHEN o.is_free
            THEN now() + p_lease_ms * interval '1 millisecond'
            ELSE u.lease_until END
        FROM (SELECT h.owner IS NOT NULL AND h.lease_until > now() AS is_held,
                     (h.lease_until IS NULL OR h.lease_until < now())
                     AND p_owner <> '' AS is_free
              FROM brain.run h WHERE h.session_id = p_session FOR UPDATE) o
        WHERE u.session_id = p_session
        RETURNING o.is_held, o.is_free, u.fence,
            (extract(epoch FROM u.turn_started_at) * 1000000)::bigint
            AS started INTO r;
    first := brain.event_append(p_tenant, p_session, 0, p_ids, p_types,
                                p_bodies);
    fence := 0;
    IF r.is_free THEN
        fence := r.fence;
        turn_started_us := r.started;
    ELSIF r.is_held THEN
        PERFORM pg_notify('brain_runs',
            CASE WHEN 'user.interrupt' = ANY (p_types) THEN 'stop '
                 ELSE 'told ' END || p_session || ' '
            || first + cardinality(p_ids) - 1);
    ELSE
        PERFORM pg_notify('brain_runs', 'free ' || p_session);
    END IF;
END $$;

REVOKE ALL ON FUNCTION brain.run_read(text, text[], integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION brain.event_post(text, text, text[], text[], text[],
                                        text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION brain.run_read(text, text[], integer) TO brain_run;
GRANT EXECUTE ON FUNCTION brain.event_post(text, text, text[], text[], text[],
                                           text, bigint) TO brain_run;
