/*
 * The option table of brain_svc: parsing, --help, --check and docs/config.md
 * all come from it.
 */
#include "brain_svc/brain_conf.h"

#include "brain_svc/brain_route.h"

#define O(field) offsetof(struct brain_conf, field)
#define STR(n, u, d, env, help)                         \
    {                                                   \
#n, AG_CONF_STR, u, d, 0, 4096, env, O(n), help \
    }
#define INT(n, u, d, lo, hi, help)                      \
    {                                                   \
#n, AG_CONF_INT, u, d, lo, hi, NULL, O(n), help \
    }

static const struct ag_conf_option options[] = {
    STR(user, "", "", NULL, "user to become when started as root"),
    STR(log_level, "", "info", "BRAINBOX_LOG_LEVEL",
        "least level that is logged: debug, info, warn, error"),
    STR(instance, "", "brain-1", NULL,
        "name of this brain among those that share the database"),
    STR(listen_ingress, "path",
        "/run/brainbox/brain-ingress/brain-ingress.sock", NULL,
        "unix socket for the ingress gateway"),
    STR(vault, "target", "unix:/run/brainbox/vault-brain/vault-brain.sock",
        NULL, "vault_svc, as gRPC names it"),
    STR(sandbox, "target",
        "unix:/run/brainbox/sandbox-brain/sandbox-brain.sock", NULL,
        "sandbox_svc, as gRPC names it"),
    STR(database, "conninfo",
        "host=/run/brainbox/pg dbname=brainbox user=brain_run", NULL,
        "PostgreSQL as the runtime role"),
    STR(database_owner, "conninfo",
        "host=/run/brainbox/pg dbname=brainbox user=brain_owner", NULL,
        "PostgreSQL as the owner role, for --migrate"),
    STR(sql_dir, "path", "/usr/local/share/brainbox/brain_svc/sql", NULL,
        "folder of the migrations, for --migrate"),
    STR(assertion_key, "path", "/run/brainbox/public/assertion.pub", NULL,
        "public key that checks principal assertions"),
    STR(model_base_url, "url", "", "MODEL_BASE_URL",
        "model endpoint with its /v1; empty: no model"),
    STR(model_wire, "", "chat", "MODEL_WIRE",
        "what it speaks: chat (/chat/completions), responses, messages; an "
        "agent's model.wire goes first"),
    STR(model_fallbacks, "", "", NULL,
        "what is asked when the agent's model fails before its first token, "
        "in order: WIRE,MODEL[,URL] with spaces between"),
    STR(model_prices, "path", "", NULL,
        "prices by model, where the gateway tells none: lines MODEL INPUT "
        "OUTPUT [CACHE_READ [CACHE_WRITE]] in USD for a million tokens"),
    STR(model_default, "", "default", "MODEL_NAME",
        "model of agents that name none"),
    STR(harness_default, "", "", "BRAINBOX_HARNESS",
        "driver of agents that name none: native, runbook; empty: native "
        "when model_base_url is set, runbook otherwise"),
    STR(egress_plain, "path",
        "/run/brainbox/egress-brain/egress-brain-plain.sock", NULL,
        "egress gateway for http:// model endpoints"),
    STR(egress_tls, "path", "/run/brainbox/egress-brain/egress-brain.sock",
        NULL, "egress gateway for https:// model endpoints"),
    STR(ca_file, "path", "/run/brainbox/public/ca.pem", NULL,
        "root certificate of the egress gateway"),
    INT(db_connections, "", "2", 1, 32, "connections to PostgreSQL"),
    INT(db_timeout_ms, "ms", "5000", 100, 600000,
        "longest wait for the database"),
    INT(lease_ms, "ms", "6000", 500, 600000,
        "life of a run's lease without renewal"),
    INT(claim_poll_ms, "ms", "1000", 100, 600000,
        "time between looks for runs whose brain died; all else is notified"),
    INT(heartbeat_seconds, "s", "15", 1, 600,
        "time between heartbeats of an event stream"),
    INT(page_bytes, "bytes", "3145728", 1024, 1073741824,
        "lists have, and streams read, up to so much at once; the last one "
        "may go beyond it"),
    INT(preview_output_bytes, "bytes", "262144", 0, 16777216,
        "most output of a command that listeners see while it runs"),
    INT(workload_cache, "", "1024", 0, 1000000,
        "sessions whose stub for the model is kept between turns"),
    INT(step_limit, "", "50", 1, 1000,
        "most model calls or runbook steps in a turn"),
    INT(turn_seconds, "s", "3600", 1, 86400, "longest turn"),
    INT(model_timeout_seconds, "s", "600", 1, 3600, "longest model call"),
    INT(model_attempts, "", "3", 1, 10,
        "tries of a model call before its first token (connect errors, 429, "
        "503)"),
    INT(model_retry_seconds, "s", "30", 1, 600,
        "longest wait before such a try, whatever Retry-After says"),
    INT(model_first_token_seconds, "s", "120", 1, 3600,
        "longest wait for a model's first token"),
    INT(model_idle_seconds, "s", "60", 1, 3600,
        "longest silence of a model in the middle of its answer"),
    INT(model_output_tokens, "", "0", 0, 1000000,
        "most tokens of an answer, told to the model; 0: its own limit (8192 "
        "over messages, which needs one)"),
    INT(model_answer_bytes, "bytes", "4194304", 1024, 67108864,
        "longest model answer"),
    INT(budget_output_tokens, "", "1024", 0, 1000000,
        "tokens of an answer that are reserved from a budget before a model "
        "call when model_output_tokens is 0"),
    INT(context_tokens, "", "128000", 1000, 10000000,
        "size of the model's window"),
    INT(compact_percent, "%", "75", 1, 100,
        "part of the window from which on the conversation is summed up"),
    INT(compact_keep_tokens, "", "16000", 0, 1000000,
        "about so much of its end is kept as it is then"),
    INT(execute_timeout_seconds, "s", "120", 1, 3600,
        "time limit of a command that names none"),
    INT(grace_ms, "ms", "3000", 0, 600000, "time for calls to end at shutdown"),
    INT(notify_fd, "", "-1", -1, 1024,
        "descriptor that gets a newline once the service answers"),
    STR(trace_file, "path", "", NULL,
        "file for traces of turns, as OTLP JSON lines; empty: none"),
    INT(trace_file_bytes, "bytes", "67108864", 65536, 1099511627776,
        "size at which it becomes FILE.1"),
    STR(tenant, "", "default", NULL, "whose session it is, for replay"),
    {"migrate", AG_CONF_BOOL, "", "false", 0, 1, NULL, O(migrate),
     "apply the migrations and exit"},
};

const struct ag_conf brain_conf_table = {
    .program = "brain_svc",
    .summary = "runs agents: sessions, events, the agent loop",
    .usage = "[options]\n       brain_svc [options] replay SESSION",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
};

int
brain_conf_check(const struct brain_conf *conf, struct ag_err *err)
{
    ag_str_t harness = ag_str(conf->harness_default);

    if (harness.n > 0 && !ag_str_is(harness, "native")
        && !ag_str_is(harness, "runbook"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "harness_default: \"%.*s\" is none of native, "
                          "runbook",
                          AG_FMT(harness));
    return brain_route_check(conf, err);
}
