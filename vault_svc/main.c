/*
 * vault_svc: wiring and shutdown order. Everything runs on one loop thread;
 * gRPC's own threads only hand over events.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/daemon.h"
#include "lib/log.h"
#include "lib/migrate.h"
#include "vault_svc/vault_approval.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_authorize.h"
#include "vault_svc/vault_ca.h"
#include "vault_svc/vault_command.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_egress.h"
#include "vault_svc/vault_expiry.h"
#include "vault_svc/vault_refresh.h"
#include "vault_svc/vault_retention.h"
#include "vault_svc/vault_explain.h"
#include "vault_svc/vault_grant.h"
#include "vault_svc/vault_head.h"
#include "vault_svc/vault_identity.h"
#include "vault_svc/vault_import.h"
#include "vault_svc/vault_incident.h"
#include "vault_svc/vault_key.h"
#include "vault_svc/vault_metrics.h"
#include "vault_svc/vault_mint.h"
#include "vault_svc/vault_oauth.h"
#include "vault_svc/vault_observe.h"
#include "vault_svc/vault_owner.h"
#include "vault_svc/vault_snapshot.h"
#include "vault_svc/vault_rekey.h"
#include "vault_svc/vault_report.h"
#include "vault_svc/vault_role.h"
#include "vault_svc/vault_search.h"
#include "vault_svc/vault_start.h"
#include "vault_svc/vault_tenants.h"
#include "vault_svc/vault_use.h"
#include "vault_svc/vault_verify.h"
#include "vault_svc/vault_workload.h"

enum { GRACE_MS = 3000, FACES_MAX = 5 };

struct service {
    struct vault v;
    struct vault_conf conf;
    struct ag_rpc *rpc;
    struct vault_ca *ca;
    struct vault_tenants_watch *watch;
    struct vault_signer *signer;
    struct vault_rekeyer *rekeyer;
    struct vault_expiry *expiry;
    struct vault_refresher *refresher;
    struct vault_retention *retention;
    struct vault_face faces[FACES_MAX];
    struct ag_rpc_server *servers[FACES_MAX];
    size_t n_servers, n_stopped;
    bool is_stopping;
};

/* ---- the sockets ------------------------------------------------------- */

static void
offer_ingress(struct ag_rpc_server *srv, struct vault_face *face)
{
    vault_identity_serve(srv, face);
    vault_key_serve(srv, face);
    vault_role_serve(srv, face);
    vault_vaults_serve(srv, face);
    vault_credential_serve(srv, face);
    vault_observe_serve(srv, face);
    vault_approval_serve(srv, face);
    vault_incident_serve(srv, face);
    vault_explain_serve(srv, face);
    vault_audit_serve(srv, face);
    vault_rekey_serve(srv, face);
    vault_metrics_serve(srv, face);
}

static void
offer_brain(struct ag_rpc_server *srv, struct vault_face *face)
{
    face->kinds = 1u << VAULT_KIND_BRAIN;
    vault_grant_serve(srv, face);
    vault_workload_serve(srv, face);
    vault_incident_serve_watch(srv, face);
}

static void
offer_sandbox(struct ag_rpc_server *srv, struct vault_face *face)
{
    face->kinds = 1u << VAULT_KIND_SANDBOX | 1u << VAULT_KIND_JAIL;
    vault_workload_serve(srv, face);
}

static void
offer_egress(struct ag_rpc_server *srv, struct vault_face *face)
{
    vault_egress_serve(srv, face);
    vault_report_serve(srv, face);
    vault_search_serve(srv, face);
    vault_mint_serve(srv, face);
    vault_approval_serve_await(srv, face);
}

static void
offer_admin(struct ag_rpc_server *srv, struct vault_face *face)
{
    face->is_admin = true;
    vault_key_serve(srv, face);
    vault_role_serve(srv, face);
    vault_vaults_serve(srv, face);
    vault_credential_serve(srv, face);
    vault_observe_serve(srv, face);
    vault_approval_serve(srv, face);
    vault_incident_serve(srv, face);
    vault_explain_serve(srv, face);
    vault_audit_serve(srv, face);
    vault_rekey_serve(srv, face);
    vault_metrics_serve(srv, face);
}

static int
serve_on(struct service *s, const char *name, const char *path,
         void (*offer)(struct ag_rpc_server *, struct vault_face *),
         struct ag_err *err)
{
    if (*path == '\0')
        return 0;
    struct vault_face *face = &s->faces[s->n_servers];
    struct ag_rpc_server *srv = ag_rpc_server_new(s->rpc, name);
    s->servers[s->n_servers++] = srv;
    face->v = &s->v;
    offer(srv, face);
    if (ag_rpc_server_listen_unix(srv, path, err) < 0
        || ag_rpc_server_start(srv, err) < 0)
        return ag_err_wrap(err, "%s", name);
    return 0;
}

