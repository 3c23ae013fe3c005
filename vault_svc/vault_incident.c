/*
 * Opening incidents: the grant's row gets its time of freezing and a new MAC in
 * the statement that writes the incident, and what is kept in memory of the
 * session is forgotten before anybody is told. Loop's thread only.
 */
#include "vault_svc/vault_incident.h"

#include "vault_svc/vault_metrics.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/id.h"
#include "lib/log.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_store.h"

enum { SLOTS = 1024, MINUTE_US = 60 * 1000000 };

struct opening {
    struct vault *v;
    struct vault_tenant *tenant;
    struct ag_arena *arena;
    struct vault_incident_row row;
    unsigned char mac[VAULT_MAC_BYTES], grant_mac[VAULT_MAC_BYTES];
    vault_incident_done *done;
    void *arg;
};

void
vault_incident_read(const struct ag_db_result *res, int row,
                    struct ag_arena *arena, struct vault_incident_row *out)
{
    ag_str_t *texts[] = {&out->id, &out->session_id, &out->kind, &out->detail,
                         &out->resolved_by};

    for (int i = 0; i < 5; i++)
        *texts[i] = ag_arena_copy(arena, ag_db_get(res, row, i));
    out->mac = ag_db_get_bytes(res, row, 5, arena);
    out->created_us = ag_db_get_int(res, row, 6);
    out->resolved_us =
        ag_db_is_null(res, row, 7) ? 0 : ag_db_get_int(res, row, 7);
}

void
vault_incident_mac(const struct vault_tenant *tenant,
                   const struct vault_incident_row *row,
                   unsigned char out[VAULT_MAC_BYTES])
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(1 << 16);

    vault_field(&b, AG_STR("brainbox-row-incident-v1"));
    vault_field(&b, ag_str(tenant->name));
    vault_field(&b, row->id);
    vault_field(&b, row->session_id);
    vault_field(&b, row->kind);
    vault_field(&b, row->detail);
    vault_field(&b, row->resolved_by);
    vault_field_int(&b, row->created_us);
    vault_field_int(&b, row->resolved_us);
    vault_hmac(tenant->ring.mac, ag_buf_str(&b), out);
}

int
vault_incident_check(const struct vault_tenant *tenant,
                     const struct vault_incident_row *row, struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];

    vault_incident_mac(tenant, row, want);
    if (ag_str_eq_ct(ag_str_n(want, sizeof(want)), row->mac))
        return 0;
    return ag_err_set(err, AG_ERR_CORRUPT,
                      "incident %.*s does not check: the row was changed "
                      "outside the vault",
                      AG_FMT(row->id));
}

static void
finish(struct opening *o, const struct ag_err *err)
{
    vault_incident_done *done = o->done;
    void *arg = o->arg;
    struct ag_err why = AG_ERR_INIT;

    if (err != NULL) {
        why = *err;
        ag_log(AG_ERROR, "incident.open_failed",
               AG_V("session", o->row.session_id), AG_V("kind", o->row.kind),
               AG_E(err));
    }
    ag_arena_free(o->arena);
    done(arg, err == NULL ? NULL : &why);
}

static void
on_audited(void *arg, const char *audit_id, const struct ag_err *err)
{
    (void)audit_id;
    finish(arg, err);
}

static void
on_frozen(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct opening *o = arg;
    const struct vault_incident_row *r = &o->row;

    if (res == NULL || ag_db_rows(res) != 1) {
        finish(o, err); /* none: another incident was faster */
        return;
    }
    vault_generation_revoke(o->v, r->session_id);
    ag_log(AG_WARN, "incident.opened", AG_V("incident", r->id),
           AG_V("session", r->session_id), AG_V("kind", r->kind));
    ag_metrics_add(o->v->metrics, VAULT_METRIC_INCIDENTS,
                   ag_arena_cstr(o->arena, r->kind), NULL, 1);
    vault_incident_publish(o->v, o->tenant->name, r);
    struct vault_audit_entry e = {
        "incident.opened", r->session_id, r->id, r->session_id,
        ag_str(ag_arena_printf(o->arena, "{\"kind\":\"%.*s\",\"detail\":%.*s}",
                               AG_FMT(r->kind), AG_FMT(r->detail)))};
    vault_audit_add(o->v, o->tenant, &e, on_audited, o);
}

