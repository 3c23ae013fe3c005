-- When a value stops being of use at its host, as a person said. Nothing is
-- refused by it: people are told before.
ALTER TABLE vault.credential ADD COLUMN expires_us bigint;
CREATE INDEX ON vault.credential (expires_us)
    WHERE expires_us IS NOT NULL AND archived_us IS NULL;
CREATE POLICY look_up ON vault.credential FOR SELECT TO vault_owner
    USING (true);

CREATE FUNCTION vault.credentials_expiring(before_us bigint)
RETURNS TABLE (tenant text, id text, expires_us bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT c.tenant, c.id, c.expires_us FROM vault.credential c
    WHERE c.expires_us < before_us AND c.archived_us IS NULL
    ORDER BY c.expires_us LIMIT 1000
$$;
REVOKE ALL ON FUNCTION vault.credentials_expiring(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.credentials_expiring(bigint) TO vault_run;