static int
serve_all(struct service *s, struct ag_err *err)
{
    const struct vault_conf *c = &s->conf;

    if (serve_on(s, "vault-ingress", c->listen_ingress, offer_ingress, err) < 0
        || serve_on(s, "vault-brain", c->listen_brain, offer_brain, err) < 0
        || serve_on(s, "vault-sandbox", c->listen_sandbox, offer_sandbox, err)
               < 0
        || serve_on(s, "vault-egress", c->listen_egress, offer_egress, err) < 0
        || serve_on(s, "vault-admin", c->listen_admin, offer_admin, err) < 0)
        return -1;
    return 0;
}

/* ---- shutdown: sockets, then calls, then the keeper and the database ---- */

static void
on_server_stopped(void *arg)
{
    struct service *s = arg;
    if (++s->n_stopped == s->n_servers)
        ag_loop_stop(s->v.loop);
}

static void
on_term(void *arg)
{
    struct service *s = arg;

    s->is_stopping = s->v.is_stopping = true;
    vault_approval_stop(&s->v);
    vault_incident_stop(&s->v);
    vault_oauth_stop(s->v.oauth);
    ag_log(AG_INFO, "service.stopping",
           AG_I("servers", (long long)s->n_servers));
    for (size_t i = 0; i < s->n_servers; i++)
        ag_rpc_server_stop(s->servers[i], GRACE_MS, on_server_stopped, s);
    if (s->n_servers == 0)
        ag_loop_stop(s->v.loop);
}

static void
release(struct service *s)
{
    for (size_t i = 0; i < s->n_servers; i++)
        ag_rpc_server_free(s->servers[i]);
    ag_rpc_free(s->rpc);
    vault_signer_stop(s->signer);
    vault_rekeyer_stop(s->rekeyer);
    vault_refresher_stop(s->refresher);
    vault_keeper_free(s->v.keeper);
    vault_ca_free(s->ca);
    ag_db_free(s->v.db);
    vault_snapshots_free(s->v.snapshots);
    vault_owners_free(s->v.owners);
    vault_oauth_free(s->v.oauth);
    vault_tenants_watch_free(s->watch);
    vault_use_free(&s->v);
    ag_metrics_free(s->v.metrics);
    vault_signer_free(s->signer);
    vault_rekeyer_free(s->rekeyer);
    vault_expiry_free(s->expiry);
    vault_refresher_free(s->refresher);
    vault_retention_free(s->retention);
    vault_tenants_free(&s->v);
    vault_audit_writer_free(s->v.audit_writer);
    ag_assertion_key_free(s->v.assertion_key);
    ag_buf_release(&s->v.ca_pem);
    vault_deployment_release(&s->v.deployment);
    ag_shapes_release(&s->v.shapes);
    if (s->v.generation != NULL)
        munmap(s->v.generation, sizeof(*s->v.generation));
    ag_loop_free(s->v.loop);
    ag_wipe(s->v.index_key, sizeof(s->v.index_key));
}

/* ---- modes ------------------------------------------------------------- */

/* Loop, database, keeper and tenants: what every mode but `key` needs. */
static int
open_vault(struct service *s, const char *database, int n_conns,
           struct ag_err *err)
{
    struct vault *v = &s->v;

    v->conf = &s->conf;
    v->audit_writer = vault_audit_writer_new(v);
    v->snapshots = vault_snapshots_new();
    v->owners = vault_owners_new();
    v->metrics = vault_metrics_new();
    v->loop = ag_loop_new(err);
    if (v->loop == NULL || ag_loop_on_term(v->loop, on_term, s, err) < 0)
        return -1;
    v->db = ag_db_new(v->loop, database, n_conns, s->conf.db_timeout_ms, err);
    if (v->db == NULL)
        return -1;
    return vault_tenants_load(v, err);
}

/* The schema as whoever starts it (root may be the owner role), the tenant as
 * the service: with the keeper, and as the role that serves. */
static int
migrate(struct service *s, struct ag_err *err)
{
    int applied;

    if (ag_migrate(s->conf.database_owner, "vault", s->conf.sql_dir, &applied,
                   err)
            < 0
        || ag_daemon_confine(s->conf.user, err) < 0)
        return -1;
    if (open_vault(s, s->conf.database, 1, err) < 0)
        return -1;
    return vault_tenant_create(&s->v, ag_str(s->conf.tenant), err);
}

/* `audit verify`, `audit export`: as the service, beside one that serves. */
static int
audit(struct service *s, const char *word, struct ag_err *err)
{
    int64_t findings = 0;

    /* Nobody waits for an answer here, and a page of rows is long. */
    s->conf.db_timeout_ms = 60000;
    if (ag_daemon_confine(s->conf.user, err) < 0
        || open_vault(s, s->conf.database, 1, err) < 0)
        return -1;
    if (strcmp(word, "export") == 0)
        return vault_audit_export(&s->v, err);
    if (vault_audit_verify(&s->v, &findings, err) < 0)
        return -1;
    if (findings > 0)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "the audit does not verify: %lld findings",
                          (long long)findings);
    return 0;
}

