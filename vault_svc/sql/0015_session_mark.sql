-- Says whether what a session may use is, row by row, what was read before: the
-- place and the transaction of every row that the vault reads for it, and the
-- start of the server, since a database that was put back may count its
-- transactions anew. No trigger, so whoever switches triggers off hides nothing.
CREATE POLICY look_up ON vault.vault FOR SELECT TO vault_owner USING (true);
CREATE POLICY look_up ON vault.policy FOR SELECT TO vault_owner USING (true);
CREATE POLICY look_up ON vault.plain_env FOR SELECT TO vault_owner
    USING (true);

CREATE FUNCTION vault.session_mark(of_session text, of_workload text,
    of_environment text)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    RETURN (SELECT concat_ws(' ', pg_postmaster_start_time(), g.xmin, g.ctid,
        (SELECT concat(w.xmin, w.ctid) FROM vault.workload w
            WHERE w.id = of_workload),
        (SELECT concat(p.xmin, p.ctid) FROM vault.policy p
            WHERE p.tenant = g.tenant AND p.environment_id = of_environment
            ORDER BY p.version DESC LIMIT 1),
        (SELECT concat_ws(',', count(*),
                bit_xor(hashtidextended(v.ctid, v.xmin::text::bigint)),
                count(c.ctid),
                bit_xor(hashtidextended(c.ctid, c.xmin::text::bigint)))
            FROM vault.vault v LEFT JOIN vault.credential c
                ON c.tenant = v.tenant AND c.vault_id = v.id
                AND (c.session_id IS NULL OR c.session_id = of_session)
            WHERE v.tenant = g.tenant AND (v.is_platform OR v.id IN
                (SELECT json_array_elements_text(g.vault_ids::json)))),
        (SELECT concat_ws(',', count(*),
                bit_xor(hashtidextended(s.ctid, s.xmin::text::bigint)))
            FROM vault.stub s WHERE s.session_id = of_session),
        (SELECT concat_ws(',', count(*),
                bit_xor(hashtidextended(e.ctid, e.xmin::text::bigint)))
            FROM vault.plain_env e WHERE e.tenant = g.tenant))
    FROM vault.session_grant g WHERE g.session_id = of_session);
END
$$;
REVOKE ALL ON FUNCTION vault.session_mark(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.session_mark(text, text, text) TO vault_run;
