/*
 * The two tools: from a tool_use event to its tool_result.
 *
 * The event's id is the call id, so a call is repeated without fear: after a
 * crash, or while sandbox_svc is restarted, it returns what it returned or
 * would have returned, or that nobody knows. A sandbox that was lost in
 * mid-turn is replaced, and the result says so.
 */
#include "brain_svc/brain_preview.h"
#include "brain_svc/brain_run_internal.h"
#include "brain_svc/brain_tool_input.h"
#include "brain_svc/brain_tool_result.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "sandbox.pb-c.h"

#define RETRY_MS 500
#define RETRIES_MAX 40
#define EXECUTE_SLACK_MS 30000 /* beyond the command's own time limit */
#define RESULT_MAX (8 * 1024 * 1024)

struct brain_tool {
    struct brain_run *run; /* NULL: cut off, free when it comes back */
    struct brain *brain;
    char id[AG_ID_TEXT], session[AG_ID_TEXT];
    struct brain_tool_input in;
    bool is_cancelled, is_replaced, has_result;
    /* No brain can have sent it before: see ExecuteRequest.is_new. */
    bool is_new;
    int64_t fence, wall_ms;
    int retries;
    struct ag_rpc_client_call *call;
    struct ag_timer retry;
    struct brain_preview_output preview;
    json_t *result;
    bool is_error;
    void (*turn_ended)(struct brain_run *run);
};

static void tool_send(struct brain_tool *t);

static void
tool_free(struct brain_tool *t)
{
    ag_timer_stop(t->brain->loop, &t->retry);
    json_decref(t->result);
    json_decref(t->preview.result);
    brain_tool_input_release(&t->in);
    free(t);
}

/* The result event; the tool is over. */
static void
tool_finish(struct brain_tool *t, ag_str_t text, bool is_error)
{
    struct brain_run *run = t->run;
    json_t *e;

    if (run == NULL) {
        tool_free(t);
        return;
    }
    e = brain_event_begun(t->preview.result, "agent.tool_result");
    json_object_set_new(e, "tool_use_id", json_string(t->id));
    json_object_set_new(e, "content", brain_text_content(text));
    json_object_set_new(e, "is_error", json_boolean(is_error));
    if (t->wall_ms > 0)
        json_object_set_new(e, "brainbox.wall_ms", json_integer(t->wall_ms));
    run->tool = NULL;
    tool_free(t);
    brain_run_append(run, &e, 1);
}

static void
tool_finish_json(struct brain_tool *t, const json_t *result, bool is_error)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(RESULT_MAX);
    struct ag_err err;

    if (ag_json_dump(result, &text, &err) < 0)
        tool_finish(t, ag_str(err.msg), true);
    else
        tool_finish(t, ag_buf_str(&text), is_error);
}

static void
retry_now(struct ag_timer *timer)
{
    struct brain_tool *t =
        (struct brain_tool *)((char *)timer
                              - offsetof(struct brain_tool, retry));

    tool_send(t);
}

/*
 * The service cannot be reached: it may be restarting. Or it, or the vault
 * behind it, is slow to provision, which may be asked for again. Anything else
 * is the model's to read.
 */
static void
tool_failed(struct brain_tool *t, const struct ag_err *err)
{
    bool is_passing = err->kind == AG_ERR_UNAVAILABLE
                      || (err->kind == AG_ERR_TIMEOUT && !t->in.is_execute);

    if (t->run == NULL) {
        tool_free(t);
        return;
    }
    if (is_passing && !t->is_cancelled && t->retries++ < RETRIES_MAX) {
        ag_log(AG_WARN, "tool.retried", AG_S("session", t->session),
               AG_S("call", t->id), AG_E(err));
        ag_timer_start(t->brain->loop, &t->retry, RETRY_MS);
        return;
    }
    tool_finish(t,
                t->is_cancelled ? AG_STR("cancelled: the turn was interrupted")
                                : ag_str(err->msg),
                true);
}

/* ---- provision --------------------------------------------------------- */

static void
provisioned(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    const Agent__Sandbox__V1__ProvisionResponse *m =
        (const Agent__Sandbox__V1__ProvisionResponse *)reply;
    AG_AUTO(ag_json_decref) json_t *result = NULL;
    struct brain_tool *t = arg;

    t->call = NULL;
    if (err != NULL) {
        tool_failed(t, err);
        return;
    }
    if (t->run == NULL) {
        tool_free(t);
        return;
    }
    if (t->in.is_execute) {
        /* The lost sandbox is replaced: now the command. */
        tool_send(t);
        return;
    }
    result = brain_tool_provision_result(m);
    tool_finish_json(t, result, false);
}

