-- `audit verify` also finds vaults that were put back.
DROP INDEX vault.audit_tenant_action_object_idx;
CREATE INDEX ON vault.audit (tenant, action, object)
    WHERE action IN ('key.revoked', 'credential.archived',
        'credential.deleted', 'credential.updated', 'grant.ended',
        'incident.opened', 'incident.resolved', 'policy.put',
        'data_key.made', 'vault.archived', 'vault.deleted');
