-- What a policy in mode "observe" let pass though it does not name it. Advice
-- for whoever writes the next policy; nothing is decided by it.
CREATE TABLE vault.observation (
    tenant text NOT NULL REFERENCES vault.tenant,
    environment_id text NOT NULL,
    scheme text NOT NULL,
    host text NOT NULL,
    port integer NOT NULL,
    method text NOT NULL,
    -- The first segment of the path with its slashes, or "/".
    path_prefix text NOT NULL,
    requests bigint NOT NULL,
    first_us bigint NOT NULL,
    last_us bigint NOT NULL,
    PRIMARY KEY (tenant, environment_id, scheme, host, port, method,
        path_prefix)
);
ALTER TABLE vault.observation ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.observation FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON vault.observation
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.observation TO vault_run;
