/*
 * EgressService/Fingerprints, what to look for in requests, and Confirm, which
 * says whether what was met is a value: it freezes the session of the sandbox
 * that sent it, and the audit row is committed, before it answers.
 */
#include "agent_rpc.h"
#include "lib/fingerprint.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_caller.h"
#include "vault_svc/vault_form.h"
#include "vault_svc/vault_incident.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_search.h"

enum { ENTRIES_MAX = 65536 };

static void
put_le(unsigned char *out, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (unsigned char)(v >> 8 * i);
}

/* ---- Fingerprints ------------------------------------------------------ */

static void
on_table(void *arg, const struct vault_search_table *t,
         const struct ag_err *err)
{
    struct vault_op *op = arg;
    const Agent__Vault__V1__FingerprintsRequest *req = op->request;
    Agent__Vault__V1__FingerprintsResponse out =
        AGENT__VAULT__V1__FINGERPRINTS_RESPONSE__INIT;

    if (t == NULL) {
        vault_op_fail(op, err);
        return;
    }
    bool is_same = req->number == t->number;
    size_t begin = is_same && req->begin < t->n ? req->begin : 0;
    size_t n =
        req->limit == 0 || req->limit > ENTRIES_MAX ? ENTRIES_MAX : req->limit;
    out.tenant = op->tenant->name;
    out.number = t->number;
    out.total = (uint32_t)t->n;
    out.begin = (uint32_t)begin;
    out.is_unchanged = is_same && req->begin == 0;
    out.key.data = op->tenant->ring.find;
    out.key.len = sizeof(op->tenant->ring.find);
    n = out.is_unchanged ? 0 : (n > t->n - begin ? t->n - begin : n);
    unsigned char *fp = ag_arena_alloc(op->arena, 8 * n + 1);
    unsigned char *spans = ag_arena_alloc(op->arena, 4 * n + 1);
    for (size_t i = 0; i < n; i++) {
        const struct vault_search_entry *e = &t->entries[begin + i];
        put_le(fp + 8 * i, e->fingerprint, 8);
        put_le(spans + 4 * i, e->before, 2);
        put_le(spans + 4 * i + 2, e->after, 2);
    }
    out.fingerprints = (ProtobufCBinaryData){8 * n, fp};
    out.spans = (ProtobufCBinaryData){4 * n, spans};
    ag_rpc_reply(op->call, &out.base);
}

static void
on_asker(struct vault_op *op, const struct vault_caller *who)
{
    if (who->session_id.n == 0)
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "workload_address, session_id: nobody has it");
    else
        vault_search_get(op->v, op->tenant, on_table, op);
}

static bool
names_one(struct vault_op *op, const char *address, const char *session_id)
{
    if ((*address == '\0') != (*session_id == '\0'))
        return true;
    vault_op_refuse(op, AG_ERR_INVALID,
                    "workload_address, session_id: exactly one");
    return false;
}

static void
fingerprints(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    const Agent__Vault__V1__FingerprintsRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);

    if (names_one(op, req->workload_address, req->session_id))
        vault_caller_find(op, req->workload_address, req->session_id, on_asker);
}

/* ---- Confirm ----------------------------------------------------------- */

enum { CANDIDATES_MAX = 16 };

struct confirming {
    ag_str_t session_id;
    struct vault_search_entry entries[CANDIDATES_MAX];
    char *ids[CANDIDATES_MAX];
    size_t n, at;
};

static void try_next(struct vault_op *op);

static void
reply(struct vault_op *op, const char *credential_id, const char *audit_id)
{
    Agent__Vault__V1__ConfirmResponse out =
        AGENT__VAULT__V1__CONFIRM_RESPONSE__INIT;

    if (credential_id != NULL) {
        out.is_known = true;
        out.credential_id = (char *)credential_id;
        out.audit_id = (char *)audit_id;
        out.message = "the request holds the value of a credential: only "
                      "stubs may leave";
    }
    ag_rpc_reply(op->call, &out.base);
}

static void
on_audited(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct confirming *c = op->state;

    if (audit_id == NULL)
        vault_op_fail(op, err);
    else
        reply(op, c->ids[c->at], audit_id);
}

static char *
detail_of(struct vault_op *op)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(8192);
    const Agent__Vault__V1__ConfirmRequest *req = op->request;
    const struct confirming *c = op->state;

    ag_buf_addf(&b, "{\"credential\":\"%s\",\"port\":%d", c->ids[c->at],
                req->port);
    vault_add_text(&b, "where", ag_str(req->where));
    vault_add_text(&b, "host", ag_str(req->host));
    vault_add_text(&b, "method", ag_str(req->method));
    vault_add_text(&b, "request_id", ag_str(req->request_id));
    ag_buf_addc(&b, '}');
    return vault_op_text(op, ag_buf_str(&b));
}

static void
on_frozen(void *arg, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const Agent__Vault__V1__ConfirmRequest *req = op->request;
    const struct confirming *c = op->state;

    if (err != NULL) {
        vault_op_fail(op, err);
        return;
    }
    char *object = ag_arena_printf(op->arena, "%.5s://%.253s:%d", req->scheme,
                                   req->host, req->port);
    const struct vault_audit_entry e = {"egress.value_found", c->session_id,
                                        ag_str(object), c->session_id,
                                        ag_str(detail_of(op))};
    vault_audit_add(op->v, op->tenant, &e, on_audited, op);
}

