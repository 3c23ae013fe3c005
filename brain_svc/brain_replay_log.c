/* Reading a recorded log for a replay. */
#include "brain_svc/brain_replay_log.h"

#include <stdlib.h>

#include "brain_svc/brain_context.h"
#include "brain_svc/brain_turn.h"
#include "lib/secret.h"

#define READ_ROWS 1000

/* ---- the log ------------------------------------------------------------- */

void
brain_replay_log_read(struct brain *brain, struct brain_replay_log *log,
                      const char *session, ag_db_done *done, void *arg)
{
    ag_db_query(brain->db, ag_str(brain->conf.tenant),
                "SELECT seq, body, encode(digest, 'hex'), heard "
                "FROM brain.event WHERE session_id = $1 AND seq > $2::bigint "
                "ORDER BY seq LIMIT $3::int",
                (struct ag_db_param[]){
                    ag_db_str(ag_str(session)),
                    ag_db_int(log->n == 0 ? 0 : log->at[log->n - 1].seq),
                    ag_db_int(READ_ROWS)},
                3, done, arg);
}

static int
check_row(const struct brain_replay_log *log, int64_t seq, ag_str_t body,
          ag_str_t digest, struct ag_err *err)
{
    char ours[65];

    if (seq != (int64_t)log->n + 1)
        return ag_err_set(err, AG_ERR_CONFLICT,
                          "behind seq %zu comes %lld: events are missing",
                          log->n, (long long)seq);
    ag_sha256_hex(body, ours);
    /* Events from before there were digests have none. */
    if (digest.n > 0 && !ag_str_is(digest, ours))
        return ag_err_set(err, AG_ERR_CONFLICT,
                          "event %lld was changed after it was stored",
                          (long long)seq);
    return 0;
}

int
brain_replay_log_take(struct brain_replay_log *log,
                      const struct ag_db_result *res, struct ag_err *err)
{
    for (int i = 0; i < ag_db_rows(res); i++) {
        int64_t seq = ag_db_get_int(res, i, 0);
        ag_str_t text = ag_db_get(res, i, 1);
        json_t *body;

        if (check_row(log, seq, text, ag_db_get(res, i, 2), err) < 0)
            return -1;
        body = ag_json_parse(text, err);
        if (body == NULL)
            return ag_err_wrap(err, "event %lld", (long long)seq);
        if (log->n == log->cap) {
            log->cap = log->cap == 0 ? 64 : log->cap * 2;
            log->at = ag_xrealloc(log->at, log->cap * sizeof(*log->at));
            log->heard =
                ag_xrealloc(log->heard, log->cap * sizeof(*log->heard));
        }
        log->heard[log->n] = ag_db_is_null(res, i, 3)
                                 ? BRAIN_REPLAY_UNMARKED
                                 : ag_db_get_int(res, i, 3);
        log->at[log->n++] = (struct brain_event){seq, brain_event_id(body),
                                                 brain_event_type(body), body};
    }
    return 0;
}

void
brain_replay_log_release(struct brain_replay_log *log)
{
    for (size_t i = 0; i < log->n; i++)
        json_decref(log->at[i].body);
    free(log->at);
    free(log->heard);
}

bool
brain_replay_is_input(const struct brain_event *e)
{
    static const char *const ours[] = {
        "session.status_running", "session.status_idle",
        "session.status_rescheduled", "session.error"};

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (brain_event_is(e, ours[i]))
            return false;
    return !ag_str_starts(ag_str(e->type), AG_STR("agent."))
           && !ag_str_starts(ag_str(e->type), AG_STR("span."));
}

size_t
brain_replay_inputs(const struct brain_replay_log *log, size_t next)
{
    size_t n = 0;

    while (next + n < log->n && brain_replay_is_input(&log->at[next + n]))
        n++;
    return n;
}

size_t
brain_replay_own(const struct brain_replay_log *log, size_t next, size_t skip)
{
    while (next < log->n
           && (brain_replay_is_input(&log->at[next]) || skip-- > 0))
        next++;
    return next;
}

bool
brain_replay_is_marked(const struct brain_replay_log *log, size_t i)
{
    return i < log->n && log->heard[i] != BRAIN_REPLAY_UNMARKED;
}

int64_t
brain_replay_heard(const struct brain_replay_log *log, size_t next, size_t i)
{
    size_t first = brain_replay_own(log, next, 0);

    return first < i && log->at[first].seq <= log->heard[i] ? 0 : log->heard[i];
}

