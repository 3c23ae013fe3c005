/*
 * EgressService/Authorize: who asks, and what the session may use. What cannot
 * be read or does not check is an error, which egress turns into a refusal: it
 * fails closed.
 */
#include "vault_svc/vault_egress.h"

#include "agent_rpc.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_owner.h"
#include "vault_svc/vault_refresh.h"
#include "vault_svc/vault_verdict.h"
#include "vault_svc/vault_workload.h"

enum { STUBS_MAX = 32 };

/* Snapshots are kept by who asks. */
#define KEY_OF_BRAIN "brain "
#define KEY_OF_ADDRESS "at "

static bool
is_own_stub(const struct vault_authorizing *a, const struct vault_found *f)
{
    for (size_t i = 0; i < a->session.n; i++)
        if (vault_held_is_for(&a->session.held[i], a->ask.kind)
            && ag_str_eq_ct(a->session.held[i].stub, f->stub))
            return true;
    return false;
}

static void check_foreign(struct vault_authorizing *a);

static void
on_foreign(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_authorizing *a = arg;

    if (res == NULL) {
        vault_answer_fail(a, err);
        return;
    }
    enum vault_stub_owner owner = VAULT_STUB_NOBODYS;
    if (ag_db_rows(res) == 1)
        owner = ag_str_eq(ag_db_get(res, 0, 1), a->session.grant.session_id)
                        && ag_db_get_int(res, 0, 2) == (int64_t)a->ask.kind
                    ? VAULT_STUB_REVOKED
                    : VAULT_STUB_FOREIGN;
    a->ask.stubs[a->checking++].owner = owner;
    check_foreign(a);
}

/* Whose the stubs are that stand for nothing the session may use. */
static void
check_foreign(struct vault_authorizing *a)
{
    static const char sql[] =
        "SELECT tenant, session_id, kind FROM vault.stub_owner($1)";
    unsigned char hash[32];

    for (size_t i = a->checking; i < a->ask.n_stubs; i++)
        vault_found_unglue(&a->ask.stubs[i], a->ask.kind, a->session.held,
                           a->session.n);
    while (a->checking < a->ask.n_stubs
           && is_own_stub(a, &a->ask.stubs[a->checking]))
        a->checking++;
    if (a->checking == a->ask.n_stubs) {
        vault_verdict_decide(a);
        return;
    }
    ag_sha256(a->ask.stubs[a->checking].stub, hash);
    struct ag_db_param params[] = {ag_db_bytes(ag_str_n(hash, sizeof(hash)))};
    ag_db_query(a->op->v->db, AG_STR(""), sql, params, 1, on_foreign, a);
}

/* The rows were read, or cannot be: whoever waits for them goes on. Nothing of
 * `a` may be used behind it but what its call owns. */
static void
settle(struct vault_authorizing *a)
{
    struct vault *v = a->op->v;

    if (!a->leads)
        return;
    a->leads = false;
    vault_snapshot_settle(v, a->key);
}

static void
read_session(struct vault_authorizing *a, const struct ag_db_result *res)
{
    struct vault_op *op = a->op;
    struct ag_err why = AG_ERR_INIT;
    struct vault_snapshot *s = a->snapshot;
    int rc = vault_session_read(op->v, op->tenant, (int)a->ask.kind, res,
                                s->arena, &s->session, &why);

    a->session = s->session;
    if (rc < 0 && why.kind != AG_ERR_NOT_FOUND) {
        settle(a);
        vault_answer_fail(a, &why);
        return;
    }
    if (a->ask.kind == VAULT_KIND_NONE && a->session.has_workload)
        a->ask.kind = (enum vault_kind)a->session.workload.kind;
    /* The look-up by address is not authenticated, the row is. */
    if (a->address.n > 0
        && (!a->session.has_workload
            || !ag_str_eq(a->session.workload.address, a->address)))
        a->ask.kind = VAULT_KIND_NONE;
    if (rc == 0 && a->ask.kind != VAULT_KIND_NONE) {
        s->kind = a->ask.kind;
        s->tenant = op->tenant;
        vault_snapshot_keep(op->v, s, a->key);
    }
    settle(a);
    check_foreign(a);
}

static void
on_session(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_authorizing *a = arg;

    if (res == NULL) {
        settle(a);
        vault_answer_fail(a, err);
        return;
    }
    read_session(a, res);
}

/* Is what the workload may use at hand? */
static bool
take_snapshot(struct vault_authorizing *a)
{
    a->snapshot = vault_snapshot_find(a->op->v, a->key);
    if (a->snapshot == NULL)
        return false;
    a->session = a->snapshot->session;
    a->ask.kind = a->snapshot->kind;
    a->op->tenant = a->snapshot->tenant;
    return true;
}

