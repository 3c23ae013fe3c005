-- Appends of several sessions in one transaction: `p_counts` says how many
-- events each of them has, and of `p_used` each has ten. The first seq of each,
-- in their order; one that fails fails all, and the brain then tries each alone.
-- Only appends: what also locks a session's run would meet brain.run_renew,
-- which locks several in another order. The brain sorts them by session.
CREATE FUNCTION brain.events_append(
    p_tenants text[], p_sessions text[], p_fences bigint[],
    p_counts integer[], p_ids text[], p_types text[], p_bodies text[],
    p_used bigint[]) RETURNS SETOF bigint
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
            p_bodies[at : behind - 1], p_used[i * 10 - 9 : i * 10]);
        at := behind;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION brain.events_append(text[], text[], bigint[],
    integer[], text[], text[], text[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION brain.events_append(text[], text[], bigint[],
    integer[], text[], text[], text[], bigint[]) TO brain_run;
