-- Rows of the audit that are older than they must be kept. The role that runs
-- cannot delete rows; this takes them from the beginning only, and what is taken
-- stands in a row `audit.pruned` of the chain first.

CREATE FUNCTION vault.audit_prune(of_tenant text, through bigint)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    WITH gone AS (DELETE FROM vault.audit a WHERE a.tenant = of_tenant
        AND a.seq <= through AND EXISTS (SELECT FROM vault.audit p
            WHERE p.tenant = of_tenant AND p.seq > through
            AND p.action = 'audit.pruned'
            AND p.detail::json ->> 'through' = through::text) RETURNING 1)
    SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION vault.audit_prune(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.audit_prune(text, bigint) TO vault_run;
