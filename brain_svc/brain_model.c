/*
 * The model client. The vault gives a stub for the session's model credential;
 * egress puts the real one in. All on the loop's thread.
 */
#include "brain_svc/brain_model.h"

#include <stdlib.h>

#include "agent_rpc.h"
#include "brain_svc/brain_http.h"
#include "lib/id.h"
#include "vault.pb-c.h"

#define BACKOFF_MS 500
#define RETRY_AFTER_MAX_MS 30000
#define ERROR_BODY_MAX 4096

struct brain_model_call {
    struct brain *brain;
    char session[AG_ID_TEXT];
    struct ag_buf body, error_body;
    char *stub;
    struct brain_chat chat;
    struct brain_http_request *http;
    struct ag_timer retry;
    int attempt;
    int64_t retry_after_ms;
    bool is_cancelled, is_opening;
    struct ag_err parse_err;
    brain_model_text *text;
    brain_model_done *done;
    void *arg;
};

static void model_send(struct brain_model_call *c);

static void
model_free(struct brain_model_call *c)
{
    ag_timer_stop(c->brain->loop, &c->retry);
    brain_http_cancel(c->http);
    brain_chat_release(&c->chat);
    ag_buf_release(&c->body);
    ag_buf_release(&c->error_body);
    free(c->stub);
    free(c);
}

static void
model_fail(struct brain_model_call *c, const struct ag_err *err)
{
    c->done(c->arg, NULL, err);
    model_free(c);
}

/* ---- the answer -------------------------------------------------------- */

static void
on_header(void *arg, ag_str_t name, ag_str_t value)
{
    struct brain_model_call *c = arg;
    int64_t seconds;

    if (name.n == 11 && strncasecmp(name.p, "retry-after", 11) == 0
        && ag_str_i64(value, &seconds) == 0 && seconds >= 0)
        c->retry_after_ms = seconds > RETRY_AFTER_MAX_MS / 1000
                                ? RETRY_AFTER_MAX_MS
                                : seconds * 1000;
}

static int
on_data(void *arg, int status, ag_str_t bytes)
{
    struct brain_model_call *c = arg;
    size_t before = c->chat.text.n;
    struct ag_err ignored;

    if (status != 200) {
        size_t room = c->error_body.max - c->error_body.n;

        return ag_buf_append(&c->error_body,
                             ag_str_n(bytes.p, bytes.n < room ? bytes.n : room),
                             &ignored);
    }
    if (brain_chat_feed(&c->chat, bytes, &c->parse_err) < 0)
        return -1;
    if (c->chat.text.n > before)
        c->text(c->arg,
                ag_str_n(c->chat.text.p + before, c->chat.text.n - before));
    return 0;
}

/* What an endpoint's error body says, cut short. */
static ag_str_t
error_message(const struct brain_model_call *c, json_t **keep)
{
    struct ag_err ignored;
    const json_t *e;

    *keep = ag_json_parse(ag_buf_str(&c->error_body), &ignored);
    e = json_object_get(*keep, "error");
    if (json_is_string(e))
        return ag_json_str(e);
    return ag_json_str(json_object_get(e, "message"));
}

static void
status_error(const struct brain_model_call *c, int status, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *keep = NULL;
    ag_str_t text = error_message(c, &keep);
    enum ag_err_kind kind = status == 429                    ? AG_ERR_LIMIT
                            : status == 401 || status == 403 ? AG_ERR_DENIED
                            : status >= 500 ? AG_ERR_UNAVAILABLE
                                            : AG_ERR_INVALID;

    ag_err_set(err, kind, "the model endpoint answered %d%s%.*s", status,
               text.n > 0 ? ": " : "", AG_FMT(text));
}

static void
retry_now(struct ag_timer *timer)
{
    model_send((
        struct brain_model_call *)((char *)timer
                                   - offsetof(struct brain_model_call, retry)));
}

/* Only before the first token, and only for what may pass. */
static bool
retry_later(struct brain_model_call *c, int status, const struct ag_err *err)
{
    bool is_passing = status == 429 || status == 503
                      || (status == 0 && err->kind == AG_ERR_UNAVAILABLE);
    int64_t delay = c->retry_after_ms;

    if (!is_passing || c->chat.text.n > 0 || c->chat.n_calls > 0
        || c->attempt >= c->brain->conf.model_attempts)
        return false;
    if (delay == 0)
        delay = BACKOFF_MS << (c->attempt - 1);
    ag_log(AG_WARN, "model.retried", AG_S("session", c->session),
           AG_I("attempt", c->attempt), AG_I("delay_ms", delay), AG_E(err));
    ag_timer_start(c->brain->loop, &c->retry, delay);
    return true;
}

