-- When and how often a credential was put into a request. Advice for people:
-- written some seconds later, and not under a MAC; the audit has every use.
CREATE TABLE vault.credential_use (
    credential_id text PRIMARY KEY REFERENCES vault.credential
        ON DELETE CASCADE,
    tenant text NOT NULL REFERENCES vault.tenant,
    last_used_us bigint NOT NULL,
    uses bigint NOT NULL
);
ALTER TABLE vault.credential_use ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.credential_use FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON vault.credential_use
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.credential_use TO vault_run;
