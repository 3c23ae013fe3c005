-- An event that a run decided on names the last event that the run had heard of
-- then: what users say may be stored before such an event, and be heard of
-- later. A replay tells the run of each event when it heard of it. NULL for
-- events from outside, and for those from before this migration.

ALTER TABLE brain.event ADD COLUMN heard bigint;

DROP FUNCTION brain.events_append(text[], text[], bigint[], integer[], text[],
                                  text[], text[], bigint[]);
DROP FUNCTION brain.turn_begin(text, text, bigint, text[], text[], text[],
                               bigint[]);
DROP FUNCTION brain.turn_end(text, text, bigint, bigint, text[], text[],
                             text[], bigint[]);
DROP FUNCTION brain.event_append(text, text, bigint, text[], text[], text[],
                                 bigint[]);

-- Append events to a session's log, in order and without a gap in `seq`.
-- Returns the first seq. `p_fence` 0 is a writer from outside; otherwise the
-- run's fencing number must still be that. `p_used` is what the events use, as
-- enum brain_used orders it (brain_budget.h); NULL is nothing. `p_heard` has a
-- number for each event, or is NULL. What repeats collides with itself, which
-- the caller looks into (brain_io.c).
CREATE FUNCTION brain.event_append(
    p_tenant text, p_session text, p_fence bigint,
    p_ids text[], p_types text[], p_bodies text[],
    p_used bigint[] DEFAULT NULL, p_heard bigint[] DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
    n integer := cardinality(p_ids);
BEGIN
    IF p_used IS NULL THEN
        UPDATE brain.session SET next_seq = next_seq + n, updated_at = now()
            WHERE id = p_session RETURNING next_seq - n INTO first;
    ELSE
        UPDATE brain.session SET next_seq = next_seq + n, updated_at = now(),
            input_tokens = input_tokens + p_used[1],
            output_tokens = output_tokens + p_used[2],
            cache_read_tokens = cache_read_tokens + p_used[3],
            cache_write_tokens = cache_write_tokens + p_used[4],
            reasoning_tokens = reasoning_tokens + p_used[5],
            cost_nano_usd = cost_nano_usd + p_used[6],
            unpriced_calls = unpriced_calls + p_used[7],
            sandbox_ms = sandbox_ms + p_used[8],
            steps = steps + p_used[9],
            budget_asked = budget_asked | p_used[10]::integer
            WHERE id = p_session RETURNING next_seq - n INTO first;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no session "%"', p_session USING ERRCODE = 'BB003';
    END IF;
    -- A statement of its own: it sees who took the lease while this one waited
    -- for the session's row.
    IF p_fence > 0 THEN
        PERFORM FROM brain.run
            WHERE session_id = p_session AND fence = p_fence;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the run''s lease was taken over'
                USING ERRCODE = 'BB005';
        END IF;
    END IF;
    INSERT INTO brain.event (tenant, session_id, seq, id, type, body, digest,
                             heard)
        SELECT p_tenant, p_session, first + e.ord - 1, e.id, e.type,
               e.body::json, sha256(convert_to(e.body, 'UTF8')), e.heard
        FROM unnest(p_ids, p_types, p_bodies, p_heard) WITH ORDINALITY
             AS e (id, type, body, heard, ord);
    RETURN first;
END $$;

-- Begin a turn: status and event in one step.
CREATE FUNCTION brain.turn_begin(
    p_tenant text, p_session text, p_fence bigint,
    p_ids text[], p_types text[], p_bodies text[], p_used bigint[],
    p_heard bigint[]) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE brain.session SET status = 'running' WHERE id = p_session;
    UPDATE brain.run SET turn_started_at = now()
        WHERE session_id = p_session AND fence = p_fence;
    RETURN brain.event_append(p_tenant, p_session, p_fence, p_ids, p_types,
                              p_bodies, p_used, p_heard);
END $$;

-- End a turn unless a user's event came behind `p_seen`: then nothing is
-- written and 0 is returned, and the turn goes on.
CREATE FUNCTION brain.turn_end(
    p_tenant text, p_session text, p_fence bigint, p_seen bigint,
    p_ids text[], p_types text[], p_bodies text[], p_used bigint[],
    p_heard bigint[]) RETURNS bigint
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
                                p_bodies, p_used, p_heard);
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

-- Appends of several sessions in one transaction: `p_counts` says how many
-- events each of them has, and of `p_used` each has ten. The first seq of each,
-- in their order; one that fails fails all, and the brain then tries each alone.
-- Only appends: what also locks a session's run would meet brain.run_renew,
-- which locks several in another order. The brain sorts them by session.
CREATE FUNCTION brain.events_append(
    p_tenants text[], p_sessions text[], p_fences bigint[],
    p_counts integer[], p_ids text[], p_types text[], p_bodies text[],
    p_used bigint[], p_heard bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
DECLARE
    at integer := 1;
    behind integer;
BEGIN
    FOR i IN 1 .. cardinality(p_sessions) LOOP
        behind := at + p_counts[i];
        PERFORM set_config('brainbox.tenant', p_tenants[i], true);
        RETURN NEXT brain.event_append(
            p_tenants[i], p_sessions[i], p_fences[i],
            p_ids[at : behind - 1], p_types[at : behind - 1],
            p_bodies[at : behind - 1], p_used[i * 10 - 9 : i * 10],
            p_heard[at : behind - 1]);
        at := behind;
    END LOOP;
END $$;

DO $$
DECLARE f text;
BEGIN
    FOREACH f IN ARRAY ARRAY[
        'event_append(text, text, bigint, text[], text[], text[], bigint[], '
        'bigint[])',
        'turn_begin(text, text, bigint, text[], text[], text[], bigint[], '
        'bigint[])',
        'turn_end(text, text, bigint, bigint, text[], text[], text[], '
        'bigint[], bigint[])',
        'events_append(text[], text[], bigint[], integer[], text[], text[], '
        'text[], bigint[], bigint[])'] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION brain.%s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION brain.%s TO brain_run', f);
    END LOOP;
END $$;