static void
copy_wrapped(const struct ag_err *from, struct ag_err *to)
{
    *to = *from;
    (void)ag_err_wrap(to, "model call");
}

static void
on_done(void *arg, int status, const struct ag_err *http_err)
{
    struct brain_model_call *c = arg;
    struct ag_err err = AG_ERR_INIT;

    c->http = NULL; /* freed by its owner behind this callback */
    if (c->parse_err.kind != AG_ERR_NONE)
        err = c->parse_err;
    else if (http_err != NULL)
        copy_wrapped(http_err, &err);
    else if (status != 200)
        status_error(c, status, &err);
    else if (!c->chat.is_done && c->chat.finish.n == 0)
        ag_err_set(&err, AG_ERR_UNAVAILABLE,
                   "the model's stream ended in the middle");
    if (err.kind == AG_ERR_NONE) {
        c->done(c->arg, &c->chat, NULL);
        model_free(c);
    } else if (!retry_later(c, status, &err)) {
        model_fail(c, &err);
    }
}

/* ---- the request ------------------------------------------------------- */

static void
model_send(struct brain_model_call *c)
{
    AG_AUTO(ag_buf_release) struct ag_buf url = AG_BUF_INIT(4096);
    AG_AUTO(ag_buf_release) struct ag_buf auth = AG_BUF_INIT(4096);
    AG_AUTO(ag_buf_release) struct ag_buf session = AG_BUF_INIT(256);
    const struct brain_conf *conf = &c->brain->conf;
    ag_str_t base = ag_str(conf->model_base_url);
    bool is_tls = ag_str_starts(base, AG_STR("https://"));
    const char *headers[5];
    size_t n = 0;
    struct brain_http_post post = {
        .socket_path = is_tls ? conf->egress_tls : conf->egress_plain,
        .ca_file = conf->ca_file,
        .headers = headers,
        .body = ag_buf_str(&c->body),
        .timeout_ms = conf->model_timeout_seconds * 1000,
    };

    if (base.n > 0 && base.p[base.n - 1] == '/')
        base.n--;
    ag_buf_addf(&url, "%.*s/chat/completions", AG_FMT(base));
    ag_buf_addf(&session, "x-brainbox-session: %s", c->session);
    headers[n++] = "content-type: application/json";
    headers[n++] = "expect:";
    headers[n++] = ag_buf_cstr(&session);
    if (c->stub[0] != '\0') {
        ag_buf_addf(&auth, "authorization: Bearer %s", c->stub);
        headers[n++] = ag_buf_cstr(&auth);
    }
    headers[n] = NULL;
    post.url = ag_buf_cstr(&url);
    brain_chat_release(&c->chat);
    brain_chat_init(&c->chat, (size_t)conf->model_answer_bytes);
    ag_buf_clear(&c->error_body);
    c->parse_err.kind = AG_ERR_NONE;
    c->retry_after_ms = 0;
    c->attempt++;
    c->http =
        brain_http_post(c->brain->http, &post, on_header, on_data, on_done, c);
}

static void
opened(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct brain_model_call *c = arg;

    c->is_opening = false;
    if (c->is_cancelled) {
        model_free(c);
        return;
    }
    if (err != NULL) {
        model_fail(c, err);
        return;
    }
    c->stub = ag_str_dup(ag_str(
        ((const Agent__Vault__V1__OpenWorkloadResponse *)reply)->model_stub));
    model_send(c);
}

struct brain_model_call *
brain_model_start(struct brain *brain, ag_str_t session, ag_str_t body,
                  brain_model_text *text, brain_model_done *done, void *arg)
{
    struct brain_model_call *c = ag_xcalloc(1, sizeof(*c));
    Agent__Vault__V1__OpenWorkloadRequest m =
        AGENT__VAULT__V1__OPEN_WORKLOAD_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, NULL, 0};

    ag_assert(session.n < sizeof(c->session));
    c->brain = brain;
    memcpy(c->session, session.p, session.n);
    ag_buf_init(&c->body, body.n);
    ag_buf_add(&c->body, body);
    ag_buf_init(&c->error_body, ERROR_BODY_MAX);
    brain_chat_init(&c->chat, (size_t)brain->conf.model_answer_bytes);
    c->retry.fn = retry_now;
    c->text = text;
    c->done = done;
    c->arg = arg;
    c->is_opening = true;
    m.session_id = c->session;
    m.kind = AGENT__VAULT__V1__WORKLOAD_KIND__WORKLOAD_BRAIN;
    ag_rpc_unary(brain->vault,
                 &agent__vault__v1__workload_service__open_workload__rpc,
                 &m.base, &opts, opened, c);
    return c;
}

void
brain_model_cancel(struct brain_model_call *call)
{
    if (call == NULL)
        return;
    call->is_cancelled = true;
    if (!call->is_opening)
        model_free(call);
}
