/*
 * Writing the audit chains. Runs on the loop. Rows of all tenants that
 * wait when the database is free go out in one batch, one commit. A chain is in
 * one batch at a time, so its rows commit in the order of their numbers and it
 * never forks. A batch that the database refuses is written again tenant by
 * tenant, so that one chain's trouble is not another's.
 */
#include "vault_svc/vault_audit.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/id.h"
#include "lib/log.h"
#include "vault_svc/vault_metrics.h"

enum { BATCH_MAX = 100, FIELD_MAX = 1024 };

struct entry {
    struct entry *next;
    char id[AG_ID_TEXT];
    struct vault_audit_row row; /* strings point into `text` */
    char *text;
    vault_audit_done *done;
    void *arg;
};

struct list {
    struct entry *head, **tail;
    size_t n;
};

/* What a chain does; it is in at most one list of chains. */
enum chain_state {
    CHAIN_RESTS,
    CHAIN_READS, /* its head */
    CHAIN_READY, /* rows wait for the next batch */
    CHAIN_WRITES,
};

struct vault_chain {
    struct vault *v;
    struct vault_tenant *tenant;
    enum chain_state state;
    bool is_head_known;
    int64_t seq; /* of the last committed row */
    unsigned char mac[VAULT_MAC_BYTES];
    unsigned char next_mac[VAULT_MAC_BYTES]; /* after the batch in flight */
    struct list waiting, batch;
    struct vault_chain *next; /* in a list of chains */
};

struct chains {
    struct vault_chain *head, **tail;
};

/* One a process. */
struct vault_audit_writer {
    struct vault *v;
    struct chains ready;  /* rows wait */
    struct chains alone;  /* refused in a batch of several: one by one */
    struct chains flight; /* of the batch that is being written */
    bool is_writing, is_posted;
    struct ag_task task;
};

static void pump(struct vault_chain *c);
static void write_next(struct vault_audit_writer *w);

struct vault_chain *
vault_chain_new(void)
{
    struct vault_chain *c = ag_xcalloc(1, sizeof(*c));
    c->waiting.tail = &c->waiting.head;
    c->batch.tail = &c->batch.head;
    return c;
}

struct vault_audit_writer *
vault_audit_writer_new(struct vault *v)
{
    struct vault_audit_writer *w = ag_xcalloc(1, sizeof(*w));
    w->v = v;
    return w;
}

void
vault_audit_writer_free(struct vault_audit_writer *w)
{
    free(w);
}

static void
list_push(struct list *l, struct entry *e)
{
    e->next = NULL;
    *l->tail = e;
    l->tail = &e->next;
    l->n++;
}

static struct entry *
list_shift(struct list *l)
{
    struct entry *e = l->head;
    if (e == NULL)
        return NULL;
    l->head = e->next;
    if (l->head == NULL)
        l->tail = &l->head;
    l->n--;
    return e;
}

static void
finish(struct list *l, const struct ag_err *err)
{
    struct list taken = *l;
    struct entry *e;

    if (taken.head == NULL)
        return;
    *l = (struct list){NULL, &l->head, 0};
    while ((e = taken.head) != NULL) {
        taken.head = e->next;
        if (e->done != NULL)
            e->done(e->arg, err == NULL ? e->id : NULL, err);
        free(e->text);
        free(e);
    }
}

void
vault_chain_free(struct vault_chain *chain)
{
    struct ag_err err = {AG_ERR_CANCELLED, 0, "shutting down"};

    if (chain == NULL)
        return;
    finish(&chain->batch, &err);
    finish(&chain->waiting, &err);
    free(chain);
}

bool
vault_chain_head(const struct vault_chain *chain, int64_t *seq,
                 unsigned char mac[VAULT_MAC_BYTES])
{
    if (!chain->is_head_known)
        return false;
    *seq = chain->seq;
    memcpy(mac, chain->mac, VAULT_MAC_BYTES);
    return true;
}

void
vault_audit_mac(const struct vault_keyring *ring,
                const struct vault_audit_row *row,
                const unsigned char prev[VAULT_MAC_BYTES],
                unsigned char out[VAULT_MAC_BYTES])
{
    AG_AUTO(ag_buf_release) struct ag_buf msg = AG_BUF_INIT(1 << 20);
    vault_field(&msg, AG_STR("brainbox-audit-v1"));
    vault_field(&msg, row->tenant);
    vault_field_int(&msg, row->seq);
    vault_field(&msg, row->id);
    vault_field_int(&msg, row->created_us);
    vault_field(&msg, row->action);
    vault_field(&msg, row->subject);
    vault_field(&msg, row->object);
    vault_field(&msg, row->session_id);
    vault_field(&msg, row->detail);
    vault_field(&msg, ag_str_n(prev, VAULT_MAC_BYTES));
    vault_hmac(ring->mac, ag_buf_str(&msg), out);
}

