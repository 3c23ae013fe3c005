-- Stubs outlive their credential: one that is sent later was the session's own
-- and is told apart from somebody else's.
ALTER TABLE vault.stub DROP CONSTRAINT stub_credential_id_fkey;

CREATE FUNCTION vault.stub_owner(hash bytea)
RETURNS TABLE (tenant text, session_id text, kind integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT s.tenant, s.session_id, s.kind FROM vault.stub s
    WHERE s.stub_hash = hash
$$;
REVOKE ALL ON FUNCTION vault.stub_owner(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.stub_owner(bytea) TO vault_run;
DROP FUNCTION vault.stub_is_known(bytea);
