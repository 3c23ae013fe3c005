/* One query for every tenant, one line of the log for each credential. */
#include "vault_svc/vault_expiry.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "vault_svc/vault_metrics.h"

enum { FIRST_MS = 2000 };

#define DAY_US (INT64_C(24) * 3600 * 1000000)

struct vault_expiry {
    struct vault *v;
    struct ag_timer timer;
};

static void
on_expiring(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    const struct vault_expiry *e = arg;
    int64_t now = ag_now_us();
    int n_soon = 0, n_expired = 0;

    (void)err; /* the database says so itself */
    for (int i = 0; res != NULL && i < ag_db_rows(res); i++) {
        int64_t left = ag_db_get_int(res, i, 2) - now;
        n_soon += left > 0;
        n_expired += left <= 0;
        if (left > 0)
            ag_log(AG_WARN, "credential.expires_soon",
                   AG_V("tenant", ag_db_get(res, i, 0)),
                   AG_V("credential", ag_db_get(res, i, 1)),
                   AG_I("days", left / DAY_US));
        else
            ag_log(AG_WARN, "credential.has_expired",
                   AG_V("tenant", ag_db_get(res, i, 0)),
                   AG_V("credential", ag_db_get(res, i, 1)),
                   AG_I("days", -left / DAY_US));
    }
    if (res == NULL)
        return;
    ag_metrics_set(e->v->metrics, VAULT_METRIC_EXPIRING, "soon", NULL, n_soon);
    ag_metrics_set(e->v->metrics, VAULT_METRIC_EXPIRING, "expired", NULL,
                   n_expired);
}

static void
on_timer(struct ag_timer *timer)
{
    static const char sql[] = "SELECT tenant, id, expires_us FROM"
                              " vault.credentials_expiring($1)";
    struct vault_expiry *e =
        (struct vault_expiry *)(void *)((char *)timer
                                        - offsetof(struct vault_expiry, timer));
    struct ag_db_param params[] = {
        ag_db_int(ag_now_us() + e->v->conf->expiry_warning_days * DAY_US)};

    if (e->v->is_stopping)
        return;
    ag_db_query(e->v->db, AG_STR(""), sql, params, 1, on_expiring, e);
    ag_timer_start(e->v->loop, &e->timer, e->v->conf->expiry_check_ms);
}

struct vault_expiry *
vault_expiry_start(struct vault *v)
{
    struct vault_expiry *e;

    if (v->conf->expiry_warning_days == 0)
        return NULL;
    e = ag_xcalloc(1, sizeof(*e));
    e->v = v;
    e->timer.fn = on_timer;
    ag_timer_start(v->loop, &e->timer,
                   v->conf->expiry_check_ms < FIRST_MS
                       ? v->conf->expiry_check_ms
                       : FIRST_MS);
    return e;
}

void
vault_expiry_free(struct vault_expiry *e)
{
    if (e == NULL)
        return;
    ag_timer_stop(e->v->loop, &e->timer);
    free(e);
}
