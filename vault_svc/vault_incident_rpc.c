/*
 * IncidentService, where people see and resolve incidents, and the stream on
 * which the brain hears of them.
 */
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_incident.h"
#include "vault_svc/vault_page.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_store.h"

/* ---- watching ---------------------------------------------------------- */

enum { WATCHERS_MAX = 64 };

struct watcher {
    struct watcher *next;
    struct vault *v;
    struct ag_rpc_call *call;
};

struct vault_watchers {
    struct watcher *head;
    size_t n;
};

static void
send_event(struct ag_rpc_call *call, const char *tenant, const char *id,
           const char *session_id, const char *kind, bool is_open)
{
    Agent__Vault__V1__IncidentEvent e = AGENT__VAULT__V1__INCIDENT_EVENT__INIT;

    e.tenant = (char *)tenant;
    e.incident_id = (char *)id;
    e.session_id = (char *)session_id;
    e.kind = (char *)kind;
    e.is_open = is_open;
    ag_rpc_send(call, &e.base);
}

void
vault_incident_publish(struct vault *v, const char *tenant,
                       const struct vault_incident_row *row)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    const char *id = ag_arena_cstr(arena, row->id),
               *session = ag_arena_cstr(arena, row->session_id),
               *kind = ag_arena_cstr(arena, row->kind);

    if (v->watchers == NULL)
        return;
    for (struct watcher *w = v->watchers->head; w != NULL; w = w->next)
        send_event(w->call, tenant, id, session, kind, row->resolved_us == 0);
}

static void
take_out(struct watcher *w)
{
    struct watcher **at = &w->v->watchers->head;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->v->watchers->n--;
}

static void
on_gone(struct ag_rpc_call *call, void *arg)
{
    take_out(arg);
    ag_rpc_end(call);
}

void
vault_incident_stop(struct vault *v)
{
    while (v->watchers != NULL && v->watchers->head != NULL) {
        struct watcher *w = v->watchers->head;
        take_out(w);
        ag_rpc_call_on_cancel(w->call, NULL, NULL);
        ag_rpc_end(w->call);
    }
    free(v->watchers);
    v->watchers = NULL;
    free(v->guesses);
    v->guesses = NULL;
}

/* Those that are open when the watching begins; later ones are published. */
static void
on_open_ones(void *arg, const struct ag_db_result *res,
             const struct ag_err *err)
{
    struct vault_op *op = arg;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (op->v->is_stopping || ag_rpc_call_is_cancelled(op->call)) {
        ag_rpc_end(op->call);
        return;
    }
    ag_rpc_accept(op->call);
    for (int i = 0; i < ag_db_rows(res); i++)
        send_event(op->call, vault_op_text(op, ag_db_get(res, i, 0)),
                   vault_op_text(op, ag_db_get(res, i, 1)),
                   vault_op_text(op, ag_db_get(res, i, 2)),
                   vault_op_text(op, ag_db_get(res, i, 3)), true);
    struct watcher *w = ag_arena_alloc(op->arena, sizeof(*w));
    *w = (struct watcher){op->v->watchers->head, op->v, op->call};
    op->v->watchers->head = w;
    op->v->watchers->n++;
    ag_rpc_call_on_cancel(op->call, on_gone, w);
}

static void
watch_incidents(struct ag_rpc_call *call, const ProtobufCMessage *request,
                void *arg)
{
    static const char sql[] =
        "SELECT tenant, id, session_id, kind FROM vault.open_incidents()";
    struct vault_op *op = vault_op_plain(call, request, arg);
    struct vault *v = op->v;

    if (v->watchers == NULL)
        v->watchers = ag_xcalloc(1, sizeof(*v->watchers));
    if (v->watchers->n >= WATCHERS_MAX) {
        vault_op_refuse(op, AG_ERR_LIMIT, "more than %d watch", WATCHERS_MAX);
        return;
    }
    ag_db_query(v->db, AG_STR(""), sql, NULL, 0, on_open_ones, op);
}

/* ---- people ------------------------------------------------------------ */

static Agent__Vault__V1__Incident *
message(struct vault_op *op, const struct vault_incident_row *r)
{
    Agent__Vault__V1__Incident *m = ag_arena_alloc(op->arena, sizeof(*m));

    agent__vault__v1__incident__init(m);
    m->id = vault_op_text(op, r->id);
    m->type = "incident";
    m->session_id = vault_op_text(op, r->session_id);
    m->kind = vault_op_text(op, r->kind);
    m->detail_json = vault_op_data(op, r->detail);
    m->state = r->resolved_us == 0 ? "open" : "resolved";
    m->created_at = vault_op_time(op, r->created_us);
    m->resolved_by = vault_op_text(op, r->resolved_by);
    if (r->resolved_us != 0) {
        m->_resolved_at_case =
            AGENT__VAULT__V1__INCIDENT___RESOLVED_AT_RESOLVED_AT;
        m->resolved_at = vault_op_time(op, r->resolved_us);
    }
    return m;
}

