/*
 * Options of brain_svc. docs/config.md is made from the table in brain_conf.c.
 */
#ifndef BRAIN_CONF_H
#define BRAIN_CONF_H

#include "lib/conf.h"

struct brain_conf {
    char *user, *log_level, *instance;
    char *listen_ingress;
    char *vault, *sandbox;
    char *database, *database_owner, *sql_dir, *assertion_key;
    char *model_base_url, *model_default, *harness_default;
    char *model_wire, *model_fallbacks, *model_prices;
    char *egress_plain, *egress_tls, *ca_file;
    int64_t db_connections, db_timeout_ms, lease_ms, claim_poll_ms;
    int64_t heartbeat_seconds, preview_output_bytes, page_bytes, workload_cache;
    int64_t step_limit, turn_seconds, model_timeout_seconds, model_attempts;
    int64_t model_first_token_seconds, model_idle_seconds, model_retry_seconds;
    int64_t model_answer_bytes, model_output_tokens, execute_timeout_seconds;
    int64_t budget_output_tokens, context_tokens, compact_percent,
        compact_keep_tokens;
    int64_t grace_ms, notify_fd;
    bool migrate;
    char *tenant, *trace_file;
    int64_t trace_file_bytes;
};

extern const struct ag_conf brain_conf_table;

/* Checks what one option's range cannot say. Returns 0 or -1. */
int brain_conf_check(const struct brain_conf *conf, struct ag_err *err);

#endif
