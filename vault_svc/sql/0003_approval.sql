-- Requests that a policy in mode "ask" has a person decide about. Each row is
-- answered once; the MAC covers all that decides.
CREATE TABLE vault.approval (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    session_id text NOT NULL REFERENCES vault.session_grant,
    environment_id text NOT NULL,
    scheme text NOT NULL,
    host text NOT NULL,
    port integer NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    reason text NOT NULL,
    -- JSON array of the credentials whose stubs the request carries.
    credentials text NOT NULL,
    state text NOT NULL
        CHECK (state IN ('pending', 'approved', 'denied', 'used')),
    -- "request" or "session"; of an approval.
    scope text NOT NULL,
    created_us bigint NOT NULL,
    expires_us bigint NOT NULL,
    decided_us bigint,
    decided_by text NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX ON vault.approval (tenant, id);
CREATE INDEX ON vault.approval (session_id, host, port);
ALTER TABLE vault.approval ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.approval FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON vault.approval
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
CREATE POLICY look_up ON vault.approval FOR SELECT TO vault_owner
    USING (true);

CREATE FUNCTION vault.approval_tenant(of_id text)
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT a.tenant FROM vault.approval a WHERE a.id = of_id
$$;
REVOKE ALL ON FUNCTION vault.approval_tenant(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.approval_tenant(text) TO vault_run;
GRANT SELECT, INSERT, UPDATE ON vault.approval TO vault_run;
