-- Rows of several tenants' chains in one statement, so one commit. The vault
-- numbers and MACs them; this only stores.
CREATE POLICY append ON vault.audit FOR INSERT TO vault_owner
    WITH CHECK (true);

CREATE FUNCTION vault.audit_append(added json)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO vault.audit (tenant, seq, id, created_us, action, subject,
        object, session_id, detail, mac)
    SELECT r.tenant, r.seq, r.id, r.at, r.action, r.subject, r.object,
        r.session, r.detail, decode(r.mac, 'hex')
    FROM json_to_recordset(added) AS r(tenant text, seq bigint, id text,
        at bigint, action text, subject text, object text, session text,
        detail text, mac text);
END
$$;
REVOKE ALL ON FUNCTION vault.audit_append(json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.audit_append(json) TO vault_run;
