/*
 * Decode, check, call, encode: one function a method. The caller is brain_svc,
 * alone on its socket; what it names is checked for form here and for right by
 * the vault.
 */
#include "sandbox_svc/sandbox_rpc.h"

#include "sandbox_svc/sandbox_metrics.h"

#include <stdio.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "sandbox.pb-c.h"
#include "sandbox_svc/sandbox_exec.h"
#include "sandbox_svc/sandbox_session.h"
#include "sandbox_svc/sandbox_workspace.h"

#define TASK_MAX 4096
#define COMMAND_MAX (128 * 1024 - 1)
#define STDIN_MAX (1 << 20)
#define CALL_ID_MAX 128

/* ---- checks ---------------------------------------------------------- */

static int
check_session_id(const char *id, struct ag_err *err)
{
    if (ag_id_is(ag_str(id), "sesn"))
        return 0;
    return ag_err_set(err, AG_ERR_INVALID,
                      "session_id: \"%.40s\" is no session id (sesn_…)", id);
}

/* Part of the name of a file, so no '/' and no leading dot. */
static int
check_call_id(const char *id, struct ag_err *err)
{
    size_t n = strlen(id);
    bool ok = n > 0 && n <= CALL_ID_MAX && *id != '.';

    for (size_t i = 0; ok && i < n; i++)
        ok = (id[i] >= 'a' && id[i] <= 'z') || (id[i] >= 'A' && id[i] <= 'Z')
             || (id[i] >= '0' && id[i] <= '9') || strchr("_-.:", id[i]);
    if (ok)
        return 0;
    return ag_err_set(err, AG_ERR_INVALID,
                      "call_id: must be 1 to %d letters, digits, '_', '-', "
                      "'.' or ':'",
                      CALL_ID_MAX);
}

static int
check_text(const char *field, const char *text, size_t max, struct ag_err *err)
{
    if (strlen(text) > max)
        return ag_err_set(err, AG_ERR_INVALID, "%s: longer than %zu bytes",
                          field, max);
    if (!ag_str_is_utf8(ag_str(text)))
        return ag_err_set(err, AG_ERR_INVALID, "%s: is not UTF-8", field);
    return 0;
}

