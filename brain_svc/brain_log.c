/*
 * Making events and keeping a session's log in memory. Pure functions.
 */
#include "brain_svc/brain_log.h"

#include <stdlib.h>

#include "lib/clock.h"

static void
stamp(json_t *event)
{
    char now[AG_TIME_TEXT];

    ag_time_format(ag_now_us(), now);
    json_object_set_new(event, "processed_at", json_string(now));
}

json_t *
brain_event_new(const char *type)
{
    char id[AG_ID_TEXT];
    json_t *e;

    ag_id_new("sevt", id);
    e = json_pack("{s:s, s:s}", "id", id, "type", type);
    ag_assert(e != NULL);
    stamp(e);
    return e;
}

json_t *
brain_event_begun(json_t *begun, const char *type)
{
    if (begun == NULL)
        return brain_event_new(type);
    stamp(begun);
    return json_incref(begun);
}

json_t *
brain_text_content(ag_str_t text)
{
    json_t *content = json_pack("[{s:s, s:o}]", "type", "text", "text",
                                ag_json_from_str(text));

    ag_assert(content != NULL);
    return content;
}

static const char *
member(const json_t *event, const char *key)
{
    const char *v = json_string_value(json_object_get(event, key));

    return v == NULL ? "" : v;
}

const char *
brain_event_id(const json_t *event)
{
    return member(event, "id");
}

const char *
brain_event_type(const json_t *event)
{
    return member(event, "type");
}

void
brain_log_release(struct brain_log *log)
{
    for (size_t i = 0; i < log->n; i++)
        json_decref(log->at[i].body);
    free(log->at);
    *log = (struct brain_log){.base = log->base};
}

/* Room at index `i`. */
static void
insert(struct brain_log *log, size_t i, int64_t seq, json_t *body)
{
    if (log->n == log->cap) {
        log->cap = log->cap == 0 ? 32 : log->cap * 2;
        log->at = ag_xrealloc(log->at, log->cap * sizeof(*log->at));
    }
    memmove(log->at + i + 1, log->at + i, (log->n - i) * sizeof(*log->at));
    log->n++;
    log->at[i] = (struct brain_event){
        .seq = seq,
        .id = brain_event_id(body),
        .type = brain_event_type(body),
        .body = json_incref(body),
    };
}

void
brain_log_put(struct brain_log *log, int64_t seq, json_t *body)
{
    size_t i = log->n;

    while (i > 0 && log->at[i - 1].seq >= seq) {
        if (log->at[i - 1].seq == seq)
            return;
        i--;
    }
    insert(log, i, seq, body);
}

void
brain_log_stage(struct brain_log *log, json_t *body)
{
    insert(log, log->n, BRAIN_SEQ_STAGED, body);
    log->n_staged++;
}

void
brain_log_unstage(struct brain_log *log, size_t n)
{
    struct brain_event *first = log->at + log->n - log->n_staged;

    ag_assert(n <= log->n_staged);
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        json_decref(first[i].body);
    memmove(first, first + n, (log->n_staged - n) * sizeof(*first));
    log->n_staged -= n;
    log->n -= n;
}

int64_t
brain_log_last(const struct brain_log *log)
{
    size_t n = log->n - log->n_staged;

    return n == 0 ? log->base : log->at[n - 1].seq;
}

int64_t
brain_log_whole(const struct brain_log *log)
{
    int64_t seq = log->base;

    for (size_t i = 0; i < log->n && log->at[i].seq == seq + 1; i++)
        seq++;
    return seq;
}

int
brain_event_text(const json_t *event, struct ag_buf *out, struct ag_err *err)
{
    size_t i, start = out->n;
    json_t *block;

    json_array_foreach (json_object_get(event, "content"), i, block) {
        ag_str_t text = ag_json_str(json_object_get(block, "text"));

        if (text.p == NULL)
            continue;
        if ((out->n > start && ag_buf_append(out, AG_STR("\n"), err) < 0)
            || ag_buf_append(out, text, err) < 0)
            return -1;
    }
    return 0;
}