static void
add_json_row(struct ag_buf *b, const struct vault_audit_row *r,
             const unsigned char mac[VAULT_MAC_BYTES])
{
    const struct {
        const char *key;
        ag_str_t v;
    } texts[] = {{"tenant", r->tenant}, {"id", r->id},
                 {"action", r->action}, {"subject", r->subject},
                 {"object", r->object}, {"session", r->session_id},
                 {"detail", r->detail}};

    ag_buf_addf(b, "{\"seq\":%lld,\"at\":%lld", (long long)r->seq,
                (long long)r->created_us);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ag_buf_addf(b, ",\"%s\":", texts[i].key);
        ag_buf_add_json(b, texts[i].v);
    }
    ag_buf_add(b, AG_STR(",\"mac\":\""));
    ag_buf_add_hex(b, ag_str_n(mac, VAULT_MAC_BYTES));
    ag_buf_add(b, AG_STR("\"}"));
}

static void
count_batch(const struct vault_chain *c, bool is_written)
{
    ag_metrics_add(c->v->metrics, VAULT_METRIC_AUDIT_BATCHES,
                   is_written ? "written" : "failed", NULL, 1);
    for (const struct entry *e = c->batch.head; is_written && e != NULL;
         e = e->next) {
        char action[64];

        (void)snprintf(action, sizeof(action), "%.*s", AG_FMT(e->row.action));
        ag_metrics_add(c->v->metrics, VAULT_METRIC_AUDIT_ROWS, action, NULL, 1);
    }
}

static void
chains_push(struct chains *l, struct vault_chain *c)
{
    c->next = NULL;
    if (l->head == NULL)
        l->tail = &l->head;
    *l->tail = c;
    l->tail = &c->next;
}

static struct vault_chain *
chains_shift(struct chains *l)
{
    struct vault_chain *c = l->head;

    if (c != NULL)
        l->head = c->next;
    return c;
}

/* Its rows are committed, or nobody knows, or they are refused for good. */
static void
settle(struct vault_chain *c, const struct ag_err *err)
{
    struct ag_err unavailable = {AG_ERR_UNAVAILABLE, 0,
                                 "the audit row was not written"};

    c->state = CHAIN_RESTS;
    count_batch(c, err == NULL);
    if (err == NULL) {
        c->seq += (int64_t)c->batch.n;
        memcpy(c->mac, c->next_mac, sizeof(c->mac));
    } else {
        c->is_head_known = false;
        ag_log(AG_ERROR, "audit.write_failed", AG_S("tenant", c->tenant->name),
               AG_I("rows", (long long)c->batch.n), AG_E(err));
    }
    finish(&c->batch, err == NULL ? NULL : &unavailable);
    pump(c);
}

static void
on_written(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_audit_writer *w = arg;
    struct chains flight = w->flight;
    struct vault_chain *c;
    /* Refused, so nothing of it is there. */
    bool splits = res == NULL && err->kind != AG_ERR_UNAVAILABLE
                  && flight.head->next != NULL;

    w->is_writing = false;
    w->flight = (struct chains){NULL, NULL};
    while ((c = chains_shift(&flight)) != NULL)
        if (splits)
            chains_push(&w->alone, c);
        else
            settle(c, res != NULL ? NULL : err);
    write_next(w);
}

/* What waits, up to `room` rows. */
static void
fill_batch(struct vault_chain *c, size_t room)
{
    struct entry *e;

    for (; room > 0 && (e = list_shift(&c->waiting)) != NULL; room--)
        list_push(&c->batch, e);
}

/* Numbered and MACed behind the last committed row. */
static void
add_rows(struct vault_chain *c, struct ag_buf *rows)
{
    int64_t seq = c->seq;

    memcpy(c->next_mac, c->mac, sizeof(c->mac));
    for (struct entry *e = c->batch.head; e != NULL; e = e->next) {
        unsigned char mac[VAULT_MAC_BYTES];
        e->row.seq = ++seq;
        vault_audit_mac(&c->tenant->ring, &e->row, c->next_mac, mac);
        memcpy(c->next_mac, mac, sizeof(mac));
        ag_buf_addc(rows, rows->n == 0 ? '[' : ',');
        add_json_row(rows, &e->row, mac);
    }
}