/* What a sandbox sends it chose to send; what a brain sends may be what a
 * person wrote, and is refused only. */
static void
found(struct vault_op *op)
{
    const Agent__Vault__V1__ConfirmRequest *req = op->request;
    const struct confirming *c = op->state;
    const struct vault_incident in = {"known_value_out", c->session_id,
                                      ag_str(detail_of(op))};

    ag_log(AG_WARN, "credential.value_found", AG_V("session", c->session_id),
           AG_S("credential", c->ids[c->at]), AG_S("host", req->host));
    if (*req->workload_address != '\0')
        vault_incident_open(op->v, op->tenant, &in, on_frozen, op);
    else
        on_frozen(op, NULL);
}

static bool
is_value(struct vault_op *op, const struct vault_credential_row *row,
         const struct vault_search_entry *e)
{
    AG_AUTO(ag_secret_release) ag_secret_t value = AG_SECRET_INIT;
    AG_AUTO(ag_buf_wipe) struct ag_buf form = AG_BUF_INIT(VAULT_FORM_MAX);
    const Agent__Vault__V1__ConfirmRequest *req = op->request;
    struct ag_err why = AG_ERR_INIT;

    if (vault_credential_open(op->tenant, row, &value, &why) < 0) {
        ag_log(AG_ERROR, "call.failed",
               AG_S("request_id", ag_rpc_call_request_id(op->call)),
               AG_E(&why));
        return false;
    }
    if (!vault_form_make(ag_secret_view(&value), e->form, &form))
        return false;
    struct vault_form_window w = vault_form_window(ag_buf_str(&form));
    return ag_str_eq_ct(ag_str_n(form.p + w.at - w.before,
                                 w.before + AG_FINGERPRINT_WINDOW + w.after),
                        vault_op_bytes(req->data));
}

static void
on_credential(void *arg, const struct ag_db_result *res,
              const struct ag_err *err)
{
    struct vault_op *op = arg;
    struct confirming *c = op->state;
    struct vault_credential_row row;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) == 1) {
        vault_credential_read(res, 0, 0, op->arena, &row);
        if (is_value(op, &row, &c->entries[c->at])) {
            found(op);
            return;
        }
    }
    c->at++;
    try_next(op);
}

static void
try_next(struct vault_op *op)
{
    static const char sql[] = "SELECT " VAULT_CREDENTIAL_COLUMNS
                              " FROM vault.credential c WHERE c.id = $1";
    struct confirming *c = op->state;

    if (c->at == c->n) {
        reply(op, NULL, NULL);
        return;
    }
    struct ag_db_param params[] = {ag_db_str(ag_str(c->ids[c->at]))};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 1,
                on_credential, op);
}

/* The entries of this fingerprint whose span is as long as what was sent. */
static void
on_confirm_table(void *arg, const struct vault_search_table *t,
                 const struct ag_err *err)
{
    struct vault_op *op = arg;
    const Agent__Vault__V1__ConfirmRequest *req = op->request;
    struct confirming *c = op->state;
    uint64_t wanted = 0;

    if (t == NULL) {
        vault_op_fail(op, err);
        return;
    }
    for (int i = 7; i >= 0; i--)
        wanted = wanted << 8 | req->fingerprint.data[i];
    const struct vault_search_entry *e = vault_search_find(t, wanted);
    const struct vault_search_entry *end = t->entries + t->n;
    for (; e != NULL && e < end && e->fingerprint == wanted
           && c->n < CANDIDATES_MAX;
         e++)
        if ((size_t)e->before + AG_FINGERPRINT_WINDOW + e->after
            == req->data.len) {
            c->ids[c->n] = vault_op_text(op, ag_str(t->ids[e->credential]));
            c->entries[c->n++] = *e;
        }
    try_next(op);
}

static void
on_sender(struct vault_op *op, const struct vault_caller *who)
{
    struct confirming *c = op->state;

    if (who->session_id.n == 0) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "workload_address, session_id: nobody has it");
        return;
    }
    c->session_id = who->session_id;
    vault_search_get(op->v, op->tenant, on_confirm_table, op);
}

static void
confirm(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    const Agent__Vault__V1__ConfirmRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);

    if (!names_one(op, req->workload_address, req->session_id))
        return;
    if (req->fingerprint.len != 8
        || req->data.len > 2 * VAULT_FORM_SPAN_MAX + AG_FINGERPRINT_WINDOW) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "fingerprint, data: 8 bytes, and at most %d around "
                        "the window",
                        2 * VAULT_FORM_SPAN_MAX);
        return;
    }
    op->state = ag_arena_alloc(op->arena, sizeof(struct confirming));
    vault_caller_find(op, req->workload_address, req->session_id, on_sender);
}

void
vault_search_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
#define M(name) &agent__vault__v1__egress_service__##name##__rpc
    ag_rpc_server_add(srv, M(fingerprints), fingerprints, face);
    ag_rpc_server_add(srv, M(confirm), confirm, face);
#undef M
}
