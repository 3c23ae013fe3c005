/*
 * A rotation: the keeper wraps a new key, its row is committed, it becomes the
 * one that seals, and rows of older keys follow, PART at a time. Keys that no
 * row names any more are deleted, a rotation later. Loop's thread only.
 */
#include "vault_svc/vault_rekey.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_store.h"
#include "vault_svc/vault_term.h"

enum { PART = 16, FIRST_MS = 1000 };

#define DAY_US (INT64_C(24) * 3600 * 1000000)

/* `err` is NULL when everything is sealed under `version`. */
typedef void rekey_done(void *arg, int64_t version, int64_t n_resealed,
                        const struct ag_err *err);

/* One tenant's; tenant->rekey points to it while it goes on. */
struct vault_rekey {
    struct vault *v;
    struct vault_tenant *tenant;
    unsigned char key[VAULT_KEY_BYTES]; /* new, until its row is written */
    int64_t version, created_us, n_resealed;
    struct ag_arena *part;
    size_t n_open; /* rows of the part that are being written */
    char *last;    /* id of the part's last row */
    bool is_full;  /* the part: there may be more */
    struct ag_err err;
    rekey_done *done;
    void *arg;
};

static void read_part(struct vault_rekey *r);

static void
finish(struct vault_rekey *r, const struct ag_err *err)
{
    if (err != NULL)
        ag_log(AG_ERROR, "data_key.reseal_failed",
               AG_S("tenant", r->tenant->name), AG_I("version", r->version),
               AG_E(err));
    else
        ag_log(AG_INFO, "data_key.resealed", AG_S("tenant", r->tenant->name),
               AG_I("version", r->version), AG_I("credentials", r->n_resealed));
    r->tenant->rekey = NULL;
    if (r->done != NULL)
        r->done(r->arg, r->version, r->n_resealed, err);
    ag_arena_free(r->part);
    free(r->last);
    ag_wipe(r, sizeof(*r));
    free(r);
}

static void
on_dropped(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    finish(arg, res == NULL ? err : NULL);
}

/* Keys that no row names go. The one before the newest stays for a term: a row
 * that was sealed before the newest was there may still be on its way. */
static void
drop_old(struct vault_rekey *r)
{
    static const char sql[] =
        "DELETE FROM vault.data_key d WHERE d.version < $1::integer - 1"
        " AND NOT EXISTS (SELECT FROM vault.credential c"
        "  WHERE c.tenant = d.tenant AND c.key_version = d.version)";
    struct ag_db_param params[] = {ag_db_int(r->version)};
    ag_db_query(r->v->db, ag_str(r->tenant->name), sql, params, 1, on_dropped,
                r);
}

static void
next_part(struct vault_rekey *r)
{
    if (r->err.kind != AG_ERR_NONE)
        finish(r, &r->err);
    else if (r->is_full)
        read_part(r);
    else
        drop_old(r);
}

static void
on_resealed(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_rekey *r = arg;

    if (res == NULL)
        r->err = *err;
    else
        r->n_resealed += ag_db_rows(res); /* none: it was changed meanwhile */
    if (--r->n_open == 0)
        next_part(r);
}

static int
reseal(struct vault_rekey *r, struct vault_credential_row *row,
       struct ag_err *err)
{
    static const char sql[] =
        "UPDATE vault.credential SET sealed = $2, mac = $3,"
        " key_version = $4::integer WHERE id = $1 AND mac = $5 RETURNING id";
    AG_AUTO(ag_secret_release) ag_secret_t value = AG_SECRET_INIT;
    unsigned char mac[VAULT_MAC_BYTES];
    ag_str_t before = row->mac;

    if (vault_credential_open_all(r->tenant, row, &value, err) < 0
        || vault_credential_seal(r->tenant, row, ag_secret_view(&value),
                                 r->part, err)
               < 0)
        return -1;
    vault_credential_mac(r->tenant, row, mac);
    struct ag_db_param params[] = {ag_db_str(row->id), ag_db_bytes(row->sealed),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac))),
                                   ag_db_int(row->key_version),
                                   ag_db_bytes(before)};
    r->n_open++;
    ag_db_query(r->v->db, ag_str(r->tenant->name), sql, params, 5, on_resealed,
                r);
    return 0;
}

/* A row that does not check stays as it is, and keeps its key. */
static void
on_part(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_rekey *r = arg;
    struct vault_credential_row row = {0};

    if (res == NULL) {
        finish(r, err);
        return;
    }
    r->is_full = ag_db_rows(res) == PART;
    r->n_open = 1;
    for (int i = 0; i < ag_db_rows(res); i++) {
        struct ag_err why = AG_ERR_INIT;
        vault_credential_read(res, i, 0, r->part, &row);
        if (reseal(r, &row, &why) < 0)
            ag_log(AG_ERROR, "data_key.reseal_failed",
                   AG_S("tenant", r->tenant->name), AG_I("version", r->version),
                   AG_E(&why));
    }
    if (row.id.n > 0)
        r->last = ag_str_dup(row.id);
    if (--r->n_open == 0)
        next_part(r);
}

static void
read_part(struct vault_rekey *r)
{
    static const char sql[] =
        "SELECT " VAULT_CREDENTIAL_COLUMNS " FROM vault.credential c"
        " WHERE c.key_version < $1::integer AND c.id > $2"
        " ORDER BY c.id LIMIT $3::bigint";
    AG_AUTO(ag_freep) char *after = ag_take(&r->last);

    ag_arena_free(r->part);
    r->part = ag_arena_new();
    struct ag_db_param params[] = {
        ag_db_int(r->version), ag_db_str(ag_str(after == NULL ? "" : after)),
        ag_db_int(PART)};
    ag_db_query(r->v->db, ag_str(r->tenant->name), sql, params, 3, on_part, r);
}

