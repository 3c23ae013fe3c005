/*
 * The model client. The vault gives a stub for the session's model credential;
 * egress puts the real one in. All on the loop.
 */
#include "brain_svc/brain_model.h"

#include "brain_svc/brain_metrics.h"

#include <stdlib.h>
#include <sys/random.h>

#include "brain_svc/brain_price.h"
#include "brain_svc/brain_retry.h"
#include "lib/clock.h"
#include "lib/http_client.h"
#include "lib/id.h"
#include "lib/secret.h"

#define ERROR_BODY_MAX 4096
#define REQUEST_MAX (32 * 1024 * 1024)
#define KEPT_MAX REQUEST_MAX

struct brain_model_call {
    struct brain *brain;
    struct brain_model_ask ask;
    char session[AG_ID_TEXT];
    struct brain_route route;
    size_t n_route;
    struct ag_buf body, error_body;
    char *stub;
    struct brain_answer answer;
    struct ag_http_request *http;
    struct ag_timer retry;
    struct ag_timer limit; /* until the first token, then between tokens */
    int attempt;           /* on this route */
    int64_t retry_after_ms, cost_nano_usd;
    bool is_opening;              /* waits for the workload */
    int64_t opening_us, vault_us; /* began to wait; waited */
    int64_t sent_us;              /* this try */
    struct ag_err parse_err;

    bool is_held; /* what comes is kept here until brain_model_release */
    struct ag_timer release;
    struct ag_buf kept;  /* of the body */
    int status;          /* that came with it */
    bool is_over;        /* the endpoint is done */
    struct ag_err over;  /* kind NONE: with its status */
    struct ag_err early; /* there was no request; else kind NONE */
};

static void model_send(struct brain_model_call *c);
static void route_begin(struct brain_model_call *c);
static void model_open(struct brain_model_call *c);

static void
model_free(struct brain_model_call *c)
{
    ag_timer_stop(c->brain->loop, &c->retry);
    ag_timer_stop(c->brain->loop, &c->limit);
    ag_timer_stop(c->brain->loop, &c->release);
    if (c->is_opening) /* else another call may wait for it */
        brain_workload_leave(c->ask.workload);
    ag_http_cancel(c->http);
    brain_answer_release(&c->answer);
    ag_buf_release(&c->body);
    ag_buf_release(&c->error_body);
    ag_buf_release(&c->kept);
    free(c->stub);
    free(c);
}

/* ---- the end ----------------------------------------------------------- */

static void
give_up(struct brain_model_call *c, const struct ag_err *err)
{
    if (c->is_held) {
        c->early = *err;
        return;
    }
    c->ask.done(c->ask.arg, NULL, err);
    model_free(c);
}

static void
succeed(struct brain_model_call *c)
{
    struct brain_reply reply = {
        .answer = &c->answer,
        .route = c->route,
        .vault_us = c->vault_us,
        .cost_nano_usd = c->cost_nano_usd,
        .cost_source = BRAIN_COST_GATEWAY,
    };

    ag_sha256_hex(ag_buf_str(&c->body), reply.request_sha256);
    if (c->cost_nano_usd < 0) {
        reply.cost_nano_usd = 0;
        reply.cost_source =
            brain_price_of(c->brain->prices, c->route.model, &c->answer.usage,
                           &reply.cost_nano_usd)
                ? BRAIN_COST_PRICES
                : BRAIN_COST_UNKNOWN;
    }
    brain_metrics_answered(c->brain->metrics, &c->route, &c->answer.usage,
                           reply.cost_nano_usd, ag_mono_us() - c->sent_us);
    c->ask.done(c->ask.arg, &reply, NULL);
    model_free(c);
}

static void
retry_now(struct ag_timer *timer)
{
    model_send((
        struct brain_model_call *)((char *)timer
                                   - offsetof(struct brain_model_call, retry)));
}

static void
retry_later(struct brain_model_call *c, const struct ag_err *err)
{
    uint32_t random = 0;
    int64_t delay;

    if (getrandom(&random, sizeof(random), 0) < 0)
        random = 0;
    delay = brain_retry_delay_ms(c->attempt, c->retry_after_ms, random,
                                 c->brain->conf.model_retry_seconds * 1000);
    ag_log(AG_WARN, "model.retried", AG_S("session", c->session),
           AG_I("attempt", c->attempt), AG_I("delay_ms", delay), AG_E(err));
    ag_timer_start(c->brain->loop, &c->retry, delay);
}

