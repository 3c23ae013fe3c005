/*
 * One statement for many snapshots, so that sessions in use cost the database
 * a look at where their rows are, and no request waits for it.
 */
#include "vault_svc/vault_refresh.h"

#include <stdlib.h>

#include "lib/clock.h"

enum { AT_ONCE = 32, TICKS = 8 };

/* What one query asks for. */
struct refresh {
    struct vault *v;
    struct vault_snapshot *list[AT_ONCE];
    size_t n;
    int64_t asked_us;
    uint64_t changes;
    void (*done)(void *arg);
    void *arg;
};

struct vault_refresher {
    struct vault *v;
    struct ag_timer timer;
    bool is_stopped, has_more;
};

static void
on_marks(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct refresh *f = arg;

    (void)err; /* what was not asked for grows old, and is read by a request */
    for (int i = 0; res != NULL && i < ag_db_rows(res); i++) {
        int64_t at = ag_db_get_int(res, i, 0);
        if (at >= 0 && at < (int64_t)f->n)
            vault_snapshot_marked(f->v, f->list[at], ag_db_get(res, i, 1),
                                  f->asked_us, f->changes);
    }
    for (size_t i = 0; i < f->n; i++)
        vault_snapshot_unref(f->list[i]);
    f->done(f->arg);
    free(f);
}

static void
add_member(struct ag_buf *b, const char *key, ag_str_t v)
{
    if (v.n == 0)
        return;
    ag_buf_addf(b, ",\"%s\":", key);
    ag_buf_add_json(b, v);
}

static void
ask(struct refresh *f)
{
    static const char sql[] = "SELECT r.n, vault.session_mark(r.s, r.w, r.e)"
                              " FROM json_to_recordset($1::json)"
                              " AS r(n integer, s text, w text, e text)";
    AG_AUTO(ag_buf_release) struct ag_buf rows = AG_BUF_INIT(1 << 20);

    for (size_t i = 0; i < f->n; i++) {
        const struct vault_session *s = &f->list[i]->session;
        ag_buf_addf(&rows, "%c{\"n\":%zu", i == 0 ? '[' : ',', i);
        add_member(&rows, "s", s->grant.session_id);
        if (s->has_workload)
            add_member(&rows, "w", s->workload.id);
        add_member(&rows, "e", s->environment_id);
        ag_buf_addc(&rows, '}');
    }
    ag_buf_addc(&rows, ']');
    struct ag_db_param params[] = {ag_db_str(ag_buf_str(&rows))};
    f->asked_us = ag_mono_us();
    f->changes = f->v->changes;
    ag_db_query(f->v->db, AG_STR(""), sql, params, 1, on_marks, f);
}

static struct refresh *
refresh_new(struct vault *v, void (*done)(void *arg), void *arg)
{
    struct refresh *f = ag_xcalloc(1, sizeof(*f));

    f->v = v;
    f->done = done;
    f->arg = arg;
    return f;
}

bool
vault_refresh_one(struct vault *v, ag_str_t key, void (*done)(void *arg),
                  void *arg)
{
    struct vault_snapshot *s = vault_snapshot_kept(v, key);

    if (s == NULL)
        return false;
    struct refresh *f = refresh_new(v, done, arg);
    f->list[f->n++] = s;
    ask(f);
    return true;
}

/* ---- by itself --------------------------------------------------------- */

static void
rest(void *arg)
{
    struct vault_refresher *r = arg;
    int64_t ms = r->has_more ? 1 : r->v->conf->snapshot_ms / TICKS;

    if (!r->is_stopped)
        ag_timer_start(r->v->loop, &r->timer, ms < 1 ? 1 : ms);
}

static void
on_timer(struct ag_timer *timer)
{
    struct vault_refresher *r =
        (struct vault_refresher *)(void *)((char *)timer
                                           - offsetof(struct vault_refresher,
                                                      timer));
    struct refresh *f = refresh_new(r->v, rest, r);

    f->n = vault_snapshot_aged(r->v, r->v->conf->snapshot_ms * 500, f->list,
                               AT_ONCE);
    r->has_more = f->n == AT_ONCE;
    if (f->n > 0) {
        ask(f);
        return;
    }
    free(f);
    rest(r);
}

struct vault_refresher *
vault_refresher_start(struct vault *v)
{
    if (v->conf->snapshot_ms == 0)
        return NULL;
    struct vault_refresher *r = ag_xcalloc(1, sizeof(*r));
    r->v = v;
    r->timer.fn = on_timer;
    rest(r);
    return r;
}

void
vault_refresher_stop(struct vault_refresher *r)
{
    if (r == NULL)
        return;
    r->is_stopped = true;
    ag_timer_stop(r->v->loop, &r->timer);
}

void
vault_refresher_free(struct vault_refresher *r)
{
    free(r);
}
