/*
 * The native driver: a loop of model calls. The conversation is the session's
 * log; each answer is stored as agent.thinking, agent.message and
 * agent.tool_use events, whose results the run adds, until an answer has no
 * tool call.
 */
#include <stdlib.h>

#include "brain_svc/brain_context.h"
#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_io.h"
#include "brain_svc/brain_native.h"
#include "brain_svc/brain_price.h"
#include "brain_svc/brain_run.h"
#include "lib/clock.h"

/* What one model call keeps; the driver's part of the run. */
struct native {
    struct brain_run *run;
    struct brain_model_call *call;
    size_t n_log; /* what the model is asked about: the log's first so many */
    int64_t cut_seq; /* a summary is asked for of what is before; else 0 */
    json_t *previews[BRAIN_BLOCKS_MAX]; /* events that were begun, or NULL */
    bool is_moved; /* the request was to be written from another log */
    char start_id[AG_ID_TEXT];
};

/* ---- the request ------------------------------------------------------- */

static const char summary_request[] =
    "Write a summary of this conversation so far, for yourself: you will go on "
    "with it and without what it sums up. Keep what the user wants and has "
    "decided, what was done and found, names of files, commands, errors, and "
    "what is still to do. Call no tool. Answer with the summary alone.";

/* The question for a summary, as an event that is not of the log. */
static void
ask_for_summary(struct brain_event *event)
{
    *event = (struct brain_event){.id = "", .body = json_object()};
    json_object_set_new(event->body, "content",
                        brain_text_content(ag_str(summary_request)));
}

/* A user's event may have come before the call's beginning. */
static bool
is_in_place(const struct native *n)
{
    const struct brain_log *log = brain_run_log(n->run);

    return n->n_log < log->n && strcmp(log->at[n->n_log].id, n->start_id) == 0;
}

static int
write_request(void *arg, const struct brain_route *route, struct ag_buf *out,
              struct ag_err *err)
{
    struct native *n = arg;
    struct brain_log asked = *brain_run_log(n->run);
    struct brain_event question = {.body = NULL};
    struct brain_prompt prompt = {
        .model = route->model,
        .system = brain_run_system(n->run),
        .tools = brain_tools_list(brain_run_tools(n->run)),
        .max_tokens = brain_run_brain(n->run)->conf.model_output_tokens,
    };
    int rc;

    if (!is_in_place(n)) {
        n->is_moved = true;
        return ag_err_set(err, AG_ERR_CONFLICT, "the log has more by now");
    }
    asked.n = n->n_log;
    while (n->cut_seq > 0 && asked.n > 0
           && asked.at[asked.n - 1].seq >= n->cut_seq)
        asked.n--;
    brain_prompt_fill(&prompt, &asked);
    if (n->cut_seq > 0) {
        ask_for_summary(&question);
        brain_prompt_say(&prompt, &question);
    }
    rc = brain_wire_write(route->wire, &prompt, out, err);
    brain_prompt_release(&prompt);
    json_decref(question.body);
    return rc;
}

/* ---- the answer -------------------------------------------------------- */

static void
native_free(struct native *n)
{
    brain_run_set_driver(n->run, NULL);
    for (size_t i = 0; i < BRAIN_BLOCKS_MAX; i++)
        json_decref(n->previews[i]);
    free(n);
}

/* What listeners see of it; only the whole is stored. Of what is thought they
 * see that it has begun. */
static void
got_text(void *arg, size_t block, enum brain_block_kind kind, ag_str_t text)
{
    struct native *n = arg;
    struct brain_hub *hub = brain_run_brain(n->run)->hub;
    ag_str_t session = brain_run_session(n->run);
    bool is_said = kind == BRAIN_BLOCK_TEXT;
    enum brain_preview preview =
        is_said ? BRAIN_PREVIEW_MESSAGE : BRAIN_PREVIEW_THINKING;

    if (!brain_hub_wants(hub, session, preview))
        return;
    if (n->previews[block] == NULL) {
        n->previews[block] =
            brain_event_new(is_said ? "agent.message" : "agent.thinking");
        brain_preview_begin(hub, session, preview, n->previews[block]);
    }
    if (is_said)
        brain_preview_text(hub, session, n->previews[block], text);
}

static const char *
error_type(enum ag_err_kind kind)
{
    return kind == AG_ERR_LIMIT         ? "model_rate_limited_error"
           : kind == AG_ERR_UNAVAILABLE ? "model_overloaded_error"
                                        : "model_request_failed_error";
}

static void
failed(struct native *n, const struct ag_err *err)
{
    struct brain_run *run = n->run;
    json_t *events[2];

    events[0] = brain_native_span_end(n->start_id, NULL);
    events[1] =
        brain_error_event(error_type(err->kind), "exhausted", "%s", err->msg);
    native_free(n);
    brain_run_end_turn(run, events, 2, "retries_exhausted");
}