/* Another try or another way, before the first token only; else the end. */
static void
fail(struct brain_model_call *c, int status, const struct ag_err *err)
{
    bool is_passing = brain_retry_is_passing(status)
                      && (status != 0 || err->kind == AG_ERR_UNAVAILABLE);
    struct brain_route next;

    brain_metrics_failed(c->brain->metrics, &c->route,
                         ag_err_kind_name(err->kind),
                         ag_mono_us() - c->sent_us);
    ag_timer_stop(c->brain->loop, &c->limit);
    if (brain_answer_has_begun(&c->answer)) {
        /* A caller may have seen it: it is not begun again here. */
    } else if (err->kind == AG_ERR_DENIED
               && brain_workload_renew(c->ask.workload)) {
        /* The credential may have been exchanged since the run began. */
        model_open(c);
        return;
    } else if (is_passing && c->attempt < c->brain->conf.model_attempts) {
        retry_later(c, err);
        return;
    } else if (brain_route_get(&c->brain->conf, c->ask.model, c->ask.wire,
                               c->n_route + 1, &next)) {
        ag_log(AG_WARN, "model.fell_back", AG_S("session", c->session),
               AG_S("wire", next.wire->name), AG_V("model", next.model),
               AG_E(err));
        c->n_route++;
        route_begin(c);
        return;
    }
    give_up(c, err);
}

/* ---- the answer -------------------------------------------------------- */

static void
over_limit(struct ag_timer *timer)
{
    struct brain_model_call *c =
        (struct brain_model_call *)((char *)timer
                                    - offsetof(struct brain_model_call, limit));
    bool has_begun = brain_answer_has_begun(&c->answer);
    const struct brain_conf *conf = &c->brain->conf;
    struct ag_err err;

    ag_http_cancel(ag_take(&c->http));
    ag_err_set(&err, AG_ERR_TIMEOUT,
               has_begun ? "the model was silent for %lld s "
                           "(model_idle_seconds)"
                         : "the model gave no token within %lld s "
                           "(model_first_token_seconds)",
               (long long)(has_begun ? conf->model_idle_seconds
                                     : conf->model_first_token_seconds));
    fail(c, 0, &err);
}

static void
limit_first_token(struct brain_model_call *c)
{
    ag_timer_start(c->brain->loop, &c->limit,
                   c->brain->conf.model_first_token_seconds * 1000);
}

static bool
is_name(ag_str_t name, const char *other)
{
    return name.n == strlen(other) && strncasecmp(name.p, other, name.n) == 0;
}

static void
on_header(void *arg, ag_str_t name, ag_str_t value)
{
    struct brain_model_call *c = arg;

    if (is_name(name, "retry-after"))
        c->retry_after_ms = brain_retry_after_ms(value, ag_now_us());
    else if (is_name(name, "x-litellm-response-cost"))
        (void)brain_price_parse(value, &c->cost_nano_usd);
}