static ProtobufCMessage *
listed(struct vault_op *op, const struct ag_db_result *res, int i)
{
    struct vault_incident_row row;

    vault_incident_read(res, i, op->arena, &row);
    return &message(op, &row)->base;
}

static const struct vault_list incidents = {
    &agent__vault__v1__list_incidents_response__descriptor, listed};

static void
list_incidents(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_INCIDENT_COLUMNS " FROM vault.incident i"
        " WHERE ($1 = '' OR i.id < $1) AND ($2 = '' OR i.session_id = $2)"
        " AND ($3::boolean OR i.resolved_us IS NULL)"
        " ORDER BY i.id DESC LIMIT $4::bigint";
    const Agent__Vault__V1__ListIncidentsRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    int64_t rows =
        op == NULL ? -1 : vault_page_begin(op, &incidents, req->limit);

    if (rows < 0)
        return;
    struct ag_db_param params[] = {
        ag_db_str(ag_str(req->page)), ag_db_str(ag_str(req->session_id)),
        ag_db_bool(req->include_resolved), ag_db_int(rows)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 4, vault_page_reply,
                op);
}

struct resolving {
    struct vault_incident_row row;
    struct vault_grant_row grant;
};

static void
on_resolved(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct resolving *r = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_PRECONDITION,
                        "incident_id: was resolved meanwhile");
        return;
    }
    vault_generation_move(op->v);
    ag_log(AG_INFO, "incident.resolved", AG_V("incident", r->row.id),
           AG_V("session", r->row.session_id));
    vault_incident_publish(op->v, op->tenant->name, &r->row);
    vault_audit_reply(op, "incident.resolved", r->row.id, r->row.session_id,
                      AG_STR(""), &message(op, &r->row)->base);
}

/* The incident ends, and with it the freezing. */
static void
resolve(struct vault_op *op, struct resolving *r)
{
    static const char sql[] =
        "WITH i AS (UPDATE vault.incident SET resolved_us = $3,"
        " resolved_by = $4, mac = $5 WHERE id = $1 AND mac = $6 RETURNING 1)"
        " UPDATE vault.session_grant SET frozen_us = NULL, mac = $7"
        " WHERE session_id = $2 AND mac = $8 AND EXISTS (SELECT FROM i)"
        " RETURNING session_id";
    unsigned char mac[VAULT_MAC_BYTES], grant_mac[VAULT_MAC_BYTES];
    ag_str_t before = r->row.mac, grant_before = r->grant.mac;

    r->row.resolved_us = ag_now_us();
    r->row.resolved_by = op->who.subject;
    r->grant.frozen_us = 0;
    vault_incident_mac(op->tenant, &r->row, mac);
    vault_grant_mac(op->tenant, &r->grant, grant_mac);
    struct ag_db_param params[] = {
        ag_db_str(r->row.id),
        ag_db_str(r->row.session_id),
        ag_db_int(r->row.resolved_us),
        ag_db_str(r->row.resolved_by),
        ag_db_bytes(ag_str_n(mac, sizeof(mac))),
        ag_db_bytes(before),
        ag_db_bytes(ag_str_n(grant_mac, sizeof(grant_mac))),
        ag_db_bytes(grant_before)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 8, on_resolved, op);
}

static void
on_to_resolve(void *arg, const struct ag_db_result *res,
              const struct ag_err *err)
{
    struct vault_op *op = arg;
    struct resolving *r = ag_arena_alloc(op->arena, sizeof(*r));
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "incident_id: there is no such incident");
        return;
    }
    vault_incident_read(res, 0, op->arena, &r->row);
    vault_grant_read(res, 0, 8, op->arena, &r->grant);
    if (vault_incident_check(op->tenant, &r->row, &why) < 0
        || vault_grant_check(op->tenant, &r->grant, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    if (r->row.resolved_us != 0) {
        vault_op_refuse(op, AG_ERR_PRECONDITION,
                        "incident_id: is resolved already");
        return;
    }
    op->state = r;
    resolve(op, r);
}

static void
resolve_incident(struct ag_rpc_call *call, const ProtobufCMessage *request,
                 void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_INCIDENT_COLUMNS ", " VAULT_GRANT_COLUMNS
        " FROM vault.incident i JOIN vault.session_grant g"
        " ON g.session_id = i.session_id WHERE i.id = $1";
    const Agent__Vault__V1__ResolveIncidentRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->incident_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_to_resolve, op);
}

void
vault_incident_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv,
                      &agent__vault__v1__incident_service__list_incidents__rpc,
                      list_incidents, face);
    ag_rpc_server_add(
        srv, &agent__vault__v1__incident_service__resolve_incident__rpc,
        resolve_incident, face);
}

void
vault_incident_serve_watch(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(
        srv, &agent__vault__v1__incident_watch_service__watch_incidents__rpc,
        watch_incidents, face);
}