static void
freeze(struct opening *o, struct vault_grant_row *grant)
{
    static const char sql[] =
        "WITH g AS (UPDATE vault.session_grant SET frozen_us = $3::bigint,"
        " mac = $4 WHERE session_id = $2 AND mac = $5 RETURNING 1)"
        " INSERT INTO vault.incident (id, tenant, session_id, kind, detail,"
        " created_us, resolved_by, mac)"
        " SELECT $6, $1, $2, $7, $8, $3::bigint, '', $9 FROM g RETURNING id";
    struct vault_incident_row *r = &o->row;
    ag_str_t name = ag_str(o->tenant->name), before = grant->mac;
    char id[AG_ID_TEXT];

    ag_id_new("inc", id);
    r->id = ag_arena_copy(o->arena, ag_str(id));
    r->created_us = grant->frozen_us = ag_now_us();
    vault_grant_mac(o->tenant, grant, o->grant_mac);
    vault_incident_mac(o->tenant, r, o->mac);
    struct ag_db_param params[] = {
        ag_db_str(name),
        ag_db_str(r->session_id),
        ag_db_int(r->created_us),
        ag_db_bytes(ag_str_n(o->grant_mac, sizeof(o->grant_mac))),
        ag_db_bytes(before),
        ag_db_str(r->id),
        ag_db_str(r->kind),
        ag_db_str(r->detail),
        ag_db_bytes(ag_str_n(o->mac, sizeof(o->mac)))};
    ag_db_query(o->v->db, name, sql, params, 9, on_frozen, o);
}

static void
on_grant(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct opening *o = arg;
    struct vault_grant_row grant;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL || ag_db_rows(res) != 1) {
        finish(o, err);
        return;
    }
    vault_grant_read(res, 0, 0, o->arena, &grant);
    if (vault_grant_check(o->tenant, &grant, &why) < 0)
        finish(o, &why);
    else if (grant.frozen_us != 0 || grant.ended_us != 0)
        finish(o, NULL);
    else
        freeze(o, &grant);
}

void
vault_incident_open(struct vault *v, struct vault_tenant *tenant,
                    const struct vault_incident *in, vault_incident_done *done,
                    void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_GRANT_COLUMNS " FROM vault.session_grant g"
        " WHERE g.session_id = $1";
    struct ag_arena *arena = ag_arena_new();
    struct opening *o = ag_arena_alloc(arena, sizeof(*o));

    *o = (struct opening){
        .v = v, .tenant = tenant, .arena = arena, .done = done, .arg = arg};
    o->row.session_id = ag_arena_copy(arena, in->session_id);
    o->row.kind = ag_str(in->kind);
    o->row.detail = ag_arena_copy(arena, in->detail_json);
    struct ag_db_param params[] = {ag_db_str(o->row.session_id)};
    ag_db_query(v->db, ag_str(tenant->name), sql, params, 1, on_grant, o);
}

/* ---- guessing ---------------------------------------------------------- */

/* A second session of the same slot begins anew: an alarm, no ledger. */
struct vault_guesses {
    struct {
        char session[AG_ID_TEXT];
        int64_t since_us;
        int64_t n;
    } slots[SLOTS];
};

bool
vault_incident_count_unknown(struct vault *v, ag_str_t session_id)
{
    uint64_t h = 14695981039346656037u;
    int64_t now = ag_now_us();

    if (session_id.n == 0 || session_id.n >= AG_ID_TEXT)
        return false;
    if (v->guesses == NULL)
        v->guesses = ag_xcalloc(1, sizeof(*v->guesses));
    for (size_t i = 0; i < session_id.n; i++)
        h = (h ^ (unsigned char)session_id.p[i]) * 1099511628211u;
    size_t at = h % SLOTS;
    if (!ag_str_is(session_id, v->guesses->slots[at].session)
        || now - v->guesses->slots[at].since_us > MINUTE_US) {
        memcpy(v->guesses->slots[at].session, session_id.p, session_id.n);
        v->guesses->slots[at].session[session_id.n] = '\0';
        v->guesses->slots[at].since_us = now;
        v->guesses->slots[at].n = 0;
    }
    return ++v->guesses->slots[at].n > v->conf->unknown_stubs_per_minute;
}
