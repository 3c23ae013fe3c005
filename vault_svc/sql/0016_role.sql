-- Roles: what several keys may do, said once. A row that was deleted stays, so
-- that one whose row is gone is told from it; vault_run cannot take one away.
CREATE TABLE vault.role (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    name text NOT NULL,
    description text NOT NULL,
    scopes text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    deleted_us bigint,
    mac bytea NOT NULL
);
CREATE UNIQUE INDEX ON vault.role (tenant, name) WHERE deleted_us IS NULL;
CREATE INDEX ON vault.role (tenant, id);
ALTER TABLE vault.role ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.role FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON vault.role
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
GRANT SELECT, INSERT, UPDATE ON vault.role TO vault_run;

-- Null: the key has its own scopes. Built-in roles have no row.
ALTER TABLE vault.api_key ADD COLUMN role_id text;
CREATE INDEX ON vault.api_key (tenant, role_id) WHERE role_id IS NOT NULL;

-- The newest version that the audit names is asked for with every role that is
-- read: an older row that was put back gives nothing.
CREATE INDEX ON vault.audit (tenant, object)
    WHERE action IN ('role.created', 'role.updated', 'role.deleted');