/* The summary stands for what is before `cut_seq` from now on. */
static size_t
summary_events(const struct native *n, const struct brain_reply *reply,
               json_t **out)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(SIZE_MAX / 4);
    json_t *e = brain_event_new(BRAIN_COMPACTED);

    ag_buf_add(&text, AG_STR(BRAIN_SUMMARY_LEAD));
    for (size_t i = 0; i < reply->answer->n_blocks; i++)
        if (reply->answer->blocks[i].kind == BRAIN_BLOCK_TEXT)
            ag_buf_add(&text, ag_buf_str(&reply->answer->blocks[i].text));
    json_object_set_new(e, "content", brain_text_content(ag_buf_str(&text)));
    json_object_set_new(e, "brainbox.kept_seq", json_integer(n->cut_seq));
    out[0] = brain_native_span_end(n->start_id, reply);
    out[1] = e;
    return 2;
}

static bool
has_text(const struct brain_answer *answer)
{
    for (size_t i = 0; i < answer->n_blocks; i++)
        if (answer->blocks[i].kind == BRAIN_BLOCK_TEXT
            && answer->blocks[i].text.n > 0)
            return answer->finish == BRAIN_FINISH_STOP;
    return false;
}

static void
summed_up(struct native *n, const struct brain_reply *reply)
{
    struct brain_run *run = n->run;
    json_t *events[2];
    size_t k = 2;

    if (has_text(reply->answer)) {
        k = summary_events(n, reply, events);
        native_free(n);
        brain_run_append(run, events, k);
        return;
    }
    events[0] = brain_native_span_end(n->start_id, reply);
    events[1] = brain_error_event("compaction_limit_reached_error", "terminal",
                                  "the conversation is too long for the "
                                  "model, and it gave no summary of it");
    native_free(n);
    brain_run_end_turn(run, events, k, "retries_exhausted");
}

static void
answered(void *arg, const struct brain_reply *reply, const struct ag_err *err)
{
    json_t *events[BRAIN_NATIVE_EVENTS_MAX];
    struct native *n = arg;
    struct brain_run *run = n->run;
    size_t k;

    n->call = NULL;
    if (err != NULL) {
        failed(n, err);
        return;
    }
    brain_run_spent_vault(run, reply->vault_us);
    if (n->cut_seq > 0) {
        summed_up(n, reply);
        return;
    }
    k = brain_native_events(n->start_id, reply, brain_run_tools(run),
                            n->previews, events);
    native_free(n);
    brain_run_append(run, events, k);
}

/* ---- steps ------------------------------------------------------------- */

/*
 * The answer is there, it has no call, and everything that a user said stood in
 * the request: a message that came while the model thought is still open.
 */
static bool
is_answered(const struct brain_run *run)
{
    const struct brain_log *log = brain_run_log(run);
    bool has_answer = false;

    for (size_t i = log->n; i > brain_run_turn(run); i--) {
        const struct brain_event *e = &log->at[i - 1];

        has_answer |= brain_event_is(e, "agent.message")
                      || brain_event_is(e, "session.error");
        if (brain_event_is(e, "span.model_request_start"))
            return has_answer;
        if (brain_event_is(e, "user.message")
            || brain_event_is(e, "agent.tool_result")
            || brain_event_is(e, "user.custom_tool_result"))
            return false;
    }
    return false;
}

/* A span that asks for a summary says of what; 0 for any other. */
static int64_t
cut_of(const struct brain_event *start)
{
    return json_integer_value(json_object_get(start->body, "brainbox.cut_seq"));
}

/* Calls that were begun; the last one may have no answer yet. */
static int
count_steps(const struct brain_run *run, size_t *open_start)
{
    const struct brain_log *log = brain_run_log(run);
    int n = 0;

    *open_start = SIZE_MAX;
    for (size_t i = brain_run_turn(run); i < log->n; i++) {
        const struct brain_event *e = &log->at[i];

        if (brain_event_is(e, "span.model_request_start")) {
            *open_start = i;
            n += cut_of(e) == 0;
        } else if (brain_event_is(e, "span.model_request_end")) {
            *open_start = SIZE_MAX;
        }
    }
    return n;
}

static void
call_model(struct brain_run *run, size_t start)
{
    struct native *n = ag_xcalloc(1, sizeof(*n));
    struct brain_model_ask ask = {
        .session = brain_run_session(run),
        .workload = brain_run_workload(run),
        .model = brain_run_model(run),
        .wire = brain_run_wire(run),
        .write = write_request,
        .text = cut_of(&brain_run_log(run)->at[start]) > 0 ? NULL : got_text,
        .done = answered,
        .arg = n,
        .is_held = brain_run_is_storing(run),
    };
    const char *id = brain_run_log(run)->at[start].id;

    n->run = run;
    n->n_log = start;
    n->cut_seq = cut_of(&brain_run_log(run)->at[start]);
    memcpy(n->start_id, id, strlen(id));
    brain_run_set_driver(run, n);
    brain_run_thinking(run);
    n->call = brain_run_brain(run)->io->model_start(brain_run_brain(run), &ask);
}