static void on_workload(void *arg, const struct ag_db_result *res,
                        const struct ag_err *err);

/* `id` is a brain's session, else a workload. */
static void
query_session(struct vault_authorizing *a, ag_str_t id)
{
    struct vault_session_ask ask = {.wants_mark = true};

    if (a->ask.kind == VAULT_KIND_BRAIN) {
        ask.session_id = id;
        ask.kind = VAULT_KIND_BRAIN;
    } else {
        ask.workload_id = id;
    }
    vault_session_query(a->op->v, a->op->tenant, &ask, on_session, a);
}

static void
read_rows(struct vault_authorizing *a)
{
    static const char by_address[] =
        "SELECT tenant, id FROM vault.workload_by_address($1)";
    static const char by_session[] = "SELECT vault.session_tenant($1), $1";
    const Agent__Vault__V1__AuthorizeRequest *req = a->op->request;
    bool is_brain = a->ask.kind == VAULT_KIND_BRAIN;
    ag_str_t name = is_brain ? ag_str(req->session_id) : a->address;
    struct ag_db_param params[] = {ag_db_str(name)};

    a->snapshot = vault_snapshot_begin(a->op->v);
    if (is_brain
        && (a->op->tenant = vault_owner_find(a->op->v, name)) != NULL) {
        query_session(a, name);
        return;
    }
    ag_db_query(a->op->v->db, AG_STR(""), is_brain ? by_session : by_address,
                params, 1, on_workload, a);
}

/* Another request read them. When something has changed since it began, they
 * are read once more, for this one. */
static void
on_waited(struct vault_snapshot_wait *w)
{
    struct vault_authorizing *a =
        (struct vault_authorizing *)(void *)((char *)w
                                             - offsetof(
                                                 struct vault_authorizing,
                                                 wait));
    if (take_snapshot(a))
        check_foreign(a);
    else
        read_rows(a);
}

/* The database was asked whether what is kept is what its rows are. */
static void
on_refreshed(void *arg)
{
    struct vault_authorizing *a = arg;

    if (!take_snapshot(a)) {
        read_rows(a);
        return;
    }
    settle(a);
    check_foreign(a);
}

static void
find_session(struct vault_authorizing *a, const char *kind, ag_str_t name)
{
    struct vault_op *op = a->op;

    a->key = ag_str(ag_arena_printf(op->arena, "%s%.*s", kind, AG_FMT(name)));
    if (take_snapshot(a)) {
        check_foreign(a);
        return;
    }
    a->wait.fn = on_waited;
    if (vault_snapshot_join(op->v, a->key, &a->wait))
        return;
    a->leads = true;
    if (!vault_refresh_one(op->v, a->key, on_refreshed, a))
        read_rows(a);
}

/* Nobody's address: decided and written down under the default tenant. */
static void
deny_unknown(struct vault_authorizing *a)
{
    struct vault *v = a->op->v;

    a->op->tenant = vault_tenant_find(v, AG_STR("default"));
    if (a->op->tenant == NULL && v->n_tenants > 0)
        a->op->tenant = v->tenants[0];
    if (a->op->tenant == NULL) {
        struct ag_err err = {AG_ERR_UNAVAILABLE, 0, "there is no tenant"};
        vault_answer_fail(a, &err);
        return;
    }
    a->ask.kind = VAULT_KIND_NONE;
    vault_verdict_decide(a);
}

static void
on_workload(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_authorizing *a = arg;
    struct vault_op *op = a->op;

    if (res == NULL) {
        settle(a);
        vault_answer_fail(a, err);
        return;
    }
    op->tenant = ag_db_rows(res) == 1
                     ? vault_tenant_find(op->v, ag_db_get(res, 0, 0))
                     : NULL;
    if (op->tenant == NULL) {
        settle(a);
        deny_unknown(a);
        return;
    }
    query_session(a, ag_arena_copy(op->arena, ag_db_get(res, 0, 1)));
}

/* ---- before anybody asks ------------------------------------------------ */

struct warming {
    struct vault *v;
    struct vault_tenant *tenant;
    struct vault_snapshot *snapshot;
    char *key;
};

static void
on_warm(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct warming *w = arg;
    struct vault_snapshot *s = w->snapshot;
    struct ag_err ignored = AG_ERR_INIT;

    (void)err; /* who asks reads again, and is told */
    if (res != NULL
        && vault_session_read(w->v, w->tenant, VAULT_KIND_BRAIN, res, s->arena,
                              &s->session, &ignored)
               == 0) {
        s->kind = VAULT_KIND_BRAIN;
        s->tenant = w->tenant;
        vault_snapshot_keep(w->v, s, ag_str(w->key));
    }
    vault_snapshot_unref(s);
    vault_snapshot_settle(w->v, ag_str(w->key));
    free(w->key);
    free(w);
}

