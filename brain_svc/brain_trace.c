/* Turns as spans: what they say, and the file they go to. */
#include "brain_svc/brain_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/secret.h"
#include "lib/workq.h"

enum {
    KIND_INTERNAL = 1,
    KIND_CLIENT = 3,
    STATUS_ERROR = 2,
    LINES_WAITING = 64
};

/* ---- spans --------------------------------------------------------------- */

/* The first `n` bytes of a hash, in hex: the same log gives the same ids. */
static json_t *
id_of(const char *text, size_t n)
{
    char hash[65];

    ag_sha256_hex(ag_str(text), hash);
    return json_stringn(hash, 2 * n);
}

/* Nanoseconds since the epoch as text, of an event's time. */
static json_t *
time_of(const struct brain_event *e)
{
    ag_str_t text = ag_json_member(e->body, "processed_at");
    struct tm tm = {0};
    char copy[AG_TIME_TEXT], out[32];
    char *rest;
    long us = 0;

    (void)snprintf(copy, sizeof(copy), "%.*s", AG_FMT(text));
    rest = strptime(copy, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL)
        return json_string("0");
    if (*rest == '.')
        us = strtol(rest + 1, NULL, 10);
    (void)snprintf(out, sizeof(out), "%lld%06ld000", (long long)timegm(&tm),
                   us % 1000000);
    return json_string(out);
}

static void
add_text(json_t *attributes, const char *key, ag_str_t value)
{
    if (value.n > 0)
        json_array_append_new(attributes, json_pack("{s:s, s:{s:o}}", "key",
                                                    key, "value", "stringValue",
                                                    ag_json_from_str(value)));
}

/* OTLP's JSON has 64-bit integers as text. */
static void
add_count(json_t *attributes, const char *key, const json_t *value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%lld",
                   (long long)json_integer_value(value));
    if (json_is_integer(value))
        json_array_append_new(
            attributes,
            json_pack("{s:s, s:{s:s}}", "key", key, "value", "intValue", text));
}

/* The conventions count as input what came from or went into a cache, too. */
static void
add_usage(json_t *attributes, const json_t *usage)
{
    const json_t *input = json_object_get(usage, "input_tokens");
    const json_t *read = json_object_get(usage, "cache_read_input_tokens");
    const json_t *written =
        json_object_get(usage, "cache_creation_input_tokens");
    AG_AUTO(ag_json_decref) json_t *all = NULL;

    if (json_is_integer(input)) {
        all = json_integer(json_integer_value(input) + json_integer_value(read)
                           + json_integer_value(written));
        add_count(attributes, "gen_ai.usage.input_tokens", all);
    }
    add_count(attributes, "gen_ai.usage.cache_read.input_tokens", read);
    add_count(attributes, "gen_ai.usage.cache_creation.input_tokens", written);
    add_count(attributes, "gen_ai.usage.output_tokens",
              json_object_get(usage, "output_tokens"));
}

struct spans {
    const struct brain_trace_turn *turn;
    json_t *list;
    const char *first; /* id of the turn's first event */
};

/* A span from one event to another; `attributes` are taken over. */
static json_t *
add_span(const struct spans *s, const char *name, int kind,
         const struct brain_event *from, const struct brain_event *to,
         json_t *attributes)
{
    json_t *span =
        json_pack("{s:o, s:o, s:s, s:i, s:o, s:o, s:o}", "traceId",
                  id_of(s->first, 16), "spanId", id_of(from->id, 8), "name",
                  name, "kind", kind, "startTimeUnixNano", time_of(from),
                  "endTimeUnixNano", time_of(to), "attributes", attributes);

    ag_assert(span != NULL);
    if (from->id != s->first)
        json_object_set_new(span, "parentSpanId", id_of(s->first, 8));
    json_array_append_new(s->list, span);
    return span;
}

static void
set_failed(json_t *span, ag_str_t type)
{
    json_object_set_new(span, "status",
                        json_pack("{s:i}", "code", STATUS_ERROR));
    add_text(json_object_get(span, "attributes"), "error.type", type);
}