static void
write_flight(struct vault_audit_writer *w)
{
    static const char sql[] = "SELECT vault.audit_append($1::json)";
    AG_AUTO(ag_buf_release) struct ag_buf rows = AG_BUF_INIT(8 << 20);

    for (struct vault_chain *c = w->flight.head; c != NULL; c = c->next)
        add_rows(c, &rows);
    ag_buf_addc(&rows, ']');
    struct ag_db_param params[] = {ag_db_str(ag_buf_str(&rows))};
    w->is_writing = true;
    ag_db_query(w->v->db, AG_STR(""), sql, params, 1, on_written, w);
}

/* The next batch, when none is in flight. */
static void
write_next(struct vault_audit_writer *w)
{
    struct vault_chain *c;
    size_t n = 0;

    if (w->is_writing)
        return;
    if ((c = chains_shift(&w->alone)) != NULL)
        chains_push(&w->flight, c);
    else
        while (n < BATCH_MAX && (c = chains_shift(&w->ready)) != NULL) {
            c->state = CHAIN_WRITES;
            fill_batch(c, BATCH_MAX - n);
            n += c->batch.n;
            chains_push(&w->flight, c);
        }
    if (w->flight.head != NULL)
        write_flight(w);
}

static void
on_task(struct ag_task *task)
{
    struct vault_audit_writer *w =
        (struct vault_audit_writer *)(void *)((char *)task
                                              - offsetof(
                                                  struct vault_audit_writer,
                                                  task));
    w->is_posted = false;
    write_next(w);
}

/* Behind whatever else this turn of the loop brings, so that what comes
 * together is written together. */
static void
post(struct vault_audit_writer *w)
{
    if (w->is_posted || w->is_writing)
        return;
    w->is_posted = true;
    w->task.fn = on_task;
    ag_loop_post(w->v->loop, &w->task);
}

static void
on_head(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_chain *c = arg;

    c->state = CHAIN_RESTS;
    if (res == NULL) {
        struct ag_err e = *err;
        e.kind = AG_ERR_UNAVAILABLE;
        finish(&c->waiting, &e);
        return;
    }
    memset(c->mac, 0, sizeof(c->mac));
    c->seq = 0;
    if (ag_db_rows(res) == 1) {
        AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
        ag_str_t mac = ag_db_get_bytes(res, 0, 1, arena);
        c->seq = ag_db_get_int(res, 0, 0);
        if (mac.n == sizeof(c->mac))
            memcpy(c->mac, mac.p, mac.n);
    }
    c->is_head_known = true;
    pump(c);
}

static void
pump(struct vault_chain *c)
{
    static const char sql[] = "SELECT seq, mac FROM vault.audit"
                              " ORDER BY seq DESC LIMIT 1";

    if (c->state != CHAIN_RESTS || c->waiting.n == 0)
        return;
    if (c->is_head_known) {
        c->state = CHAIN_READY;
        chains_push(&c->v->audit_writer->ready, c);
        post(c->v->audit_writer);
        return;
    }
    c->state = CHAIN_READS;
    ag_db_query(c->v->db, ag_str(c->tenant->name), sql, NULL, 0, on_head, c);
}

/* A copy that a database and a log reader can take: no control bytes. */
static ag_str_t
copy_field(char **at, ag_str_t s)
{
    size_t n = s.n > FIELD_MAX ? FIELD_MAX : s.n;
    char *p = *at;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        p[i] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    *at += n;
    return ag_str_n(p, n);
}

static struct entry *
entry_new(struct vault_tenant *tenant, const struct vault_audit_entry *in)
{
    struct entry *e = ag_xcalloc(1, sizeof(*e));
    char *at = e->text = ag_xmalloc(5 * FIELD_MAX);

    ag_id_new("aud", e->id);
    e->row.id = ag_str(e->id);
    e->row.tenant = ag_str(tenant->name);
    e->row.created_us = ag_now_us();
    e->row.action = copy_field(&at, ag_str(in->action));
    e->row.subject = copy_field(&at, in->subject);
    e->row.object = copy_field(&at, in->object);
    e->row.session_id = copy_field(&at, in->session_id);
    bool fits = in->detail_json.n > 0 && in->detail_json.n <= FIELD_MAX;
    e->row.detail = copy_field(&at, fits ? in->detail_json : AG_STR("{}"));
    return e;
}

void
vault_audit_add(struct vault *v, struct vault_tenant *tenant,
                const struct vault_audit_entry *entry, vault_audit_done *done,
                void *arg)
{
    struct vault_chain *c = tenant->chain;
    struct entry *e = entry_new(tenant, entry);

    c->v = v;
    c->tenant = tenant;
    e->done = done;
    e->arg = arg;
    list_push(&c->waiting, e);
    pump(c);
}