static bool
is_fresh(struct vault *v, ag_str_t key)
{
    struct vault_snapshot *s = vault_snapshot_find(v, key);
    bool out = s != NULL;

    vault_snapshot_unref(s);
    return out;
}

void
vault_egress_warm(struct vault *v, struct vault_tenant *tenant,
                  ag_str_t session_id)
{
    AG_AUTO(ag_buf_release) struct ag_buf key = AG_BUF_INIT(4096);
    struct vault_session_ask ask = {
        .session_id = session_id, .kind = VAULT_KIND_BRAIN, .wants_mark = true};
    struct warming *w;

    ag_buf_addf(&key, KEY_OF_BRAIN "%.*s", AG_FMT(session_id));
    if (is_fresh(v, ag_buf_str(&key))
        || !vault_snapshot_lead(v, ag_buf_str(&key)))
        return;
    w = ag_xcalloc(1, sizeof(*w));
    w->v = v;
    w->tenant = tenant;
    w->key = ag_str_dup(ag_buf_str(&key));
    w->snapshot = vault_snapshot_begin(v);
    vault_session_query(v, tenant, &ask, on_warm, w);
}

static int
read_ask(struct vault_authorizing *a,
         const Agent__Vault__V1__AuthorizeRequest *req, struct ag_err *err)
{
    struct vault_ask *ask = &a->ask;

    ask->is_https = strcmp(req->scheme, "https") == 0;
    if ((!ask->is_https && strcmp(req->scheme, "http") != 0) || req->port < 1
        || req->port > 65535 || *req->host == '\0' || req->n_stubs > STUBS_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "scheme, host, port, stubs: not a destination with "
                          "at most %d stubs",
                          STUBS_MAX);
    ask->host = ag_str(req->host);
    ask->port = req->port;
    ask->method = ag_str(req->method);
    ask->path = ag_str(req->path);
    ask->n_stubs = req->n_stubs;
    ask->stubs =
        ag_arena_alloc(a->op->arena, (req->n_stubs + 1) * sizeof(*ask->stubs));
    for (size_t i = 0; i < req->n_stubs; i++) {
        const Agent__Vault__V1__FoundStub *f = req->stubs[i];
        ask->stubs[i] = (struct vault_found){.slot = (enum vault_slot)f->kind,
                                             .name = ag_str(f->name),
                                             .stub = ag_str(f->stub),
                                             .owner = VAULT_STUB_NOBODYS};
    }
    if ((*req->workload_address == '\0') == (*req->session_id == '\0'))
        return ag_err_set(err, AG_ERR_INVALID,
                          "workload_address, session_id: exactly one");
    return 0;
}

static void
begin(struct vault_authorizing *a)
{
    struct vault_op *op = a->op;
    const Agent__Vault__V1__AuthorizeRequest *req = op->request;
    struct ag_err err = AG_ERR_INIT;
    char address[46];

    if (read_ask(a, req, &err) < 0) {
        vault_answer_fail(a, &err);
        return;
    }
    if (*req->session_id != '\0') {
        a->ask.kind = VAULT_KIND_BRAIN;
        find_session(a, KEY_OF_BRAIN, ag_str(req->session_id));
        return;
    }
    if (vault_address_canonical(ag_str(req->workload_address), address, &err)
        < 0) {
        a->address = ag_str(req->workload_address);
        deny_unknown(a);
        return;
    }
    a->address = ag_arena_copy(op->arena, ag_str(address));
    find_session(a, KEY_OF_ADDRESS, a->address);
}

void
vault_authorize_anew(struct vault_authorizing *a)
{
    struct vault_op *op = a->op;

    vault_answer_finish(a);
    *a = (struct vault_authorizing){.op = op, .is_renewed = true};
    begin(a);
}

void
vault_authorize_begin(struct vault_op *op, struct vault_batch *batch,
                      size_t place)
{
    struct vault_authorizing *a = ag_arena_alloc(op->arena, sizeof(*a));

    a->op = op;
    a->batch = batch;
    a->place = place;
    begin(a);
}

static void
authorize(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    vault_authorize_begin(vault_op_plain(call, request, arg), NULL, 0);
}

void
vault_egress_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__egress_service__authorize__rpc,
                      authorize, face);
    vault_batch_serve(srv, face);
}
