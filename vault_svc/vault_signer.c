/*
 * Signs the heads. On the loop: one tenant at a time asks the keeper; when all
 * that changed are signed, the file is written by a worker thread. Before the
 * first signature of a tenant in this process its chain must lead to the head
 * that was signed last.
 */
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/workq.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_file.h"
#include "vault_svc/vault_head.h"

struct vault_signer {
    struct vault *v;
    struct ag_workq *workq;
    struct ag_timer timer;
    struct vault_heads heads; /* as in the file, or about to be */
    struct vault_head next;   /* that the keeper signs */
    struct ag_job job;
    struct ag_buf text;
    struct ag_err write_err;
    size_t at; /* tenant that is looked at */
    bool has_changed, is_stopped;
};

static void look(struct vault_signer *s);

static void
rest(struct vault_signer *s)
{
    if (!s->is_stopped)
        ag_timer_start(s->v->loop, &s->timer, s->v->conf->audit_head_ms);
}

/* ---- writing ----------------------------------------------------------- */

static struct vault_signer *
of_job(struct ag_job *job)
{
    return (
        struct vault_signer *)(void *)((char *)job
                                       - offsetof(struct vault_signer, job));
}

static void
write_work(struct ag_job *job)
{
    struct vault_signer *s = of_job(job);

    memset(&s->write_err, 0, sizeof(s->write_err));
    vault_file_write(s->v->conf->audit_heads, ag_buf_str(&s->text), 0600, false,
                     &s->write_err);
}

static void
write_done(struct ag_job *job)
{
    struct vault_signer *s = of_job(job);

    if (s->write_err.kind != AG_ERR_NONE)
        ag_log(AG_ERROR, "audit.head_failed", AG_E(&s->write_err));
    else
        s->has_changed = false;
    rest(s);
}

static void
write_file(struct vault_signer *s)
{
    struct ag_err err = AG_ERR_INIT;

    ag_buf_clear(&s->text);
    vault_heads_write(&s->heads, &s->text);
    s->job.work = write_work;
    s->job.done = write_done;
    if (ag_workq_submit(s->workq, &s->job, &err) < 0)
        rest(s);
}

/* ---- signing ----------------------------------------------------------- */

static void
go_on(struct vault_signer *s)
{
    s->at++;
    look(s);
}

static void
on_signed(void *arg, const struct keeper_msg *reply, const struct ag_err *err)
{
    struct vault_signer *s = arg;
    struct vault_head *h;

    if (s->is_stopped)
        return;
    if (reply == NULL || reply->a.n != sizeof(s->next.signature)) {
        if (err != NULL)
            ag_log(AG_ERROR, "audit.head_failed", AG_E(err));
        go_on(s);
        return;
    }
    memcpy(s->next.signature, reply->a.p, reply->a.n);
    h = vault_heads_find(&s->heads, ag_str(s->next.tenant));
    if (h == NULL) {
        s->heads.v =
            ag_xrealloc(s->heads.v, (s->heads.n + 1) * sizeof(*s->heads.v));
        h = &s->heads.v[s->heads.n++];
    }
    *h = s->next;
    s->has_changed = true;
    go_on(s);
}

/* False when there is nothing new to sign. */
static bool
sign(struct vault_signer *s, struct vault_tenant *t)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(512);
    const struct vault_head *h = vault_heads_find(&s->heads, ag_str(t->name));
    struct vault_head *n = &s->next;

    *n = (struct vault_head){.signed_us = ag_now_us()};
    memcpy(n->tenant, t->name, sizeof(n->tenant));
    if (!vault_chain_head(t->chain, &n->seq, n->mac) || n->seq < 1
        || (h != NULL && h->seq >= n->seq))
        return false;
    vault_head_text(n, &text);
    vault_keeper_ask(s->v->keeper, KEEPER_SIGN_HEAD, ag_buf_str(&text),
                     (ag_str_t){NULL, 0}, on_signed, s);
    return true;
}

static void
on_last(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_signer *s = arg;
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();

    (void)err;
    if (s->is_stopped)
        return;
    struct vault_tenant *t = s->v->tenants[s->at];
    const struct vault_head *h = vault_heads_find(&s->heads, ag_str(t->name));
    if (res == NULL) {
        go_on(s);
        return;
    }
    if (ag_db_rows(res) == 1
        && ag_str_eq(ag_db_get_bytes(res, 0, 0, arena),
                     ag_str_n(h->mac, sizeof(h->mac)))) {
        t->head_state = VAULT_HEAD_GOOD;
        if (!sign(s, t))
            go_on(s);
        return;
    }
    t->head_state = VAULT_HEAD_BAD;
    ag_log(AG_ERROR, "audit.rolled_back", AG_S("tenant", t->name),
           AG_I("seq", h->seq));
    go_on(s);
}

/* Does the chain lead to what was signed before this process? */
static void
check_last(struct vault_signer *s, struct vault_tenant *t,
           const struct vault_head *h)
{
    static const char sql[] = "SELECT mac FROM vault.audit WHERE seq = $1";
    struct ag_db_param params[] = {ag_db_int(h->seq)};
    ag_db_query(s->v->db, ag_str(t->name), sql, params, 1, on_last, s);
}

/* False when nothing is asked for this tenant. */
static bool
step(struct vault_signer *s)
{
    struct vault_tenant *t = s->v->tenants[s->at];
    const struct vault_head *h = vault_heads_find(&s->heads, ag_str(t->name));

    if (t->head_state == VAULT_HEAD_BAD)
        return false;
    if (t->head_state == VAULT_HEAD_UNKNOWN && h != NULL) {
        check_last(s, t, h);
        return true;
    }
    return sign(s, t);
}

static void
look(struct vault_signer *s)
{
    for (; s->at < s->v->n_tenants; s->at++)
        if (step(s))
            return;
    if (s->has_changed)
        write_file(s);
    else
        rest(s);
}

static void
on_timer(struct ag_timer *timer)
{
    struct vault_signer *s =
        (struct vault_signer *)(void *)((char *)timer
                                        - offsetof(struct vault_signer, timer));
    s->at = 0;
    look(s);
}

struct vault_signer *
vault_signer_start(struct vault *v, struct ag_err *err)
{
    struct vault_heads heads;

    if (*v->conf->audit_heads == '\0')
        return NULL;
    if (vault_heads_load(v->conf->audit_heads, &heads, err) < 0) {
        vault_heads_release(&heads);
        return NULL;
    }
    struct ag_workq *q = ag_workq_new(v->loop, 1, 4, err);
    if (q == NULL) {
        vault_heads_release(&heads);
        return NULL;
    }
    struct vault_signer *s = ag_xcalloc(1, sizeof(*s));
    s->v = v;
    s->workq = q;
    s->heads = heads;
    s->timer.fn = on_timer;
    ag_buf_init(&s->text, VAULT_HEAD_FILE_MAX);
    ag_timer_start(v->loop, &s->timer, v->conf->audit_head_ms);
    return s;
}

void
vault_signer_stop(struct vault_signer *s)
{
    if (s == NULL)
        return;
    s->is_stopped = true;
    ag_timer_stop(s->v->loop, &s->timer);
}

void
vault_signer_free(struct vault_signer *s)
{
    if (s == NULL)
        return;
    ag_workq_free(s->workq);
    vault_heads_release(&s->heads);
    ag_buf_release(&s->text);
    free(s);
}