bool
brain_replay_is_unheard(const struct brain_replay_log *log, size_t next)
{
    size_t i = next + brain_replay_inputs(log, next);

    if (next >= log->n || !brain_event_is(&log->at[next], "user.interrupt"))
        return false;
    while (i < log->n
           && (brain_event_is(&log->at[i], "agent.tool_result")
               || brain_event_is(&log->at[i], "session.status_running")))
        i++;
    return i < log->n && !brain_replay_is_input(&log->at[i])
           && !ag_str_starts(ag_str(log->at[i].type), AG_STR("session."))
           && !json_is_true(json_object_get(log->at[i].body, "is_error"));
}

/* ---- comparing ----------------------------------------------------------- */

/* What is new each time, and what was not kept. */
static json_t *
without_chance(const json_t *event)
{
    json_t *e = json_deep_copy(event);

    json_object_del(e, "id");
    json_object_del(e, "processed_at");
    json_object_del(e, "brainbox.reserved");
    json_object_del(json_object_get(e, "stop_reason"), "brainbox.used");
    json_object_del(json_object_get(e, "stop_reason"), "brainbox.allowed");
    if (json_object_get(e, "brainbox.input_error") != NULL) {
        json_object_set_new(e, "brainbox.input_error", json_true());
        json_object_del(e, "input");
    }
    return e;
}

const char *
brain_replay_compare(const json_t *made, const json_t *recorded)
{
    AG_AUTO(ag_json_decref) json_t *a = without_chance(made);
    AG_AUTO(ag_json_decref) json_t *b = without_chance(recorded);

    if (json_equal(a, b))
        return NULL;
    if (!ag_str_eq(ag_json_member(a, "type"), ag_json_member(b, "type")))
        return "another event";
    json_object_del(json_object_get(a, "brainbox.model"), "request_sha256");
    json_object_del(json_object_get(b, "brainbox.model"), "request_sha256");
    return json_equal(a, b) ? "the model is asked something else"
                            : "the event says something else";
}

/* ---- what came from outside ---------------------------------------------- */

static bool
was_not_run(const struct brain_event *e)
{
    const json_t *first =
        json_array_get(json_object_get(e->body, "content"), 0);

    return brain_event_is(e, "agent.tool_result")
           && ag_str_is(ag_json_member(first, "text"), BRAIN_NOT_RUN);
}

/* Events that close a turn that was stopped, before the one that says why. */
static bool
is_closing(const struct brain_event *e)
{
    return brain_replay_is_input(e) || was_not_run(e)
           || (brain_event_is(e, "span.model_request_end")
               && json_is_true(json_object_get(e->body, "is_error")));
}

void
brain_replay_foresee(const struct brain_replay_log *log, size_t next,
                     struct brain_replay_stop *stop)
{
    static const char frozen[] = "the session was frozen (";
    ag_str_t message, kind;
    enum brain_limit limit;
    bool is_hard;

    *stop = (struct brain_replay_stop){0};
    while (next < log->n && is_closing(&log->at[next])) {
        stop->has_closing |= !brain_replay_is_input(&log->at[next]);
        next++;
    }
    if (next < log->n
        && brain_replay_is_pause(&log->at[next], &limit, &is_hard))
        stop->is_over_active = limit == BRAIN_LIMIT_ACTIVE;
    for (; next < log->n && brain_event_is(&log->at[next], "session.error");
         next++) {
        message = ag_json_member(json_object_get(log->at[next].body, "error"),
                                 "message");
        if (ag_str_ends(message, AG_STR("(max_turn_seconds)")))
            stop->is_over_time = true;
        if (!ag_str_starts(message, ag_str(frozen)))
            continue;
        kind = ag_str_n(message.p + sizeof(frozen) - 1,
                        message.n - (sizeof(frozen) - 1));
        ag_str_cut(&kind, ')', &stop->frozen_by);
    }
}

bool
brain_replay_is_pause(const struct brain_event *e, enum brain_limit *limit,
                      bool *is_hard)
{
    const json_t *reason =
        e == NULL ? NULL : json_object_get(e->body, "stop_reason");

    if (!ag_str_is(ag_json_member(reason, "type"), "budget_reached"))
        return false;
    *limit = brain_limit_find(ag_json_member(reason, "brainbox.limit"));
    *is_hard = ag_str_is(ag_json_member(reason, "brainbox.kind"), "hard");
    return *limit < BRAIN_LIMITS;
}

/* ---- a model's answer ---------------------------------------------------- */

static void
read_usage(const json_t *end, struct brain_usage *u)
{
    const json_t *usage = json_object_get(end, "model_usage");
    const json_t *more = json_object_get(end, "brainbox.model");

    brain_answer_count(usage, "input_tokens", &u->input);
    brain_answer_count(usage, "output_tokens", &u->output);
    brain_answer_count(usage, "cache_read_input_tokens", &u->cache_read);
    brain_answer_count(usage, "cache_creation_input_tokens", &u->cache_write);
    brain_answer_count(more, "reasoning_tokens", &u->reasoning);
}