static void
send_provision(struct brain_tool *t)
{
    Agent__Sandbox__V1__ProvisionRequest m =
        AGENT__SANDBOX__V1__PROVISION_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS * 3, NULL, 0};
    char id[AG_ID_TEXT + 16];

    m.session_id = t->session;
    m.call_id = t->id;
    m.fence = t->fence;
    if (t->in.is_execute) {
        (void)snprintf(id, sizeof(id), "%s.%d", t->id, t->retries);
        m.call_id = id;
        m.task_description =
            (char *)(uintptr_t) "replaces a sandbox that was lost";
    } else {
        m.task_description = t->in.task;
        m.environment_id = t->in.environment_id;
    }
    t->call = ag_rpc_unary(t->brain->sandbox,
                           &agent__sandbox__v1__sandbox_service__provision__rpc,
                           &m.base, &opts, provisioned, t);
}

/* ---- execute ----------------------------------------------------------- */

static void
show_output(struct brain_tool *t, bool is_stderr,
            const ProtobufCBinaryData *data)
{
    if (t->run != NULL)
        brain_preview_output(t->brain, ag_str(t->session), t->id, &t->preview,
                             is_stderr, ag_str_n(data->data, data->len));
}

static void
execute_item(void *arg, const ProtobufCMessage *item)
{
    const Agent__Sandbox__V1__ExecuteResponse *m =
        (const Agent__Sandbox__V1__ExecuteResponse *)item;
    struct brain_tool *t = arg;
    bool is_stderr =
        m->item_case == AGENT__SANDBOX__V1__EXECUTE_RESPONSE__ITEM_STDERR;

    if (is_stderr
        || m->item_case == AGENT__SANDBOX__V1__EXECUTE_RESPONSE__ITEM_STDOUT) {
        show_output(t, is_stderr, is_stderr ? &m->stderr : &m->stdout);
        return;
    }
    if (m->item_case != AGENT__SANDBOX__V1__EXECUTE_RESPONSE__ITEM_RESULT
        || t->result != NULL)
        return;
    t->result = brain_tool_execute_result(m->result, t->is_replaced);
    t->wall_ms = m->result->wall_ms;
    t->is_error = m->result->outcome
                      != AGENT__SANDBOX__V1__EXECUTE_RESULT__OUTCOME__EXITED
                  || m->result->exit_code != 0;
}

/* A provision is among the calls of this turn, so the sandbox was lost. */
static bool
was_provisioned(const struct brain_run *run)
{
    for (size_t i = run->turn.start; i < run->log.n; i++) {
        const struct brain_event *e = &run->log.at[i];

        if (strcmp(e->type, "agent.tool_use") == 0
            && ag_str_is(ag_json_str(json_object_get(e->body, "name")),
                         "sandbox_provision"))
            return true;
    }
    return false;
}

static void
executed(void *arg, const struct ag_err *err)
{
    struct brain_tool *t = arg;
    struct ag_err lost;

    t->call = NULL;
    if (t->run != NULL && err != NULL && err->kind == AG_ERR_PRECONDITION
        && !t->is_replaced && was_provisioned(t->run)) {
        t->is_replaced = true;
        send_provision(t);
        return;
    }
    if (t->result != NULL) {
        tool_finish_json(t, t->result, t->is_error);
        return;
    }
    if (err == NULL)
        ag_err_set(&lost, AG_ERR_UNAVAILABLE, "sandbox_svc sent no result");
    tool_failed(t, err != NULL ? err : &lost);
}

static void
send_execute(struct brain_tool *t)
{
    Agent__Sandbox__V1__ExecuteRequest m =
        AGENT__SANDBOX__V1__EXECUTE_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {
        t->in.timeout_seconds * 1000 + EXECUTE_SLACK_MS, NULL, 0};

    m.session_id = t->session;
    m.call_id = t->id;
    if (!t->is_replaced)
        m.sandbox_id = t->in.sandbox_id;
    m.command = t->in.command;
    m.timeout_seconds = (int32_t)t->in.timeout_seconds;
    m.stdin.data = (uint8_t *)t->in.stdin_text;
    m.stdin.len = strlen(t->in.stdin_text);
    m.is_new = t->is_new;
    m.fence = t->fence;
    t->is_new = false;
    t->call = ag_rpc_stream(t->brain->sandbox,
                            &agent__sandbox__v1__sandbox_service__execute__rpc,
                            &m.base, &opts, execute_item, executed, t);
}

static void
tool_send(struct brain_tool *t)
{
    if (t->in.is_execute)
        send_execute(t);
    else
        send_provision(t);
}

/* ---- for the run ------------------------------------------------------- */