static int
check_execute(const struct sandbox_svc *svc,
              const Agent__Sandbox__V1__ExecuteRequest *r, struct ag_err *err)
{
    if (check_session_id(r->session_id, err) < 0
        || check_call_id(r->call_id, err) < 0
        || check_text("command", r->command, COMMAND_MAX, err) < 0)
        return -1;
    if (*r->command == 0)
        return ag_err_set(err, AG_ERR_INVALID, "command: is empty");
    if (*r->sandbox_id != 0 && !ag_id_is(ag_str(r->sandbox_id), "sbx"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "sandbox_id: is no sandbox id (sbx_…)");
    if (r->timeout_seconds < 0
        || r->timeout_seconds > svc->limits.timeout_max_s)
        return ag_err_set(err, AG_ERR_INVALID,
                          "timeout_seconds: must be 1 to %lld, or 0 for %lld",
                          (long long)svc->limits.timeout_max_s,
                          (long long)svc->limits.timeout_s);
    if (r->stdin.len > STDIN_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "stdin: longer than %d bytes",
                          STDIN_MAX);
    return 0;
}

/* ---- Provision ------------------------------------------------------- */

static void
fill_limits(const struct sandbox_svc *svc, Agent__Sandbox__V1__Limits *out)
{
    const struct sandbox_limits *l = &svc->limits;

    out->memory_bytes = l->box.memory_bytes;
    out->cpu_milli = l->box.cpu_milli;
    out->pids = l->box.pids;
    out->disk_bytes = l->box.disk_bytes;
    out->timeout_seconds = (int32_t)l->timeout_max_s;
    out->output_bytes = l->output_bytes;
}

static void
on_provisioned(void *arg, const struct sandbox_session *s, bool is_new,
               const struct ag_err *err)
{
    struct ag_rpc_call *call = arg;
    Agent__Sandbox__V1__ProvisionResponse r =
        AGENT__SANDBOX__V1__PROVISION_RESPONSE__INIT;
    Agent__Sandbox__V1__Limits limits = AGENT__SANDBOX__V1__LIMITS__INIT;
    char expires[AG_TIME_TEXT];

    if (err != NULL) {
        ag_rpc_fail(call, err);
        return;
    }
    fill_limits(s->svc, &limits);
    ag_time_format(s->expires_us, expires);
    r.sandbox_id = s->box->id;
    r.image = s->svc->conf.image;
    r.workdir = "/workspace";
    r.n_env_names = s->n_env_names;
    r.env_names = s->env_names;
    r.n_allowed_hosts = s->n_hosts;
    r.allowed_hosts = s->hosts;
    r.limits = &limits;
    r.expires_at = expires;
    r.is_new = is_new;
    ag_rpc_reply(call, &r.base);
}

static void
provision(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Sandbox__V1__ProvisionRequest *r =
        (const Agent__Sandbox__V1__ProvisionRequest *)m;
    struct sandbox_provision_args args = {r->session_id, r->environment_id,
                                          r->task_description, r->fence};
    struct ag_err err = AG_ERR_INIT;

    if (check_session_id(r->session_id, &err) < 0
        || check_call_id(r->call_id, &err) < 0
        || check_text("task_description", r->task_description, TASK_MAX, &err)
               < 0
        || check_text("environment_id", r->environment_id, 64, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    sandbox_session_provision(arg, &args, on_provisioned, call);
}

/* ---- Execute --------------------------------------------------------- */

static void
execute(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Sandbox__V1__ExecuteRequest *r =
        (const Agent__Sandbox__V1__ExecuteRequest *)m;
    struct ag_err err = AG_ERR_INIT;

    if (check_execute(arg, r, &err) < 0)
        ag_rpc_fail(call, &err);
    else
        sandbox_exec(arg, call, r);
}

/* ---- EndTurn, DeleteWorkspace ---------------------------------------- */

static void
reply_ended(struct ag_rpc_call *call, bool destroyed)
{
    Agent__Sandbox__V1__EndTurnResponse r =
        AGENT__SANDBOX__V1__END_TURN_RESPONSE__INIT;

    r.destroyed = destroyed;
    ag_rpc_reply(call, &r.base);
}

static void
on_ended(void *arg)
{
    reply_ended(arg, true);
}

static void
end_turn(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Sandbox__V1__EndTurnRequest *r =
        (const Agent__Sandbox__V1__EndTurnRequest *)m;
    struct ag_err err = AG_ERR_INIT;

    if (check_session_id(r->session_id, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    struct sandbox_session *s =
        sandbox_session_find(arg, ag_str(r->session_id));
    if (s == NULL)
        reply_ended(call, false);
    else
        sandbox_session_end(s, "turn ended", on_ended, call);
}

static void
on_deleted(void *arg, const struct ag_err *err)
{
    Agent__Sandbox__V1__DeleteWorkspaceResponse r =
        AGENT__SANDBOX__V1__DELETE_WORKSPACE_RESPONSE__INIT;

    if (err != NULL)
        ag_rpc_fail(arg, err);
    else
        ag_rpc_reply(arg, &r.base);
}

static void
delete_workspace(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Sandbox__V1__DeleteWorkspaceRequest *r =
        (const Agent__Sandbox__V1__DeleteWorkspaceRequest *)m;
    struct ag_err err = AG_ERR_INIT;

    if (check_session_id(r->session_id, &err) < 0)
        ag_rpc_fail(call, &err);
    else
        sandbox_workspace_delete(arg, r->session_id, on_deleted, call);
}

/* ---- ListSandboxes --------------------------------------------------- */

static Agent__Sandbox__V1__Sandbox *
describe(struct ag_arena *arena, const struct sandbox_session *s)
{
    Agent__Sandbox__V1__Sandbox *m = ag_arena_alloc(arena, sizeof(*m));
    char *created = ag_arena_alloc(arena, AG_TIME_TEXT);

    agent__sandbox__v1__sandbox__init(m);
    ag_time_format(s->created_us, created);
    m->sandbox_id = s->box->id;
    m->session_id = (char *)s->id;
    m->environment_id = s->environment_id;
    m->created_at = created;
    m->is_busy = s->job != NULL;
    return m;
}

static void
list_sandboxes(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const struct sandbox_svc *svc = arg;
    struct ag_arena *arena = ag_rpc_call_arena(call);
    Agent__Sandbox__V1__ListSandboxesResponse r =
        AGENT__SANDBOX__V1__LIST_SANDBOXES_RESPONSE__INIT;
    size_t n = 0;

    (void)m;
    for (struct sandbox_session *s = svc->sessions; s != NULL; s = s->next)
        n++;
    r.sandboxes = ag_arena_alloc(arena, (n + 1) * sizeof(*r.sandboxes));
    for (struct sandbox_session *s = svc->sessions; s != NULL; s = s->next)
        if (sandbox_session_is_live(s))
            r.sandboxes[r.n_sandboxes++] = describe(arena, s);
    ag_rpc_reply(call, &r.base);
}

static void
cancel(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Sandbox__V1__CancelRequest *r =
        (const Agent__Sandbox__V1__CancelRequest *)m;
    Agent__Sandbox__V1__CancelResponse reply =
        AGENT__SANDBOX__V1__CANCEL_RESPONSE__INIT;
    struct ag_err err = AG_ERR_INIT;

    if (check_session_id(r->session_id, &err) < 0
        || check_call_id(r->call_id, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    reply.cancelled = sandbox_exec_cancel(arg, r->session_id, r->call_id);
    ag_rpc_reply(call, &reply.base);
}

static void
get_metrics(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(1 << 20);
    Agent__Sandbox__V1__Metrics reply = AGENT__SANDBOX__V1__METRICS__INIT;
    struct ag_err err;

    (void)m;
    if (sandbox_metrics_write(arg, &text, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    reply.text = (char *)(uintptr_t)ag_buf_cstr(&text);
    ag_rpc_reply(call, &reply.base);
}

void
sandbox_rpc_add(struct ag_rpc_server *server, struct sandbox_svc *svc)
{
    ag_rpc_server_add(server,
                      &agent__sandbox__v1__sandbox_service__provision__rpc,
                      provision, svc);
    ag_rpc_server_add(server,
                      &agent__sandbox__v1__sandbox_service__execute__rpc,
                      execute, svc);
    ag_rpc_server_add(server, &agent__sandbox__v1__sandbox_service__cancel__rpc,
                      cancel, svc);
    ag_rpc_server_add(server,
                      &agent__sandbox__v1__sandbox_service__end_turn__rpc,
                      end_turn, svc);
    ag_rpc_server_add(
        server, &agent__sandbox__v1__sandbox_service__delete_workspace__rpc,
        delete_workspace, svc);
    ag_rpc_server_add(server,
                      &agent__sandbox__v1__sandbox_service__list_sandboxes__rpc,
                      list_sandboxes, svc);
    ag_rpc_server_add(server,
                      &agent__sandbox__v1__sandbox_service__get_metrics__rpc,
                      get_metrics, svc);
}
