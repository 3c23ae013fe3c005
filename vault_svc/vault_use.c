/* A small table that is emptied by a timer. Loop's thread only. */
#include "vault_svc/vault_use.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/id.h"
#include "lib/log.h"

enum { NOTES_MAX = 1024 };

struct note {
    const struct vault_tenant *tenant;
    char id[AG_ID_TEXT];
    int64_t last_us, uses;
};

struct vault_uses {
    struct vault *v;
    struct ag_timer timer;
    bool is_waiting; /* for the timer */
    size_t n;
    struct note notes[NOTES_MAX];
};

static void
on_written(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    (void)arg;
    if (res == NULL)
        ag_log(AG_WARN, "use.write_failed", AG_E(err));
}

static void
write_tenant(struct vault *v, const struct vault_tenant *tenant,
             const struct note *notes, size_t n)
{
    static const char sql[] =
        "INSERT INTO vault.credential_use AS u (credential_id, tenant,"
        " last_used_us, uses)"
        " SELECT c.id, $1, r.at, r.n"
        " FROM json_to_recordset($2::json) AS r(c text, at bigint, n bigint)"
        " JOIN vault.credential c ON c.id = r.c"
        " ON CONFLICT (credential_id) DO UPDATE SET uses = u.uses"
        " + excluded.uses, last_used_us = excluded.last_used_us";
    AG_AUTO(ag_buf_release) struct ag_buf rows = AG_BUF_INIT(1 << 20);
    ag_str_t name = ag_str(tenant->name);

    for (size_t i = 0; i < n; i++)
        if (notes[i].tenant == tenant)
            ag_buf_addf(&rows, "%s{\"c\":\"%s\",\"at\":%lld,\"n\":%lld}",
                        rows.n == 0 ? "[" : ",", notes[i].id,
                        (long long)notes[i].last_us, (long long)notes[i].uses);
    if (rows.n == 0)
        return;
    ag_buf_addc(&rows, ']');
    struct ag_db_param params[] = {ag_db_str(name),
                                   ag_db_str(ag_buf_str(&rows))};
    ag_db_query(v->db, name, sql, params, 2, on_written, NULL);
}

static void
flush(struct vault_uses *u)
{
    for (size_t i = 0; i < u->v->n_tenants; i++)
        write_tenant(u->v, u->v->tenants[i], u->notes, u->n);
    u->n = 0;
}

static void
on_timer(struct ag_timer *timer)
{
    struct vault_uses *u =
        (struct vault_uses *)(void *)((char *)timer
                                      - offsetof(struct vault_uses, timer));
    u->is_waiting = false;
    flush(u);
}

void
vault_use_note(struct vault *v, const struct vault_tenant *tenant,
               ag_str_t credential_id)
{
    struct vault_uses *u = v->uses;
    size_t i = 0;

    if (credential_id.n == 0 || credential_id.n >= AG_ID_TEXT)
        return;
    if (u == NULL) {
        u = v->uses = ag_xcalloc(1, sizeof(*u));
        u->v = v;
        u->timer.fn = on_timer;
    }
    while (i < u->n && !ag_str_is(credential_id, u->notes[i].id))
        i++;
    if (i == NOTES_MAX) {
        flush(u);
        i = 0;
    }
    struct note *note = &u->notes[i];
    if (i == u->n) {
        *note = (struct note){.tenant = tenant};
        memcpy(note->id, credential_id.p, credential_id.n);
        u->n++;
    }
    note->last_us = ag_now_us();
    note->uses++;
    if (!u->is_waiting) {
        u->is_waiting = true;
        ag_timer_start(v->loop, &u->timer, v->conf->use_flush_ms);
    }
}

void
vault_use_free(struct vault *v)
{
    if (v->uses == NULL)
        return;
    ag_timer_stop(v->loop, &v->uses->timer);
    free(v->uses);
    v->uses = NULL;
}