static struct brain_tool *
tool_new(struct brain_run *run, const char *id)
{
    struct brain_tool *t = ag_xcalloc(1, sizeof(*t));

    t->run = run;
    t->brain = run->brain;
    t->retry.fn = retry_now;
    (void)snprintf(t->id, sizeof(t->id), "%s", id);
    memcpy(t->session, run->session, sizeof(t->session));
    t->fence = run->fence;
    brain_tool_input_init(&t->in);
    return t;
}

/* What the session says to it: its environment, where the model named none, and
 * no longer than its budget allows. */
static void
fit_to_session(struct brain_tool *t)
{
    int64_t left = brain_run_sandbox_left(t->run);

    if (left >= 0 && left < t->in.timeout_seconds)
        t->in.timeout_seconds = left;
    if (t->in.environment_id[0] == '\0') {
        free(t->in.environment_id);
        t->in.environment_id = ag_str_dup(t->run->environment_id);
    }
}

void
brain_tool_start(struct brain_run *run, const struct brain_event *event)
{
    struct brain_tool *t = tool_new(run, event->id);
    struct ag_err err;

    run->tool = t;
    t->is_new = (size_t)(event - run->log.at) >= run->n_loaded;
    if (brain_tool_input_read(&t->in, event,
                              run->brain->conf.execute_timeout_seconds, &err)
        < 0) {
        tool_finish(t, ag_str(err.msg), true);
        return;
    }
    fit_to_session(t);
    tool_send(t);
}

/* Which call a Cancel was for: its tool may be gone when the answer comes. */
struct cancel {
    struct brain *brain;
    char session[AG_ID_TEXT], id[AG_ID_TEXT];
};

static void
cancel_answered(void *arg, const ProtobufCMessage *reply,
                const struct ag_err *err)
{
    struct cancel *c = arg;
    struct brain_run *run = brain_run_find(c->brain, ag_str(c->session));
    struct brain_tool *t = run == NULL ? NULL : run->tool;

    (void)reply;
    /* Cancelled, it ends with a result of its own. */
    if (err != NULL && t != NULL && t->call != NULL
        && strcmp(t->id, c->id) == 0)
        ag_rpc_cancel(t->call);
    free(c);
}

static void
send_cancel(struct brain_tool *t)
{
    Agent__Sandbox__V1__CancelRequest m =
        AGENT__SANDBOX__V1__CANCEL_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, NULL, 0};
    struct cancel *c = ag_xcalloc(1, sizeof(*c));

    c->brain = t->brain;
    memcpy(c->session, t->session, sizeof(c->session));
    memcpy(c->id, t->id, sizeof(c->id));
    m.session_id = t->session;
    m.call_id = t->id;
    ag_rpc_unary(t->brain->sandbox,
                 &agent__sandbox__v1__sandbox_service__cancel__rpc, &m.base,
                 &opts, cancel_answered, c);
}

void
brain_tool_cancel(struct brain_run *run)
{
    struct brain_tool *t = run->tool;

    if (t->is_cancelled)
        return;
    t->is_cancelled = true;
    if (t->call != NULL && t->in.is_execute) {
        send_cancel(t);
    } else if (t->call != NULL) {
        ag_rpc_cancel(t->call);
    } else {
        ag_timer_stop(t->brain->loop, &t->retry);
        tool_finish(t, AG_STR("cancelled: the turn was interrupted"), true);
    }
}

void
brain_tool_free(struct brain_run *run)
{
    struct brain_tool *t = run->tool;

    run->tool = NULL;
    t->run = NULL;
    if (t->call != NULL)
        ag_rpc_cancel(t->call);
    else
        tool_free(t);
}

static void
turn_ended(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct brain_tool *t = arg;
    struct brain_run *run = t->run;
    void (*done)(struct brain_run * run) = t->turn_ended;

    (void)reply;
    /* The sandbox then dies at its time limit, or with sandbox_svc. */
    if (err != NULL)
        ag_log(AG_WARN, "sandbox.end_failed", AG_S("session", t->session),
               AG_E(err));
    tool_free(t);
    done(run);
}

void
brain_tool_end_turn(struct brain_run *run, void (*done)(struct brain_run *run))
{
    Agent__Sandbox__V1__EndTurnRequest m =
        AGENT__SANDBOX__V1__END_TURN_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, NULL, 0};
    struct brain_tool *t = tool_new(run, "");

    t->turn_ended = done;
    m.session_id = t->session;
    ag_rpc_unary(run->brain->sandbox,
                 &agent__sandbox__v1__sandbox_service__end_turn__rpc, &m.base,
                 &opts, turn_ended, t);
}