/* The event behind `i` of this type whose member names `id`, or NULL. */
static const struct brain_event *
answer_to(const struct brain_log *log, size_t i, const char *type,
          const char *key, const char *id)
{
    while (++i < log->n)
        if (brain_event_is(&log->at[i], type)
            && ag_str_is(ag_json_member(log->at[i].body, key), id))
            return &log->at[i];
    return NULL;
}

static void
add_chat(const struct spans *s, size_t i)
{
    const struct brain_event *from = &s->turn->log->at[i];
    const struct brain_event *to =
        answer_to(s->turn->log, i, "span.model_request_end",
                  "model_request_start_id", from->id);
    json_t *a = json_array(), *span, *more;
    char name[128];
    ag_str_t model;

    if (to == NULL) {
        json_decref(a);
        return;
    }
    more = json_object_get(to->body, "brainbox.model");
    model = more == NULL ? s->turn->model : ag_json_member(more, "model");
    add_text(a, "gen_ai.operation.name", AG_STR("chat"));
    add_text(a, "gen_ai.provider.name",
             ag_str_is(ag_json_member(more, "wire"), "messages")
                 ? AG_STR("anthropic")
                 : AG_STR("openai"));
    add_text(a, "gen_ai.conversation.id", s->turn->session);
    add_text(a, "gen_ai.request.model", model);
    add_usage(a, json_object_get(to->body, "model_usage"));
    add_count(a, "brainbox.cost_nano_usd",
              json_object_get(more, "cost_nano_usd"));
    (void)snprintf(name, sizeof(name), "chat %.*s", AG_FMT(model));
    span = add_span(s, name, KIND_CLIENT, from, to, a);
    if (json_is_true(json_object_get(to->body, "is_error")))
        set_failed(span, AG_STR("model_error"));
}

static void
add_tool(const struct spans *s, size_t i, bool is_custom)
{
    const struct brain_event *from = &s->turn->log->at[i];
    const struct brain_event *to =
        is_custom ? answer_to(s->turn->log, i, "user.custom_tool_result",
                              "custom_tool_use_id", from->id)
                  : answer_to(s->turn->log, i, "agent.tool_result",
                              "tool_use_id", from->id);
    ag_str_t tool = ag_json_member(from->body, "name");
    json_t *a = json_array(), *span;
    char name[128];

    if (to == NULL) {
        json_decref(a);
        return;
    }
    add_text(a, "gen_ai.operation.name", AG_STR("execute_tool"));
    add_text(a, "gen_ai.tool.name", tool);
    add_text(a, "gen_ai.tool.call.id", ag_str(from->id));
    add_text(a, "gen_ai.tool.type",
             is_custom ? AG_STR("function") : AG_STR("extension"));
    (void)snprintf(name, sizeof(name), "execute_tool %.*s", AG_FMT(tool));
    span = add_span(s, name, KIND_INTERNAL, from, to, a);
    if (json_is_true(json_object_get(to->body, "is_error")))
        set_failed(span, AG_STR("tool_error"));
}

/* The turn as a whole; an error in it is the turn's. */
static void
add_turn(const struct spans *s)
{
    const struct brain_log *log = s->turn->log;
    json_t *a = json_array(), *span;

    add_text(a, "gen_ai.operation.name", AG_STR("invoke_agent"));
    add_text(a, "gen_ai.conversation.id", s->turn->session);
    add_text(a, "gen_ai.request.model", s->turn->model);
    add_text(a, "brainbox.tenant", s->turn->tenant);
    span = add_span(s, "invoke_agent", KIND_INTERNAL, &log->at[s->turn->start],
                    &log->at[log->n - 1], a);
    for (size_t i = s->turn->start; i < log->n; i++)
        if (brain_event_is(&log->at[i], "session.error")) {
            set_failed(span,
                       ag_json_member(json_object_get(log->at[i].body, "error"),
                                      "type"));
            break;
        }
}