static void
forget_secrets(struct service *s)
{
    ag_wipe(s->conf.model_api_key, strlen(s->conf.model_api_key));
    for (char **e = environ; *e != NULL; e++)
        if (strncmp(*e, "CONTAINER_ENV_", 14) == 0
            || strncmp(*e, "MODEL_API_KEY=", 14) == 0)
            ag_wipe(*e + 14, strlen(*e + 14));
}

static int
bring_up(struct service *s, struct ag_err *err)
{
    struct vault *v = &s->v;

    if (vault_deployment_load(s->conf.deployment, &v->deployment, err) < 0
        || vault_shapes_load(s->conf.rules, &v->shapes, err) < 0
        || open_vault(s, s->conf.database, (int)s->conf.db_connections, err) < 0
        || vault_identity_load(v, err) < 0
        || vault_generation_open(v, s->conf.generation, err) < 0)
        return -1;
    struct vault_tenant *tenant = vault_tenant_find(v, AG_STR("default"));
    if (tenant == NULL)
        return ag_err_set(err, AG_ERR_PRECONDITION,
                          "there is no tenant \"default\": run vault_svc "
                          "--migrate");
    if (vault_import(v, tenant, environ, err) < 0)
        return -1;
    forget_secrets(s);
    v->keeper = vault_keeper_new(v->loop, s->conf.keeper);
    s->ca = vault_ca_start(v, err);
    if (s->ca == NULL && err->kind != AG_ERR_NONE)
        return -1;
    s->watch = vault_tenants_watch_start(v);
    s->rekeyer = vault_rekeyer_start(v);
    s->expiry = vault_expiry_start(v);
    s->refresher = vault_refresher_start(v);
    s->retention = vault_retention_start(v);
    s->signer = vault_signer_start(v, err);
    if (s->signer == NULL && err->kind != AG_ERR_NONE)
        return -1;
    v->oauth = vault_oauth_new(v, err);
    if (v->oauth == NULL)
        return -1;
    s->rpc = ag_rpc_new(v->loop, err);
    return s->rpc == NULL ? -1 : serve_all(s, err);
}

static int
serve(struct service *s, struct ag_err *err)
{
    if (bring_up(s, err) < 0)
        return -1;
    ag_log(AG_INFO, "service.started",
           AG_I("tenants", (long long)s->v.n_tenants));
    ag_daemon_ready((int)s->conf.notify_fd);
    /* The signal came while something was waited for at start. */
    if (s->is_stopping)
        on_term(s);
    while (!s->is_stopping || s->n_stopped < s->n_servers)
        ag_loop_run(s->v.loop);
    ag_log(AG_INFO, "service.stopped",
           AG_I("servers", (long long)s->n_servers));
    return 0;
}

static int
run(struct service *s, int argc, char **argv, struct ag_err *err)
{
    enum ag_log_level level = AG_INFO;
    int n_words;

    if (ag_conf_load(&vault_conf_table, argc, argv, &s->conf, &n_words, err)
        < 0)
        return -1;
    ag_clock_shift(s->conf.clock_offset_seconds * 1000000);
    if (ag_log_level_parse(ag_str(s->conf.log_level), &level) < 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "log_level: \"%s\" is none of debug, info, warn, "
                          "error",
                          s->conf.log_level);
    ag_log_init("vault", level);
    if (n_words == 2 && strcmp(argv[0], "key") == 0
        && strcmp(argv[1], "create") == 0)
        return vault_command_key_create(&s->conf, err);
    if (n_words == 1 && strcmp(argv[0], "rekey") == 0)
        return vault_command_rekey(&s->conf, err);
    if (n_words >= 3 && n_words <= 6 && strcmp(argv[0], "explain") == 0)
        return vault_command_explain(&s->conf, argv + 1, n_words - 1, err);
    if (n_words == 2 && strcmp(argv[0], "audit") == 0
        && (strcmp(argv[1], "verify") == 0 || strcmp(argv[1], "export") == 0))
        return audit(s, argv[1], err);
    if (n_words != 0)
        return ag_err_set(
            err, AG_ERR_INVALID,
            "unknown command \"%s\"; there are `key create`, "
            "`rekey`, `explain`, `audit verify` and `audit export`",
            argv[0]);
    if (s->conf.migrate)
        return migrate(s, err);
    if (ag_daemon_confine(s->conf.user, err) < 0)
        return -1;
    return serve(s, err);
}

int
main(int argc, char **argv)
{
    static struct service s;
    struct ag_err err = AG_ERR_INIT;

    ag_log_init("vault", AG_INFO);
    int rc = run(&s, argc, argv, &err);
    if (rc < 0)
        ag_log(AG_ERROR, "service.failed", AG_E(&err));
    /* A failed start leaves what it made to the kernel: servers that are
     * half up cannot be stopped in order. */
    if (rc == 0)
        release(&s);
    vault_conf_release(&s.conf);
    return rc == 0 ? 0 : 1;
}
