-- What `audit verify` compares with the tables, found without reading the
-- chain a second time.
CREATE INDEX ON vault.audit (tenant, action, object)
    WHERE action IN ('key.revoked', 'credential.archived',
        'credential.deleted', 'grant.ended', 'incident.opened',
        'incident.resolved', 'policy.put');
