/*
 * PolicyService, and the counting behind it. Runs on the loop.
 * Observations carry no MAC: they are advice, and a person reads what is
 * proposed before it becomes a policy.
 */
#include "vault_svc/vault_observe.h"

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_rpc.h"

enum { PREFIXES_MAX = 8, PREFIX_BYTES_MAX = 128, LIST_MAX = 1000 };

ag_str_t
vault_observe_prefix(ag_str_t path)
{
    if (vault_path_is_ambiguous(path))
        return AG_STR("/");
    for (size_t i = 1; i < path.n && i < PREFIX_BYTES_MAX; i++)
        if (path.p[i] == '/')
            return ag_str_n(path.p, i + 1);
    return AG_STR("/");
}

static void
on_counted(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    (void)arg;
    if (res == NULL)
        ag_log(AG_WARN, "observation.write_failed", AG_E(err));
}

void
vault_observe(struct vault *v, const struct vault_tenant *tenant,
              ag_str_t environment_id, const struct vault_policy_ask *what)
{
    static const char sql[] =
        "INSERT INTO vault.observation AS o (tenant, environment_id, scheme,"
        " host, port, method, path_prefix, requests, first_us, last_us)"
        " SELECT $1, $2, $3, $4, $5::integer, $6, $7, 1, $8::bigint,"
        " $8::bigint WHERE (SELECT count(*) FROM vault.observation"
        " WHERE environment_id = $2) < $9::bigint OR EXISTS (SELECT FROM"
        " vault.observation WHERE environment_id = $2 AND scheme = $3"
        " AND host = $4 AND port = $5::integer AND method = $6"
        " AND path_prefix = $7)"
        " ON CONFLICT (tenant, environment_id, scheme, host, port, method,"
        " path_prefix) DO UPDATE SET requests = o.requests + 1,"
        " last_us = excluded.last_us";
    ag_str_t name = ag_str(tenant->name);
    struct ag_db_param params[] = {
        ag_db_str(name),
        ag_db_str(environment_id),
        ag_db_str(ag_str(what->is_https ? "https" : "http")),
        ag_db_str(what->host),
        ag_db_int(what->port),
        ag_db_str(what->method),
        ag_db_str(vault_observe_prefix(what->path)),
        ag_db_int(ag_now_us()),
        ag_db_int(v->conf->observations_max)};
    ag_db_query(v->db, name, sql, params, 9, on_counted, NULL);
}

/* ---- the proposal ------------------------------------------------------ */

static bool
is_same_place(const struct vault_observation *a,
              const struct vault_observation *b)
{
    return a->port == b->port && ag_str_eq(a->scheme, b->scheme)
           && ag_str_eq(a->host, b->host);
}

static void
add_once(json_t *array, ag_str_t word)
{
    if (!vault_rule_has_word(array, word))
        json_array_append_new(array, ag_json_from_str(word));
}

/* One rule of what was seen at one place. */
static json_t *
rule_of(const struct vault_observation *seen, size_t n)
{
    json_t *out = json_object(), *methods = json_array(),
           *prefixes = json_array();
    bool is_whole = false;

    for (size_t i = 0; i < n; i++) {
        add_once(methods, seen[i].method);
        add_once(prefixes, seen[i].path_prefix);
        is_whole |= ag_str_is(seen[i].path_prefix, "/");
    }
    json_object_set_new(out, "scheme", ag_json_from_str(seen->scheme));
    json_object_set_new(out, "host", ag_json_from_str(seen->host));
    json_object_set_new(out, "ports", json_pack("[I]", (json_int_t)seen->port));
    json_object_set_new(out, "methods", methods);
    if (is_whole || json_array_size(prefixes) > PREFIXES_MAX)
        json_decref(prefixes);
    else
        json_object_set_new(out, "path_prefixes", prefixes);
    return out;
}

/* Canonical rules have one port, written ones a list. */
static json_t *
as_written(const json_t *rule)
{
    json_t *out = json_deep_copy(rule), *port = json_object_get(out, "port");
    if (port != NULL)
        json_object_set_new(out, "ports",
                            json_pack("[I]", json_integer_value(port)));
    json_object_del(out, "port");
    return out;
}

