/*
 * Writing and listing the audit chain. Runs on the loop's thread. At most one
 * batch of a tenant is in flight, so rows commit in the order of their numbers
 * and the chain never forks.
 */
#include "vault_svc/vault_audit.h"

#include "vault_svc/vault_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_page.h"

enum { BATCH_MAX = 100, WAITING_MAX = 8192, FIELD_MAX = 1024 };

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

struct vault_chain {
    struct vault *v;
    struct vault_tenant *tenant;
    bool is_head_known, is_busy;
    int64_t seq; /* of the last committed row */
    unsigned char mac[VAULT_MAC_BYTES];
    unsigned char next_mac[VAULT_MAC_BYTES]; /* after the batch in flight */
    struct list waiting, batch;
    struct ag_task task;
};

static void pump(struct vault_chain *c);

struct vault_chain *
vault_chain_new(void)
{
    struct vault_chain *c = ag_xcalloc(1, sizeof(*c));
    c->waiting.tail = &c->waiting.head;
    c->batch.tail = &c->batch.head;
    return c;
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
    } texts[] = {{"id", r->id},
                 {"action", r->action},
                 {"subject", r->subject},
                 {"object", r->object},
                 {"session", r->session_id},
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
on_written(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_chain *c = arg;

    c->is_busy = false;
    count_batch(c, res != NULL);
    if (res != NULL) {
        c->seq += (int64_t)c->batch.n;
        memcpy(c->mac, c->next_mac, sizeof(c->mac));
    } else {
        c->is_head_known = false;
        ag_log(AG_ERROR, "audit.write_failed", AG_S("tenant", c->tenant->name),
               AG_I("rows", (long long)c->batch.n), AG_E(err));
    }
    struct ag_err unavailable = {AG_ERR_UNAVAILABLE, 0,
                                 "the audit row was not written"};
    finish(&c->batch, res != NULL ? NULL : &unavailable);
    pump(c);
}

static void
write_batch(struct vault_chain *c)
{
    static const char sql[] =
        "INSERT INTO vault.audit (tenant, seq, id, created_us, action,"
        " subject, object, session_id, detail, mac)"
        " SELECT $1, r.seq, r.id, r.at, r.action, r.subject, r.object,"
        " r.session, r.detail, decode(r.mac, 'hex')"
        " FROM json_to_recordset($2::json) AS r(seq bigint, id text,"
        " at bigint, action text, subject text, object text, session text,"
        " detail text, mac text)";
    AG_AUTO(ag_buf_release) struct ag_buf rows = AG_BUF_INIT(8 << 20);
    ag_str_t name = ag_str(c->tenant->name);
    struct entry *e;

    memcpy(c->next_mac, c->mac, sizeof(c->mac));
    ag_buf_addc(&rows, '[');
    while (c->batch.n < BATCH_MAX && (e = list_shift(&c->waiting)) != NULL) {
        unsigned char mac[VAULT_MAC_BYTES];
        list_push(&c->batch, e);
        e->row.seq = c->seq + (int64_t)c->batch.n;
        vault_audit_mac(&c->tenant->ring, &e->row, c->next_mac, mac);
        memcpy(c->next_mac, mac, sizeof(mac));
        if (c->batch.n > 1)
            ag_buf_addc(&rows, ',');
        add_json_row(&rows, &e->row, mac);
    }
    ag_buf_addc(&rows, ']');
    struct ag_db_param params[] = {ag_db_str(name),
                                   ag_db_str(ag_buf_str(&rows))};
    c->is_busy = true;
    ag_db_query(c->v->db, name, sql, params, 2, on_written, c);
}

static void
on_head(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_chain *c = arg;

    c->is_busy = false;
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

    if (c->is_busy || c->waiting.n == 0)
        return;
    if (c->is_head_known) {
        write_batch(c);
        return;
    }
    c->is_busy = true;
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

static void
on_reply_row(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct vault_op *op = arg;

    if (audit_id == NULL)
        vault_op_fail(op, err);
    else
        ag_rpc_reply(op->call, op->reply);
}

void
vault_audit_reply(struct vault_op *op, const char *action, ag_str_t object,
                  ag_str_t session_id, ag_str_t detail_json,
                  const ProtobufCMessage *reply)
{
    struct vault_audit_entry e = {action, op->who.subject, object, session_id,
                                  detail_json};
    op->reply = reply;
    vault_audit_add(op->v, op->tenant, &e, on_reply_row, op);
}

/* ---- listing ----------------------------------------------------------- */

static void
on_list(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    Agent__Vault__V1__ListAuditResponse out =
        AGENT__VAULT__V1__LIST_AUDIT_RESPONSE__INIT;
    const struct vault_page *page = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    size_t n = vault_page_rows(page, ag_db_rows(res));
    out.data = ag_arena_alloc(op->arena, (n + 1) * sizeof(*out.data));
    for (size_t i = 0; i < n; i++) {
        Agent__Vault__V1__AuditEntry *e = ag_arena_alloc(op->arena, sizeof(*e));
        agent__vault__v1__audit_entry__init(e);
        int row = (int)i;
        ag_str_t detail = ag_db_get(res, row, 6);
        e->seq = ag_db_get_int(res, row, 0);
        e->id = vault_op_text(op, ag_db_get(res, row, 1));
        e->created_at = vault_op_time(op, ag_db_get_int(res, row, 2));
        e->action = vault_op_text(op, ag_db_get(res, row, 3));
        e->subject = vault_op_text(op, ag_db_get(res, row, 4));
        e->object = vault_op_text(op, ag_db_get(res, row, 5));
        e->detail_json.data = (uint8_t *)vault_op_text(op, detail);
        e->detail_json.len = detail.n;
        out.data[i] = e;
    }
    out.n_data = n;
    if (n < (size_t)ag_db_rows(res)) {
        out._next_page_case =
            AGENT__VAULT__V1__LIST_AUDIT_RESPONSE___NEXT_PAGE_NEXT_PAGE;
        out.next_page =
            ag_arena_printf(op->arena, "%lld", (long long)out.data[n - 1]->seq);
    }
    ag_rpc_reply(op->call, &out.base);
}

static void
list_audit(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT seq, id, created_us, action, subject, object, detail"
        " FROM vault.audit WHERE seq < $1 AND ($2 = '' OR session_id = $2)"
        " AND ($3 = '' OR action = $3) ORDER BY seq DESC LIMIT $4::bigint";
    const Agent__Vault__V1__ListAuditRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_ADMIN, NULL);
    struct ag_err err = AG_ERR_INIT;
    int64_t before = INT64_MAX;

    if (op == NULL)
        return;
    struct vault_page *page = vault_page_new(op, req->limit, &err);
    if (page == NULL
        || (*req->page != '\0' && ag_str_i64(ag_str(req->page), &before) < 0)) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        page == NULL ? "limit: not between 1 and 100"
                                     : "page: no cursor of this list");
        return;
    }
    op->state = page;
    struct ag_db_param params[] = {
        ag_db_int(before), ag_db_str(ag_str(req->session_id)),
        ag_db_str(ag_str(req->action)), ag_db_int(page->limit + 1)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 4, on_list, op);
}

void
vault_audit_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__audit_service__list_audit__rpc,
                      list_audit, face);
}