/* ---- a new key --------------------------------------------------------- */

static void
on_audited(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct vault_rekey *r = arg;

    if (audit_id == NULL)
        finish(r, err);
    else
        read_part(r);
}

static void
on_key_written(void *arg, const struct ag_db_result *res,
               const struct ag_err *err)
{
    struct vault_rekey *r = arg;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        finish(r, err);
        return;
    }
    if (vault_term_add(r->tenant, r->version, r->created_us,
                       ag_str_n(r->key, sizeof(r->key)), &why)
        < 0) {
        finish(r, &why);
        return;
    }
    ag_wipe(r->key, sizeof(r->key));
    char version[24], detail[48];
    snprintf(version, sizeof(version), "%lld", (long long)r->version);
    snprintf(detail, sizeof(detail), "{\"version\":%s}", version);
    const struct vault_audit_entry e = {"data_key.made", AG_STR("vault"),
                                        ag_str(version), AG_STR(""),
                                        ag_str(detail)};
    vault_audit_add(r->v, r->tenant, &e, on_audited, r);
}

static void
on_wrapped(void *arg, const struct keeper_msg *reply, const struct ag_err *err)
{
    static const char sql[] =
        "INSERT INTO vault.data_key (tenant, version, wrapped_key, created_us)"
        " VALUES ($1, $2::integer, $3, $4::bigint)";
    struct vault_rekey *r = arg;

    if (reply == NULL) {
        finish(r, err);
        return;
    }
    r->created_us = ag_now_us();
    ag_str_t name = ag_str(r->tenant->name);
    struct ag_db_param params[] = {ag_db_str(name), ag_db_int(r->version),
                                   ag_db_bytes(reply->a),
                                   ag_db_int(r->created_us)};
    ag_db_query(r->v->db, name, sql, params, 4, on_key_written, r);
}

/* With a new key, or to go on with the newest. One at a time for a tenant. */
static void
begin(struct vault *v, struct vault_tenant *tenant, bool is_new,
      rekey_done *done, void *arg)
{
    AG_AUTO(ag_buf_release) struct ag_buf aad = AG_BUF_INIT(512);
    struct vault_rekey *r = ag_xcalloc(1, sizeof(*r));

    *r = (struct vault_rekey){
        .v = v, .tenant = tenant, .done = done, .arg = arg};
    tenant->rekey = r;
    r->version = vault_term_newest(tenant).version;
    if (!is_new) {
        read_part(r);
        return;
    }
    r->version++;
    ag_random(r->key, sizeof(r->key));
    vault_term_aad(&aad, ag_str(tenant->name), r->version);
    vault_keeper_ask(v->keeper, KEEPER_WRAP, ag_buf_str(&aad),
                     ag_str_n(r->key, sizeof(r->key)), on_wrapped, r);
}

/* ---- by a person ------------------------------------------------------- */

static void
on_rotated(void *arg, int64_t version, int64_t n_resealed,
           const struct ag_err *err)
{
    Agent__Vault__V1__DataKey out = AGENT__VAULT__V1__DATA_KEY__INIT;
    struct vault_op *op = arg;

    if (err != NULL) {
        vault_op_fail(op, err);
        return;
    }
    out.version = (int32_t)version;
    out.resealed = n_resealed;
    ag_rpc_reply(op->call, &out.base);
}

static void
rotate(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    struct vault_op *op = vault_op_begin(call, request, arg, NULL);

    if (op == NULL)
        return;
    if (op->tenant->rekey != NULL)
        vault_op_refuse(op, AG_ERR_PRECONDITION,
                        "the data key is being rotated already");
    else
        begin(op->v, op->tenant, true, on_rotated, op);
}

void
vault_rekey_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv,
                      &agent__vault__v1__data_key_service__rotate_data_key__rpc,
                      rotate, face);
}

/* ---- by time ----------------------------------------------------------- */

struct vault_rekeyer {
    struct vault *v;
    struct ag_timer timer;
};

static bool
is_over(const struct vault *v, const struct vault_term *term)
{
    return v->conf->data_key_days > 0
           && ag_now_us() - term->created_us > v->conf->data_key_days * DAY_US;
}

static void
on_timer(struct ag_timer *timer)
{
    struct vault_rekeyer *r =
        (struct vault_rekeyer *)(void *)((char *)timer
                                         - offsetof(struct vault_rekeyer,
                                                    timer));
    struct vault *v = r->v;

    for (size_t i = 0; i < v->n_tenants && !v->is_stopping; i++) {
        struct vault_tenant *t = v->tenants[i];
        struct vault_term newest = vault_term_newest(t);
        if (t->rekey == NULL && (newest.version > 1 || is_over(v, &newest)))
            begin(v, t, is_over(v, &newest), NULL, NULL);
        ag_wipe(&newest, sizeof(newest));
    }
    ag_timer_start(v->loop, &r->timer, v->conf->data_key_check_ms);
}

struct vault_rekeyer *
vault_rekeyer_start(struct vault *v)
{
    struct vault_rekeyer *r = ag_xcalloc(1, sizeof(*r));

    r->v = v;
    r->timer.fn = on_timer;
    ag_timer_start(v->loop, &r->timer, FIRST_MS);
    return r;
}

void
vault_rekeyer_stop(struct vault_rekeyer *r)
{
    if (r != NULL)
        ag_timer_stop(r->v->loop, &r->timer);
}

void
vault_rekeyer_free(struct vault_rekeyer *r)
{
    free(r);
}