static int
on_data(void *arg, int status, ag_str_t bytes)
{
    struct brain_model_call *c = arg;
    size_t before = c->answer.n_bytes;
    struct ag_err ignored;

    if (c->is_held) {
        c->status = status;
        return ag_buf_append(&c->kept, bytes, &c->parse_err);
    }
    if (status != 200) {
        size_t room = c->error_body.max - c->error_body.n;

        return ag_buf_append(&c->error_body,
                             ag_str_n(bytes.p, bytes.n < room ? bytes.n : room),
                             &ignored);
    }
    if (brain_wire_feed(c->route.wire, &c->answer, bytes, &c->parse_err) < 0)
        return -1;
    if (c->answer.n_bytes > before)
        ag_timer_start(c->brain->loop, &c->limit,
                       c->brain->conf.model_idle_seconds * 1000);
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
on_done(void *arg, int status, const struct ag_err *http_err)
{
    struct brain_model_call *c = arg;
    struct ag_err err = AG_ERR_INIT;

    c->http = NULL; /* freed by its owner behind this callback */
    if (c->is_held) {
        c->is_over = true;
        c->status = status;
        if (http_err != NULL)
            c->over = *http_err;
        return;
    }
    ag_timer_stop(c->brain->loop, &c->limit);
    if (c->parse_err.kind != AG_ERR_NONE) {
        err = c->parse_err;
    } else if (http_err != NULL) {
        err = *http_err;
        (void)ag_err_wrap(&err, "model call");
    } else if (status != 200) {
        status_error(c, status, &err);
    } else if (!c->answer.is_done && c->answer.finish == BRAIN_FINISH_NONE) {
        ag_err_set(&err, AG_ERR_UNAVAILABLE,
                   "the model's stream ended in the middle");
    }
    if (err.kind == AG_ERR_NONE)
        succeed(c);
    else
        fail(c, status, &err);
}

/* What was kept comes now, as if it had just arrived. */
static void
release_now(struct ag_timer *timer)
{
    struct brain_model_call *c =
        (struct brain_model_call *)((char *)timer
                                    - offsetof(struct brain_model_call,
                                               release));
    bool is_over = c->is_over;

    c->is_held = false;
    if (c->early.kind != AG_ERR_NONE) {
        give_up(c, &c->early);
        return;
    }
    if (c->http != NULL)
        limit_first_token(c);
    if (c->kept.n > 0 && c->parse_err.kind == AG_ERR_NONE
        && on_data(c, c->status, ag_buf_str(&c->kept)) < 0) {
        ag_http_cancel(ag_take(&c->http));
        is_over = true;
    }
    ag_buf_release(&c->kept);
    if (is_over)
        on_done(c, c->status, c->over.kind == AG_ERR_NONE ? NULL : &c->over);
}

void
brain_model_release(struct brain_model_call *c)
{
    if (c->is_held)
        ag_timer_start(c->brain->loop, &c->release, 0);
}

/* ---- the request ------------------------------------------------------- */

static void
post(struct brain_model_call *c, const char *const *headers)
{
    AG_AUTO(ag_buf_release) struct ag_buf url = AG_BUF_INIT(8192);
    const struct brain_conf *conf = &c->brain->conf;
    ag_str_t base = c->route.base_url;
    bool is_tls = ag_str_starts(base, AG_STR("https://"));
    struct ag_http_post request = {
        .socket_path = is_tls ? conf->egress_tls : conf->egress_plain,
        .ca_file = conf->ca_file,
        .headers = headers,
        .body = ag_buf_str(&c->body),
        .timeout_ms = conf->model_timeout_seconds * 1000,
    };

    if (base.n > 0 && base.p[base.n - 1] == '/')
        base.n--;
    ag_buf_addf(&url, "%.*s%s", AG_FMT(base), c->route.wire->path);
    request.url = ag_buf_cstr(&url);
    c->http =
        ag_http_post(c->brain->http, &request, on_header, on_data, on_done, c);
}

static void
model_send(struct brain_model_call *c)
{
    AG_AUTO(ag_buf_release) struct ag_buf key = AG_BUF_INIT(4096);
    AG_AUTO(ag_buf_release) struct ag_buf session = AG_BUF_INIT(256);
    const char *headers[6];
    size_t n = 0;

    ag_buf_addf(&session, "x-brainbox-session: %s", c->session);
    headers[n++] = "content-type: application/json";
    headers[n++] = "expect:";
    headers[n++] = ag_buf_cstr(&session);
    if (c->stub[0] != '\0') {
        ag_buf_addf(&key, "%s%s", c->route.wire->key_header, c->stub);
        headers[n++] = ag_buf_cstr(&key);
    }
    if (c->route.wire->header != NULL)
        headers[n++] = c->route.wire->header;
    headers[n] = NULL;
    brain_answer_release(&c->answer);
    brain_answer_init(&c->answer, (size_t)c->brain->conf.model_answer_bytes,
                      c->ask.text, c->ask.arg);
    ag_buf_clear(&c->error_body);
    c->parse_err.kind = AG_ERR_NONE;
    c->retry_after_ms = c->cost_nano_usd = -1;
    c->attempt++;
    c->sent_us = ag_mono_us();
    if (!c->is_held)
        limit_first_token(c);
    post(c, headers);
}

static void
route_begin(struct brain_model_call *c)
{
    struct ag_err err = AG_ERR_INIT;

    c->attempt = 0;
    ag_buf_clear(&c->body);
    if (!brain_route_get(&c->brain->conf, c->ask.model, c->ask.wire, c->n_route,
                         &c->route))
        ag_err_set(&err, AG_ERR_INVALID, "no way to the model");
    else if (c->ask.write(c->ask.arg, &c->route, &c->body, &err) == 0) {
        model_send(c);
        return;
    }
    give_up(c, &err);
}

static void
opened(void *arg, const char *stub, const struct ag_err *err)
{
    struct brain_model_call *c = arg;

    c->is_opening = false;
    c->vault_us += ag_mono_us() - c->opening_us;
    if (err != NULL) {
        give_up(c, err);
        return;
    }
    free(c->stub);
    c->stub = ag_str_dup(ag_str(stub));
    route_begin(c);
}

static void
model_open(struct brain_model_call *c)
{
    c->is_opening = true;
    c->opening_us = ag_mono_us();
    brain_workload_await(c->ask.workload, opened, c);
}

struct brain_model_call *
brain_model_start(struct brain *brain, const struct brain_model_ask *ask)
{
    struct brain_model_call *c = ag_xcalloc(1, sizeof(*c));

    ag_assert(ask->session.n < sizeof(c->session));
    c->brain = brain;
    c->ask = *ask;
    memcpy(c->session, ask->session.p, ask->session.n);
    ag_buf_init(&c->body, REQUEST_MAX);
    ag_buf_init(&c->error_body, ERROR_BODY_MAX);
    ag_buf_init(&c->kept, KEPT_MAX);
    brain_answer_init(&c->answer, 0, NULL, NULL);
    c->retry.fn = retry_now;
    c->limit.fn = over_limit;
    c->release.fn = release_now;
    c->is_held = ask->is_held;
    model_open(c);
    return c;
}

void
brain_model_cancel(struct brain_model_call *call)
{
    if (call != NULL)
        model_free(call);
}
