-- Sessions that had a sandbox, and the record of each command.
--
-- Every row carries its tenant, and row security compares it with
-- brainbox.tenant, which lib/db.c sets for each statement. The owner migrates
-- and owns the one function that looks across tenants; the runtime role does
-- everything else.

GRANT USAGE ON SCHEMA sandbox TO sandbox_run;

-- Whose a session is: the vault said so when a sandbox was provisioned.
CREATE TABLE sandbox.session (
    tenant text NOT NULL,
    session_id text PRIMARY KEY,
    environment_id text NOT NULL,
    task_description text NOT NULL,
    provisioned_at timestamptz NOT NULL DEFAULT now()
);

-- A row is committed before the command starts, and completed after its end.
CREATE TABLE sandbox.call (
    tenant text NOT NULL,
    session_id text NOT NULL,
    call_id text NOT NULL,
    sandbox_id text NOT NULL,
    command_bytes integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    -- agent.sandbox.v1.ExecuteResult, field by field
    outcome integer,
    exit_code integer,
    signal integer,
    stdout bytea,
    stderr bytea,
    is_truncated boolean,
    output_file text,
    wall_ms bigint,
    limit_name text,
    PRIMARY KEY (tenant, session_id, call_id),
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

ALTER TABLE sandbox.session ENABLE ROW LEVEL SECURITY;
ALTER TABLE sandbox.session FORCE ROW LEVEL SECURITY;
ALTER TABLE sandbox.call ENABLE ROW LEVEL SECURITY;
ALTER TABLE sandbox.call FORCE ROW LEVEL SECURITY;

CREATE POLICY tenant ON sandbox.session TO sandbox_run
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
CREATE POLICY tenant ON sandbox.call TO sandbox_run
    USING (tenant = current_setting('brainbox.tenant', true))
    WITH CHECK (tenant = current_setting('brainbox.tenant', true));
-- FORCE holds for the owner too: it may read, for tenant_of.
CREATE POLICY owner ON sandbox.session FOR SELECT TO sandbox_owner
    USING (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON sandbox.session, sandbox.call
    TO sandbox_run;

-- The tenant of a session that has no live sandbox; null for none.
CREATE FUNCTION sandbox.tenant_of(of_session text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
    AS 'SELECT tenant FROM sandbox.session WHERE session_id = of_session';
REVOKE ALL ON FUNCTION sandbox.tenant_of(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sandbox.tenant_of(text) TO sandbox_run;
