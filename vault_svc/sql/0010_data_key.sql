-- Data keys after a tenant's first, each for a term: they seal values alone.
-- What a key sealed is sealed anew under the next, and then the key goes.
CREATE TABLE vault.data_key (
    tenant text NOT NULL REFERENCES vault.tenant,
    version integer NOT NULL CHECK (version >= 2),
    wrapped_key bytea NOT NULL,
    created_us bigint NOT NULL,
    PRIMARY KEY (tenant, version)
);
ALTER TABLE vault.data_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.data_key FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON vault.data_key
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
GRANT SELECT, INSERT, DELETE ON vault.data_key TO vault_run;

ALTER TABLE vault.credential
    ADD COLUMN key_version integer NOT NULL DEFAULT 1;
CREATE INDEX ON vault.credential (tenant, key_version, id);

-- `audit verify` also finds a newer data key that is gone.
DROP INDEX vault.audit_tenant_action_object_idx;
CREATE INDEX ON vault.audit (tenant, action, object)
    WHERE action IN ('key.revoked', 'credential.archived',
        'credential.deleted', 'credential.updated', 'grant.ended',
        'incident.opened', 'incident.resolved', 'policy.put',
        'data_key.made');