static void
read_reply(const json_t *end, struct brain_reply *reply)
{
    const json_t *more = json_object_get(end, "brainbox.model");
    ag_str_t source = ag_json_member(more, "cost_source");

    reply->route.wire = brain_wire_find(ag_json_member(more, "wire"));
    reply->route.model = ag_json_member(more, "model");
    reply->cost_nano_usd =
        json_integer_value(json_object_get(more, "cost_nano_usd"));
    reply->cost_source = ag_str_is(source, "gateway")  ? BRAIN_COST_GATEWAY
                         : ag_str_is(source, "prices") ? BRAIN_COST_PRICES
                                                       : BRAIN_COST_UNKNOWN;
}

static void
read_call(struct brain_block *b, const json_t *body)
{
    char *text;

    ag_buf_add(&b->name, ag_json_member(body, "name"));
    if (json_object_get(body, "brainbox.input_error") != NULL) {
        ag_buf_add(&b->text, AG_STR("{"));
        return;
    }
    text = json_dumps(json_object_get(body, "input"), JSON_COMPACT);
    ag_buf_add(&b->text, ag_str(text));
    free(text);
}

/* False when the event is no part of an answer. */
static bool
read_block(struct brain_answer *a, const struct brain_event *e)
{
    static const char lead[] = BRAIN_SUMMARY_LEAD;
    struct ag_err err;
    bool is_summary = brain_event_is(e, BRAIN_COMPACTED);
    enum brain_block_kind kind =
        brain_event_is(e, "agent.thinking") ? BRAIN_BLOCK_THINKING
        : brain_event_is(e, "agent.message") || is_summary ? BRAIN_BLOCK_TEXT
                                                           : BRAIN_BLOCK_CALL;
    struct brain_block *b;

    if (kind == BRAIN_BLOCK_CALL && !brain_event_is(e, "agent.tool_use")
        && !brain_event_is(e, "agent.custom_tool_use"))
        return false;
    b = brain_answer_add(a, kind, (int64_t)a->n_blocks, &err);
    if (b == NULL)
        return false;
    if (kind == BRAIN_BLOCK_CALL) {
        read_call(b, e->body);
        return true;
    }
    (void)brain_event_text(e->body, &b->text, &err);
    if (is_summary && b->text.n >= sizeof(lead) - 1) {
        b->text.n -= sizeof(lead) - 1;
        memmove(b->text.p, b->text.p + sizeof(lead) - 1, b->text.n);
    }
    b->raw = json_incref(json_object_get(e->body, "brainbox.block"));
    return true;
}

static enum brain_finish
finish_of(const struct brain_event *e, const struct brain_answer *a)
{
    ag_str_t why = {NULL, 0};

    if (e != NULL && brain_event_is(e, "session.error"))
        why = ag_json_member(json_object_get(e->body, "error"), "message");
    return ag_str_ends(why, AG_STR("length limit"))     ? BRAIN_FINISH_LENGTH
           : ag_str_ends(why, AG_STR("content filter")) ? BRAIN_FINISH_FILTER
           : a->n_calls > 0                             ? BRAIN_FINISH_CALLS
                                                        : BRAIN_FINISH_STOP;
}

/* The call failed: what the error event says. */
static void
read_error(const struct brain_event *e, struct ag_err *err)
{
    const json_t *error = e == NULL ? NULL : json_object_get(e->body, "error");
    ag_str_t type = ag_json_member(error, "type");

    ag_err_set(err,
               ag_str_is(type, "model_rate_limited_error") ? AG_ERR_LIMIT
               : ag_str_is(type, "model_overloaded_error") ? AG_ERR_UNAVAILABLE
                                                           : AG_ERR_INVALID,
               "%.*s", AG_FMT(ag_json_member(error, "message")));
}

struct brain_replay_answer *
brain_replay_answer_new(const struct brain_replay_log *log, size_t end)
{
    struct brain_replay_answer *a = ag_xcalloc(1, sizeof(*a));
    const json_t *body = log->at[end].body;
    size_t i = end + 1;

    brain_answer_init(&a->answer, SIZE_MAX / 4, NULL, NULL);
    a->reply.answer = &a->answer;
    a->err.kind = AG_ERR_NONE;
    if (json_is_true(json_object_get(body, "is_error"))) {
        read_error(i < log->n ? &log->at[i] : NULL, &a->err);
        return a;
    }
    read_reply(body, &a->reply);
    read_usage(body, &a->answer.usage);
    while (i < log->n && read_block(&a->answer, &log->at[i]))
        i++;
    a->answer.finish = finish_of(i < log->n ? &log->at[i] : NULL, &a->answer);
    return a;
}

void
brain_replay_answer_free(struct brain_replay_answer *a)
{
    brain_answer_release(&a->answer);
    free(a);
}