json_t *
brain_trace_json(const struct brain_trace_turn *turn)
{
    struct spans s = {turn, json_array(), ""};
    json_t *resource = json_array();

    if (turn->start < turn->log->n) {
        s.first = turn->log->at[turn->start].id;
        add_turn(&s);
    }
    for (size_t i = turn->start; i < turn->log->n; i++) {
        const struct brain_event *e = &turn->log->at[i];

        if (brain_event_is(e, "span.model_request_start"))
            add_chat(&s, i);
        else if (brain_event_is(e, "agent.tool_use")
                 || brain_event_is(e, "agent.custom_tool_use"))
            add_tool(&s, i, brain_event_is(e, "agent.custom_tool_use"));
    }
    add_text(resource, "service.name", AG_STR("brain_svc"));
    add_text(resource, "service.instance.id", turn->instance);
    return json_pack("{s:[{s:{s:o}, s:[{s:{s:s}, s:o}]}]}", "resourceSpans",
                     "resource", "attributes", resource, "scopeSpans", "scope",
                     "name", "brainbox", "spans", s.list);
}

/* ---- the file ------------------------------------------------------------ */

struct brain_trace {
    struct brain *brain;
    struct ag_workq *q;
    int fd; /* the worker's alone, once it runs */
    int64_t n_lost;
};

struct line {
    struct ag_job job;
    struct brain_trace *trace;
    struct ag_buf text;
    int error; /* errno, or 0 */
};

static int
open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                0640);
}

struct brain_trace *
brain_trace_new(struct brain *brain, struct ag_err *err)
{
    struct brain_trace *t = ag_xcalloc(1, sizeof(*t));

    t->brain = brain;
    t->fd = open_file(brain->conf.trace_file);
    if (t->fd < 0)
        ag_err_sys(err, "trace_file %s", brain->conf.trace_file);
    else
        t->q = ag_workq_new(brain->loop, 1, LINES_WAITING, err);
    if (t->q != NULL)
        return t;
    brain_trace_free(t);
    return NULL;
}

void
brain_trace_free(struct brain_trace *trace)
{
    if (trace == NULL)
        return;
    if (trace->q != NULL)
        ag_workq_free(trace->q);
    ag_closep(&trace->fd);
    free(trace);
}

/* On the worker: the file that is full makes room. */
static void
rotate(struct brain_trace *t)
{
    const char *path = t->brain->conf.trace_file;
    char old[4096];
    struct stat st;

    if (fstat(t->fd, &st) < 0 || st.st_size < t->brain->conf.trace_file_bytes)
        return;
    (void)snprintf(old, sizeof(old), "%s.1", path);
    if (rename(path, old) < 0)
        return;
    int fd = open_file(path);
    if (fd >= 0) {
        (void)close(t->fd);
        t->fd = fd;
    }
}

static void
write_line(struct ag_job *job)
{
    struct line *line = (struct line *)job;
    ag_str_t rest = ag_buf_str(&line->text);

    rotate(line->trace);
    while (rest.n > 0) {
        ssize_t n = write(line->trace->fd, rest.p, rest.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            line->error = errno;
            return;
        }
        rest = ag_str_n(rest.p + n, rest.n - (size_t)n);
    }
}

/* The first that is lost is told, and then each hundredth. */
static void
lose(struct brain_trace *t, const char *why)
{
    if (t->n_lost++ % 100 == 0)
        ag_log(AG_WARN, "trace.lost", AG_S("reason", why),
               AG_I("lost", t->n_lost));
}

static void
line_free(struct line *line)
{
    ag_buf_release(&line->text);
    free(line);
}

static void
written(struct ag_job *job)
{
    struct line *line = (struct line *)job;

    if (line->error != 0)
        lose(line->trace, strerror(line->error));
    line_free(line);
}

void
brain_trace_put(struct brain_trace *trace, const struct brain_trace_turn *turn)
{
    AG_AUTO(ag_json_decref) json_t *json = NULL;
    struct line *line;
    struct ag_err err;

    if (trace == NULL)
        return;
    json = brain_trace_json(turn);
    line = ag_xcalloc(1, sizeof(*line));
    line->trace = trace;
    ag_buf_init(&line->text, SIZE_MAX / 4);
    line->job.work = write_line;
    line->job.done = written;
    if (json == NULL || ag_json_dump(json, &line->text, &err) < 0
        || ag_buf_append(&line->text, AG_STR("\n"), &err) < 0
        || ag_workq_submit(trace->q, &line->job, &err) < 0) {
        lose(trace, "too many wait");
        line_free(line);
    }
}