/* 0 while the conversation fits, or when nothing would be gained. */
static int64_t
find_cut(const struct brain_run *run)
{
    const struct brain_conf *conf = &brain_run_brain(run)->conf;
    const struct brain_log *log = brain_run_log(run);
    int64_t limit = conf->context_tokens / 100 * conf->compact_percent;

    if (brain_context_tokens(log) <= limit)
        return 0;
    return brain_context_cut(log, conf->compact_keep_tokens);
}

/* What a call may use: all that is asked, and an answer of some length. */
static void
reserve_call(const struct brain_run *run, struct brain_spent *reserve)
{
    const struct brain *brain = brain_run_brain(run);
    struct brain_usage usage = {0};

    if (!brain_run_has_budget(run))
        return;
    usage.input = brain_context_tokens(brain_run_log(run));
    usage.output = brain->conf.model_output_tokens > 0
                       ? brain->conf.model_output_tokens
                       : brain->conf.budget_output_tokens;
    reserve->at[BRAIN_LIMIT_STEPS] = 1;
    reserve->at[BRAIN_LIMIT_TOKENS] = usage.input + usage.output;
    (void)brain_price_of(brain->prices, brain_run_model(run), &usage,
                         &reserve->at[BRAIN_LIMIT_COST]);
}

/* The next call, behind `events`, which are taken over. */
static void
begin_call(struct brain_run *run, json_t **events, size_t n, int n_steps)
{
    int max = brain_run_max_steps(run);

    if (n_steps < max) {
        int64_t cut = find_cut(run);
        struct brain_spent reserve = {.at = {0}};

        reserve_call(run, &reserve);
        if (!brain_run_affords(run, &reserve, events, n))
            return;
        events[n] = brain_event_new("span.model_request_start");
        if (brain_run_has_budget(run))
            json_object_set_new(
                events[n], "brainbox.reserved",
                json_pack("{s:I, s:I}", "tokens",
                          (json_int_t)reserve.at[BRAIN_LIMIT_TOKENS],
                          "cost_nano_usd",
                          (json_int_t)reserve.at[BRAIN_LIMIT_COST]));
        if (cut > 0)
            json_object_set_new(events[n], "brainbox.cut_seq",
                                json_integer(cut));
        brain_run_append(run, events, n + 1);
        return;
    }
    events[n++] = brain_error_event("unknown_error", "terminal",
                                    "the turn reached its limit of %d model "
                                    "calls (max_steps)",
                                    max);
    brain_run_end_turn(run, events, n, "end_turn");
}

static void
advance(struct brain_run *run)
{
    size_t open_start;
    int n_steps = count_steps(run, &open_start);
    json_t *events[2];

    if (is_answered(run)) {
        brain_run_end_turn(run, NULL, 0, "end_turn");
    } else if (brain_run_brain(run)->conf.model_base_url[0] == '\0') {
        events[0] =
            brain_error_event("model_request_failed_error", "terminal",
                              "no model is configured: set MODEL_BASE_URL, or "
                              "use the harness \"runbook\"");
        brain_run_end_turn(run, events, 1, "retries_exhausted");
    } else if (open_start == SIZE_MAX) {
        begin_call(run, events, 0, n_steps);
    } else if (brain_run_is_inherited(run, open_start)) {
        /* A brain died while it asked: what listeners saw of the answer ends
         * here, and it is asked anew. */
        events[0] = brain_native_span_lost(&brain_run_log(run)->at[open_start]);
        begin_call(run, events, 1,
                   n_steps
                       - (cut_of(&brain_run_log(run)->at[open_start]) == 0));
    } else if (brain_run_may_ask(run)) {
        call_model(run, open_start);
    }
}

static bool
stored(struct brain_run *run)
{
    struct native *n = brain_run_driver(run);

    if (n->is_moved || !is_in_place(n))
        return false;
    brain_run_brain(run)->io->model_release(n->call);
    return true;
}

static void
cancel(struct brain_run *run)
{
    struct native *n = brain_run_driver(run);

    if (n == NULL)
        return;
    brain_run_brain(run)->io->model_cancel(n->call);
    native_free(n);
}

const struct brain_harness brain_harness_native = {
    .name = "native",
    .needs_history = true,
    .asks_model = true,
    .advance = advance,
    .stored = stored,
    .cancel = cancel,
};
