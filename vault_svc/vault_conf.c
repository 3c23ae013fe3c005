/* The option table of vault_svc. An empty socket path is not served. */
#include "vault_svc/vault_conf.h"

#include <stddef.h>

#define AT(field) offsetof(struct vault_conf, field)
#define RUN "/run/brainbox/"

static const struct ag_conf_option options[] = {
    {"listen_ingress", AG_CONF_STR, "path",
     RUN "vault-ingress/vault-ingress.sock", 0, 107, NULL, AT(listen_ingress),
     "socket for ingress: identities, keys, vaults, audit"},
    {"listen_brain", AG_CONF_STR, "path", RUN "vault-brain/vault-brain.sock", 0,
     107, NULL, AT(listen_brain),
     "socket for the brain: grants, policies, its own workloads"},
    {"listen_sandbox", AG_CONF_STR, "path",
     RUN "vault-sandbox/vault-sandbox.sock", 0, 107, NULL, AT(listen_sandbox),
     "socket for sandbox_svc: workloads of sandboxes and jails"},
    {"listen_egress", AG_CONF_STR, "path", RUN "vault-egress/vault-egress.sock",
     0, 107, NULL, AT(listen_egress), "socket for egress: decisions"},
    {"listen_admin", AG_CONF_STR, "path", RUN "vault-admin/vault-admin.sock", 0,
     107, NULL, AT(listen_admin),
     "socket for root's command line; also where `key create` connects"},
    {"keeper", AG_CONF_STR, "path", RUN "keeper-vault/keeper-vault.sock", 1,
     107, NULL, AT(keeper), "socket of vault_keeper"},
    {"user", AG_CONF_STR, "", "brainbox-vault", 0, 64, NULL, AT(user),
     "user to become when started as root"},
    {"database", AG_CONF_STR, "conninfo",
     "host=" RUN "pg dbname=brainbox user=vault_run", 1, 1024, NULL,
     AT(database), "database, as the role that serves"},
    {"database_owner", AG_CONF_STR, "conninfo",
     "host=" RUN "pg dbname=brainbox user=vault_owner", 1, 1024, NULL,
     AT(database_owner), "database, as the role that migrates"},
    {"sql_dir", AG_CONF_STR, "path", "vault_svc/sql", 1, 4000, NULL,
     AT(sql_dir), "folder of the migrations"},
    {"deployment", AG_CONF_STR, "path", "", 0, 4000, NULL, AT(deployment),
     "deployment.conf; empty: no destination is listed"},
    {"rules", AG_CONF_STR, "path", "vault_svc/rules.conf", 1, 4000, NULL,
     AT(rules), "shapes of known credentials and their hosts"},
    {"generation", AG_CONF_STR, "path", RUN "public/generation", 0, 4000, NULL,
     AT(generation), "file of the generation counter; empty: none"},
    {"intermediate", AG_CONF_STR, "path", RUN "egress-ca/intermediate.pem", 0,
     4000, NULL, AT(intermediate),
     "where the intermediate CA is written for egress; empty: nowhere"},
    {"audit_heads", AG_CONF_STR, "path", "var/vault/audit-heads", 0, 4000, NULL,
     AT(audit_heads),
     "file of the audit's signed heads, outside the database; empty: none"},
    {"audit_head_ms", AG_CONF_INT, "ms", "1000", 10, 3600000, NULL,
     AT(audit_head_ms), "how often heads that have changed are signed"},
    {"model_base_url", AG_CONF_STR, "url", "", 0, 1024, "MODEL_BASE_URL",
     AT(model_base_url), "gateway that MODEL_API_KEY is bound to"},
    {"model_api_key", AG_CONF_STR, "", "", 0, 65536, "MODEL_API_KEY",
     AT(model_api_key), "becomes the default tenant's model credential"},
    {"db_connections", AG_CONF_INT, "", "4", 1, 32, NULL, AT(db_connections),
     "connections to the database"},
    {"db_timeout_ms", AG_CONF_INT, "ms", "2000", 100, 60000, NULL,
     AT(db_timeout_ms), "longest wait for the database"},
    {"observations_max", AG_CONF_INT, "", "1000", 1, 1000, NULL,
     AT(observations_max),
     "requests of different kinds that are recorded for an environment whose "
     "policy observes"},
    {"snapshot_ms", AG_CONF_INT, "ms", "1000", 0, 60000, NULL, AT(snapshot_ms),
     "longest time that what a session may use is kept in memory; changes of "
     "this process count at once"},
    {"tenant_poll_ms", AG_CONF_INT, "ms", "1000", 100, 600000, NULL,
     AT(tenant_poll_ms), "how often it is looked for new tenants"},
    {"use_flush_ms", AG_CONF_INT, "ms", "5000", 10, 600000, NULL,
     AT(use_flush_ms), "how often uses of credentials are written"},
    {"approval_wait_seconds", AG_CONF_INT, "s", "120", 1, 120, NULL,
     AT(approval_wait_seconds),
     "how long a request is parked while a person decides about it"},
    {"approval_parked", AG_CONF_INT, "", "4", 0, 64, NULL, AT(approval_parked),
     "requests of one sandbox that are parked at a time"},
    {"approval_seconds", AG_CONF_INT, "s", "3600", 1, 604800, NULL,
     AT(approval_seconds),
     "how long an approval can be given, and one for a single request used"},
    {"approvals_max", AG_CONF_INT, "", "32", 1, 1000, NULL, AT(approvals_max),
     "approvals of one session that wait to be given"},
    {"scrub_hits_max", AG_CONF_INT, "", "3", 0, 1000000,
     "BRAINBOX_SCRUB_HITS_MAX", AT(scrub_hits_max),
     "the so-manyth answer of a session that held a value freezes it; 0: none "
     "does"},
    {"unknown_stubs_per_minute", AG_CONF_INT, "", "30", 1, 1000000, NULL,
     AT(unknown_stubs_per_minute),
     "stubs that nobody has, in slots of one session's requests within a "
     "minute; more freeze it"},
    {"data_key_days", AG_CONF_INT, "days", "90", 0, 3650, NULL,
     AT(data_key_days),
     "term of a data key: then a new one seals, and what older ones sealed is "
     "sealed anew; 0: only when it is asked for"},
    {"data_key_check_ms", AG_CONF_INT, "ms", "3600000", 100, 86400000, NULL,
     AT(data_key_check_ms), "how often terms are looked at"},
    {"minted_max", AG_CONF_INT, "", "64", 8, 10000, NULL, AT(minted_max),
     "credentials minted by hosts that a session keeps; older ones go"},
    {"fingerprints_ms", AG_CONF_INT, "ms", "1000", 0, 600000, NULL,
     AT(fingerprints_ms),
     "shortest time between two tables of a tenant's fingerprints: values that "
     "are new are looked for so much later"},
    {"expiry_warning_days", AG_CONF_INT, "days", "14", 0, 3650, NULL,
     AT(expiry_warning_days),
     "how long before its `expires_at` the log warns of a credential; 0: never"},
    {"expiry_check_ms", AG_CONF_INT, "ms", "86400000", 100, 86400000, NULL,
     AT(expiry_check_ms), "how often it warns"},
    {"clock_offset_seconds", AG_CONF_INT, "s", "0", -315360000, 315360000, NULL,
     AT(clock_offset_seconds), "added to the machine's clock; for tests"},
    {"log_level", AG_CONF_STR, "", "info", 1, 8, NULL, AT(log_level),
     "debug, info, warn or error"},
    {"notify_fd", AG_CONF_INT, "fd", "-1", -1, 1024, NULL, AT(notify_fd),
     "descriptor that gets a newline once the service answers"},
    {"migrate", AG_CONF_BOOL, "", "false", 0, 0, NULL, AT(migrate),
     "bring the schema up to date, make the tenant, then exit"},
    {"tenant", AG_CONF_STR, "", "default", 1, 63, NULL, AT(tenant),
     "tenant of --migrate, `key create`, `rekey` and `audit export`"},
    {"name", AG_CONF_STR, "", "command line", 1, 256, NULL, AT(name),
     "name of the key that `key create` makes"},
    {"scopes", AG_CONF_STR, "", "read,write,admin", 1, 64, NULL, AT(scopes),
     "scopes of the key that `key create` makes"},
    {"since", AG_CONF_INT, "", "0", 0, INT64_MAX, NULL, AT(since),
     "`audit export` begins behind this row"},
    {"follow", AG_CONF_BOOL, "", "false", 0, 0, NULL, AT(follow),
     "`audit export` goes on with rows that are written meanwhile"},
};

const struct ag_conf vault_conf_table = {
    "vault_svc", "identities, credentials, grants, decisions and audit",
    "[options] [key create | rekey | audit verify | audit export |"
    " explain SESSION URL [METHOD [CREDENTIAL [SLOT]]]]",
    options, sizeof(options) / sizeof(options[0])};

void
vault_conf_release(struct vault_conf *conf)
{
    ag_conf_release(&vault_conf_table, conf);
}
