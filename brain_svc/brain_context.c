/*
 * Measuring and cutting a conversation. Called by the native driver and by
 * brain_prompt.c; pure.
 */
#include "brain_svc/brain_context.h"

#include "brain_svc/brain_content.h"

#define BYTES_A_TOKEN 4

void
brain_context_find(const struct brain_log *log, struct brain_context *context)
{
    int64_t kept = 0;

    *context = (struct brain_context){NULL, 0};
    for (size_t i = log->n; i > 0 && context->summary == NULL; i--)
        if (brain_event_is(&log->at[i - 1], BRAIN_COMPACTED))
            context->summary = &log->at[i - 1];
    if (context->summary == NULL)
        return;
    kept = json_integer_value(
        json_object_get(context->summary->body, "brainbox.kept_seq"));
    while (context->from < log->n && log->at[context->from].seq < kept)
        context->from++;
}

/* Of what a prompt holds of it; events of no conversation are small. */
static int64_t
tokens_of(const struct brain_event *e)
{
    static const char *const parts[] = {"content", "input", "brainbox.block"};
    size_t n = 0;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const json_t *part = json_object_get(e->body, parts[i]);

        if (part == NULL)
            continue;
        n += strcmp(parts[i], "content") == 0
                 ? brain_content_weight(part)
                 : json_dumpb(part, NULL, 0, JSON_COMPACT);
    }
    return (int64_t)n / BYTES_A_TOKEN;
}

/* What the endpoint counted for this request and its answer; 0: unknown. */
static int64_t
counted(const struct brain_event *e)
{
    static const char *const keys[] = {
        "input_tokens", "cache_read_input_tokens",
        "cache_creation_input_tokens", "output_tokens"};
    const json_t *usage = json_object_get(e->body, "model_usage");
    int64_t n = 0;

    if (!brain_event_is(e, "span.model_request_end"))
        return 0;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        n += json_integer_value(json_object_get(usage, keys[i]));
    return n;
}

int64_t
brain_context_tokens(const struct brain_log *log)
{
    struct brain_context context;
    int64_t n = 0;

    brain_context_find(log, &context);
    for (size_t i = log->n; i > context.from; i--) {
        const struct brain_event *e = &log->at[i - 1];
        bool is_current = context.summary == NULL || e > context.summary;

        if (is_current && counted(e) > 0)
            return n + counted(e);
        n += tokens_of(e);
    }
    return n;
}

/* Before a model call every call has its result; so before what a user says
 * when nothing is open, but that is where such a call follows. */
static bool
is_seam(const struct brain_log *log, size_t i)
{
    return brain_event_is(&log->at[i], "span.model_request_start")
           && json_object_get(log->at[i].body, "brainbox.cut_seq") == NULL;
}

int64_t
brain_context_cut(const struct brain_log *log, int64_t keep_tokens)
{
    struct brain_context context;
    int64_t n = 0, best = 0;

    brain_context_find(log, &context);
    for (size_t i = log->n; i > context.from + 1; i--) {
        n += tokens_of(&log->at[i - 1]);
        if (n == 0 || !is_seam(log, i - 1))
            continue;
        /* The nearest seam that leaves something to sum up. */
        if (n > keep_tokens && best != 0)
            break;
        best = log->at[i - 1].seq;
        if (n > keep_tokens)
            break;
    }
    return best;
}
