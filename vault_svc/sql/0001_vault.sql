-- Schema of vault_svc. vault_owner migrates and owns; vault_run serves.
-- Every row has its tenant, and row security shows vault_run only the rows of
-- the tenant that a transaction is set to. Look-ups that come before the
-- tenant is known are SECURITY DEFINER functions that give back little more
-- than the tenant; their owner may read the few tables they need.
-- Times are microseconds since the epoch: they are part of what MACs cover.

CREATE TABLE vault.tenant (
    tenant text PRIMARY KEY CHECK (tenant ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    wrapped_key bytea NOT NULL,
    key_version integer NOT NULL,
    created_us bigint NOT NULL
);

CREATE TABLE vault.api_key (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    name text NOT NULL,
    scopes text NOT NULL,
    key_hash bytea NOT NULL UNIQUE,
    created_us bigint NOT NULL,
    revoked_us bigint,
    last_used_us bigint,
    mac bytea NOT NULL
);
CREATE INDEX ON vault.api_key (tenant, id);

CREATE TABLE vault.vault (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    display_name text NOT NULL,
    metadata text NOT NULL,
    -- Holds what the platform's environment gives; part of every grant.
    is_platform boolean NOT NULL DEFAULT false,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    archived_us bigint
);
CREATE INDEX ON vault.vault (tenant, id);
CREATE UNIQUE INDEX ON vault.vault (tenant) WHERE is_platform;

CREATE TABLE vault.credential (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    vault_id text NOT NULL REFERENCES vault.vault ON DELETE CASCADE,
    display_name text,
    -- The contract's auth without its secret.
    auth text NOT NULL,
    metadata text NOT NULL,
    binding text NOT NULL,
    -- Variable that carries the stub; empty for a brain's credential.
    env_name text NOT NULL,
    is_for_brain boolean NOT NULL,
    is_model boolean NOT NULL,
    stub_prefix text NOT NULL,
    version integer NOT NULL,
    sealed bytea NOT NULL,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    archived_us bigint,
    mac bytea NOT NULL
);
CREATE INDEX ON vault.credential (tenant, vault_id, id);

-- Plain variables of the platform's environment.
CREATE TABLE vault.plain_env (
    tenant text NOT NULL REFERENCES vault.tenant,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE vault.session_grant (
    session_id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    subject text NOT NULL,
    -- JSON arrays of ids; the first environment is the session's own.
    vault_ids text NOT NULL,
    environment_ids text NOT NULL,
    request_sha256 bytea NOT NULL,
    created_us bigint NOT NULL,
    ended_us bigint,
    frozen_us bigint,
    mac bytea NOT NULL
);
CREATE INDEX ON vault.session_grant (tenant, session_id);

CREATE TABLE vault.policy (
    tenant text NOT NULL REFERENCES vault.tenant,
    environment_id text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    policy text NOT NULL,
    digest text NOT NULL,
    subject text NOT NULL,
    created_us bigint NOT NULL,
    mac bytea NOT NULL,
    PRIMARY KEY (tenant, environment_id, version)
);

CREATE TABLE vault.workload (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES vault.tenant,
    session_id text NOT NULL REFERENCES vault.session_grant,
    kind integer NOT NULL CHECK (kind BETWEEN 1 AND 3),
    environment_id text NOT NULL,
    address text NOT NULL,
    opened_us bigint NOT NULL,
    closed_us bigint,
    mac bytea NOT NULL
);
CREATE UNIQUE INDEX ON vault.workload (address)
    WHERE closed_us IS NULL AND address <> '';
CREATE INDEX ON vault.workload (session_id);

-- A stub is made again from (session, credential, kind, nonce) under a key of
-- the tenant; the table holds its SHA-256 only.
CREATE TABLE vault.stub (
    tenant text NOT NULL REFERENCES vault.tenant,
    session_id text NOT NULL REFERENCES vault.session_grant,
    credential_id text NOT NULL REFERENCES vault.credential ON DELETE CASCADE,
    kind integer NOT NULL CHECK (kind BETWEEN 1 AND 3),
    nonce bytea NOT NULL,
    stub_hash bytea NOT NULL UNIQUE,
    created_us bigint NOT NULL,
    PRIMARY KEY (session_id, credential_id, kind)
);

-- A chain: each MAC covers the row and the MAC before it.
CREATE TABLE vault.audit (
    tenant text NOT NULL REFERENCES vault.tenant,
    seq bigint NOT NULL,
    id text NOT NULL UNIQUE,
    created_us bigint NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    object text NOT NULL,
    session_id text NOT NULL,
    detail text NOT NULL,
    mac bytea NOT NULL,
    PRIMARY KEY (tenant, seq)
);
CREATE INDEX ON vault.audit (tenant, session_id, seq);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenant', 'api_key', 'vault', 'credential',
        'plain_env', 'session_grant', 'policy', 'workload', 'stub', 'audit']
    LOOP
        EXECUTE format('ALTER TABLE vault.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE vault.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY of_tenant ON vault.%I
                 USING (tenant = current_setting(''brainbox.tenant'', true))
                 WITH CHECK
                     (tenant = current_setting(''brainbox.tenant'', true))',
            t);
    END LOOP;
    -- What the look-up functions read, as their owner.
    FOREACH t IN ARRAY ARRAY['tenant', 'api_key', 'session_grant', 'workload',
        'stub', 'audit']
    LOOP
        EXECUTE format(
            'CREATE POLICY look_up ON vault.%I FOR SELECT TO vault_owner
                 USING (true)', t);
    END LOOP;
END
$$;

CREATE FUNCTION vault.tenant_list()
RETURNS TABLE (tenant text, wrapped_key bytea, key_version integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT t.tenant, t.wrapped_key, t.key_version FROM vault.tenant t
$$;

CREATE FUNCTION vault.key_by_hash(hash bytea)
RETURNS TABLE (tenant text, id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT k.tenant, k.id FROM vault.api_key k WHERE k.key_hash = hash
$$;

CREATE FUNCTION vault.workload_by_address(at text)
RETURNS TABLE (tenant text, id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT w.tenant, w.id FROM vault.workload w
    WHERE w.address = at AND w.closed_us IS NULL AND at <> ''
$$;

CREATE FUNCTION vault.workload_tenant(of_id text)
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT w.tenant FROM vault.workload w WHERE w.id = of_id
$$;

CREATE FUNCTION vault.session_tenant(of_session text)
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT g.tenant FROM vault.session_grant g
    WHERE g.session_id = of_session
$$;

CREATE FUNCTION vault.audit_tenant(of_id text)
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT a.tenant FROM vault.audit a WHERE a.id = of_id
$$;

-- Is the hash that of anybody's stub?
CREATE FUNCTION vault.stub_is_known(hash bytea)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT EXISTS (SELECT FROM vault.stub s WHERE s.stub_hash = hash)
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM PUBLIC;
GRANT USAGE ON SCHEMA vault TO vault_run;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA vault TO vault_run;
GRANT SELECT, INSERT ON vault.tenant, vault.policy, vault.audit TO vault_run;
GRANT SELECT, INSERT, UPDATE ON vault.api_key, vault.session_grant,
    vault.workload TO vault_run;
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.vault, vault.credential,
    vault.plain_env, vault.stub TO vault_run;
