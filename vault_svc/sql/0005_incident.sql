-- What froze a session. A session is frozen while one of its incidents is open.
CREATE TABLE vault.incident (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    session_id text NOT NULL REFERENCES vault.session_grant,
    kind text NOT NULL,
    detail text NOT NULL,
    created_us bigint NOT NULL,
    resolved_us bigint,
    resolved_by text NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX ON vault.incident (tenant, id);
CREATE INDEX ON vault.incident (session_id) WHERE resolved_us IS NULL;
ALTER TABLE vault.incident ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.incident FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON vault.incident
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
CREATE POLICY look_up ON vault.incident FOR SELECT TO vault_owner
    USING (true);

-- Every tenant's, for whoever begins to watch.
CREATE FUNCTION vault.open_incidents()
RETURNS TABLE (tenant text, id text, session_id text, kind text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT i.tenant, i.id, i.session_id, i.kind FROM vault.incident i
    WHERE i.resolved_us IS NULL ORDER BY i.id
$$;
REVOKE ALL ON FUNCTION vault.open_incidents() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.open_incidents() TO vault_run;
GRANT SELECT, INSERT, UPDATE ON vault.incident TO vault_run;