int
vault_observe_propose(ag_str_t policy, const struct vault_observation *seen,
                      size_t n, struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *now = ag_json_parse(policy, err);
    AG_AUTO(ag_json_decref) json_t *net = json_object();
    json_t *rules = json_array();

    if (now == NULL) {
        json_decref(rules);
        return -1;
    }
    const json_t *has = json_object_get(now, "rules");
    for (size_t i = 0; i < json_array_size(has); i++)
        json_array_append_new(rules, as_written(json_array_get(has, i)));
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && is_same_place(&seen[i], &seen[k]); k++)
            continue;
        json_array_append_new(rules, rule_of(&seen[i], k - i));
    }
    json_object_set_new(net, "type", json_string("limited"));
    json_object_set(net, "allowed_hosts",
                    json_object_get(now, "allowed_hosts"));
    json_object_set_new(net, "rules", rules);
    if (json_object_get(now, "outbound") != NULL)
        json_object_set(net, "outbound", json_object_get(now, "outbound"));
    return ag_json_dump(net, out, err);
}

static void
fill(struct vault_op *op, const struct ag_db_result *res, int row,
     struct vault_observation *seen, Agent__Vault__V1__Observation *o)
{
    agent__vault__v1__observation__init(o);
    o->scheme = vault_op_text(op, ag_db_get(res, row, 0));
    o->host = vault_op_text(op, ag_db_get(res, row, 1));
    o->port = (int32_t)ag_db_get_int(res, row, 2);
    o->method = vault_op_text(op, ag_db_get(res, row, 3));
    o->path_prefix = vault_op_text(op, ag_db_get(res, row, 4));
    o->requests = ag_db_get_int(res, row, 5);
    o->first_at = vault_op_time(op, ag_db_get_int(res, row, 6));
    o->last_at = vault_op_time(op, ag_db_get_int(res, row, 7));
    *seen = (struct vault_observation){ag_str(o->scheme), ag_str(o->host),
                                       ag_str(o->method),
                                       ag_str(o->path_prefix), o->port};
}

static void
on_observations(void *arg, const struct ag_db_result *res,
                const struct ag_err *err)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf text = AG_BUF_INIT(4 * VAULT_POLICY_TEXT_MAX);
    struct vault_op *op = arg;
    const struct vault_policy_row *row = op->state;
    Agent__Vault__V1__ProposedPolicy out =
        AGENT__VAULT__V1__PROPOSED_POLICY__INIT;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    size_t n = (size_t)ag_db_rows(res);
    struct vault_observation *seen =
        ag_arena_alloc(op->arena, (n + 1) * sizeof(*seen));
    out.observations =
        ag_arena_alloc(op->arena, (n + 1) * sizeof(*out.observations));
    for (size_t i = 0; i < n; i++) {
        out.observations[i] =
            ag_arena_alloc(op->arena, sizeof(*out.observations[i]));
        fill(op, res, (int)i, &seen[i], out.observations[i]);
    }
    out.n_observations = n;
    if (vault_observe_propose(row->policy, seen, n, &text, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    out.environment_id = vault_op_text(op, row->environment_id);
    out.version = (int32_t)row->version;
    out.networking_json = vault_op_data(op, ag_buf_str(&text));
    ag_rpc_reply(op->call, &out.base);
}

static void
on_policy(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    static const char sql[] =
        "SELECT scheme, host, port, method, path_prefix, requests, first_us,"
        " last_us FROM vault.observation WHERE environment_id = $1"
        " AND last_us >= $2::bigint"
        " ORDER BY scheme, host, port, method, path_prefix LIMIT $3::bigint";
    struct vault_op *op = arg;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "environment_id: there is no such environment");
        return;
    }
    struct vault_policy_row *row = ag_arena_alloc(op->arena, sizeof(*row));
    vault_policy_row_read(res, 0, 0, op->arena, row);
    if (vault_policy_row_check(op->tenant, row, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    op->state = row;
    /* What the policies before this one let pass, this one has answered. */
    struct ag_db_param params[] = {ag_db_str(row->environment_id),
                                   ag_db_int(row->created_us),
                                   ag_db_int(LIST_MAX)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3, on_observations, op);
}

static void
get_proposed_policy(struct ag_rpc_call *call, const ProtobufCMessage *request,
                    void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_POLICY_COLUMNS " FROM vault.policy p"
        " WHERE p.environment_id = $1 ORDER BY p.version DESC LIMIT 1";
    const Agent__Vault__V1__GetProposedPolicyRequest *req =
        (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->environment_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_policy, op);
}

void
vault_observe_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(
        srv, &agent__vault__v1__policy_service__get_proposed_policy__rpc,
        get_proposed_policy, face);
}
