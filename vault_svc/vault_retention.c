/* One tenant after the other: look, say so in the chain, take out. */
#include "vault_svc/vault_retention.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "vault_svc/vault_audit.h"

enum { ROWS_AT_ONCE = 10000, FIRST_MS = 5000 };

#define DAY_US (INT64_C(24) * 3600 * 1000000)

struct vault_retention {
    struct vault *v;
    struct ag_timer timer;
    size_t next; /* tenant */
    int64_t through;
};

static void look(struct vault_retention *r);

static void
go_on(struct vault_retention *r)
{
    r->next++;
    look(r);
}

static void
on_pruned(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_retention *r = arg;

    if (err == NULL)
        ag_log(AG_INFO, "audit.pruned",
               AG_S("tenant", r->v->tenants[r->next]->name),
               AG_I("through", r->through),
               AG_I("rows", ag_db_get_int(res, 0, 0)));
    go_on(r);
}

/* The chain says what goes: now it may. */
static void
on_said(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct vault_retention *r = arg;
    ag_str_t tenant = ag_str(r->v->tenants[r->next]->name);

    (void)err; /* told by the audit itself; the next pass tries again */
    if (audit_id == NULL || r->v->is_stopping) {
        go_on(r);
        return;
    }
    struct ag_db_param params[] = {ag_db_str(tenant), ag_db_int(r->through)};
    ag_db_query(r->v->db, tenant, "SELECT vault.audit_prune($1, $2::bigint)",
                params, 2, on_pruned, r);
}

static void
on_old(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_retention *r = arg;
    struct vault_tenant *tenant = r->v->tenants[r->next];
    char detail[160];

    if (err != NULL || ag_db_rows(res) == 0 || r->v->is_stopping) {
        go_on(r);
        return;
    }
    r->through = ag_db_get_int(res, 0, 0);
    (void)snprintf(detail, sizeof(detail),
                   "{\"through\":%lld,\"mac\":\"%.*s\"}", (long long)r->through,
                   AG_FMT(ag_db_get(res, 0, 1)));
    struct vault_audit_entry e = {"audit.pruned", AG_STR("vault"),
                                  AG_STR("audit"), AG_STR(""), ag_str(detail)};
    vault_audit_add(r->v, tenant, &e, on_said, r);
}

/* The oldest rows of the next tenant; its last one always stays. */
static void
look(struct vault_retention *r)
{
    static const char sql[] =
        "SELECT seq, encode(mac, 'hex') FROM (SELECT seq, mac, created_us"
        " FROM vault.audit WHERE seq < (SELECT max(seq) FROM vault.audit)"
        " ORDER BY seq LIMIT $2::bigint) a WHERE created_us < $1::bigint"
        " ORDER BY seq DESC LIMIT 1";
    struct vault *v = r->v;

    if (r->next >= v->n_tenants || v->is_stopping) {
        ag_timer_start(v->loop, &r->timer, v->conf->audit_retention_check_ms);
        return;
    }
    struct ag_db_param params[] = {
        ag_db_int(ag_now_us() - v->conf->audit_retention_days * DAY_US),
        ag_db_int(ROWS_AT_ONCE)};
    ag_db_query(v->db, ag_str(v->tenants[r->next]->name), sql, params, 2,
                on_old, r);
}

static void
on_timer(struct ag_timer *timer)
{
    struct vault_retention *r =
        (struct vault_retention *)(void *)((char *)timer
                                           - offsetof(struct vault_retention,
                                                      timer));

    if (r->v->is_stopping)
        return;
    r->next = 0;
    look(r);
}

struct vault_retention *
vault_retention_start(struct vault *v)
{
    struct vault_retention *r;

    if (v->conf->audit_retention_days == 0)
        return NULL;
    r = ag_xcalloc(1, sizeof(*r));
    r->v = v;
    r->timer.fn = on_timer;
    ag_timer_start(v->loop, &r->timer,
                   v->conf->audit_retention_check_ms < FIRST_MS
                       ? v->conf->audit_retention_check_ms
                       : FIRST_MS);
    return r;
}

void
vault_retention_free(struct vault_retention *r)
{
    if (r == NULL)
        return;
    ag_timer_stop(r->v->loop, &r->timer);
    free(r);
}
