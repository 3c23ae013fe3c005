-- `audit verify` also finds values that were put back (credential.updated).
DROP INDEX vault.audit_tenant_action_object_idx;
CREATE INDEX ON vault.audit (tenant, action, object)
    WHERE action IN ('key.revoked', 'credential.archived',
        'credential.deleted', 'credential.updated', 'grant.ended',
        'incident.opened', 'incident.resolved', 'policy.put');
