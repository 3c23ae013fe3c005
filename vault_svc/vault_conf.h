/* Options of vault_svc. */
#ifndef VAULT_CONF_H
#define VAULT_CONF_H

#include "lib/conf.h"

struct vault_conf {
    char *listen_ingress, *listen_brain, *listen_sandbox, *listen_egress;
    char *listen_admin;
    char *keeper, *user, *database, *database_owner, *sql_dir;
    char *deployment, *rules, *generation, *intermediate, *log_level;
    char *audit_heads, *tenant, *name, *scopes, *role, *model_base_url;
    char *model_api_key, *bridge;
    int64_t db_connections, db_timeout_ms, notify_fd, observations_max;
    int64_t snapshot_ms, tenant_poll_ms, audit_head_ms, since, use_flush_ms;
    int64_t approval_wait_seconds, approval_parked, approval_seconds;
    int64_t approvals_max, scrub_hits_max, unknown_stubs_per_minute;
    int64_t fingerprints_ms, minted_max, data_key_days;
    int64_t data_key_check_ms, clock_offset_seconds;
    int64_t expiry_warning_days, expiry_check_ms;
    int64_t audit_retention_days, audit_retention_check_ms;
    int64_t oauth_ahead_seconds, oauth_seconds, oauth_timeout_ms;
    int64_t oauth_retry_ms;
    bool migrate, follow;
};

extern const struct ag_conf vault_conf_table;

void vault_conf_release(struct vault_conf *conf);

#endif
