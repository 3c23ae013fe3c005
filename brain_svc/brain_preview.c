/*
 * Previews, made only where somebody wants them.
 */
#include "brain_svc/brain_preview.h"

#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_log.h"

static const char *const types[BRAIN_PREVIEWS] = {
    [BRAIN_PREVIEW_MESSAGE] = "agent.message",
    [BRAIN_PREVIEW_THINKING] = "agent.thinking",
    [BRAIN_PREVIEW_RESULT] = "agent.tool_result",
};

int
brain_preview_find(ag_str_t type, enum brain_preview *out, struct ag_err *err)
{
    for (int i = 0; i < BRAIN_PREVIEWS; i++)
        if (ag_str_is(type, types[i])) {
            *out = (enum brain_preview)i;
            return 0;
        }
    return ag_err_set(
        err, AG_ERR_INVALID, "event_deltas: \"%.*s\" is none of %s, %s, %s",
        (int)(type.n < 64 ? type.n : 64), type.p, types[0], types[1], types[2]);
}

void
brain_preview_begin(struct brain_hub *hub, ag_str_t session,
                    enum brain_preview kind, const json_t *event)
{
    AG_AUTO(ag_json_decref) json_t *start = NULL;
    json_t *call = json_object_get(event, "tool_use_id");

    start = json_pack("{s:s, s:{s:s, s:s, s:O*}}", "type", "event_start",
                      "event", "type", brain_event_type(event), "id",
                      brain_event_id(event), "tool_use_id", call);
    ag_assert(start != NULL);
    brain_hub_preview(hub, session, kind, start);
}

/* `delta` is taken over. */
static void
go_on(struct brain_hub *hub, ag_str_t session, enum brain_preview kind,
      const json_t *event, json_t *delta)
{
    AG_AUTO(ag_json_decref) json_t *more = NULL;

    more = json_pack("{s:s, s:s, s:o}", "type", "event_delta", "event_id",
                     brain_event_id(event), "delta", delta);
    ag_assert(more != NULL);
    brain_hub_preview(hub, session, kind, more);
}

void
brain_preview_text(struct brain_hub *hub, ag_str_t session,
                   const json_t *message, ag_str_t text)
{
    go_on(hub, session, BRAIN_PREVIEW_MESSAGE, message,
          json_pack("{s:s, s:i, s:{s:s, s:o}}", "type", "content_delta",
                    "index", 0, "content", "type", "text", "text",
                    ag_json_from_str(text)));
}

/* What can be shown of `cut` and `data`; the rest is the new `cut`. */
static void
add_whole(struct brain_preview_output *o, bool is_stderr, ag_str_t data,
          struct ag_buf *text)
{
    char *cut = o->cut[is_stderr].bytes;
    size_t *n_cut = &o->cut[is_stderr].n;
    ag_str_t whole;

    ag_buf_add(text, ag_str_n(cut, *n_cut));
    ag_buf_add(text, data);
    whole = ag_str_whole_utf8(ag_buf_str(text));
    *n_cut = text->n - whole.n;
    memcpy(cut, text->p + whole.n, *n_cut);
    text->n = whole.n;
}

static void
announce(struct brain_hub *hub, ag_str_t session, const char *call_id,
         struct brain_preview_output *o)
{
    o->result = brain_event_new(types[BRAIN_PREVIEW_RESULT]);
    json_object_set_new(o->result, "tool_use_id", json_string(call_id));
    brain_preview_begin(hub, session, BRAIN_PREVIEW_RESULT, o->result);
}

void
brain_preview_output(struct brain *brain, ag_str_t session, const char *call_id,
                     struct brain_preview_output *o, bool is_stderr,
                     ag_str_t data)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(SIZE_MAX / 4);
    size_t max = (size_t)brain->conf.preview_output_bytes;
    json_t *delta;

    if (o->is_full || max == 0
        || !brain_hub_wants(brain->hub, session, BRAIN_PREVIEW_RESULT))
        return;
    if (o->result == NULL)
        announce(brain->hub, session, call_id, o);
    if (data.n > max - o->n_bytes) {
        o->is_full = true;
        data.n = max - o->n_bytes;
    }
    o->n_bytes += data.n;
    add_whole(o, is_stderr, data, &text);
    if (text.n == 0 && !o->is_full)
        return;
    delta = json_pack("{s:s, s:s, s:o}", "type", "output_delta", "stream",
                      is_stderr ? "stderr" : "stdout", "text",
                      ag_json_from_str(ag_buf_str(&text)));
    if (o->is_full)
        json_object_set_new(delta, "truncated", json_true());
    go_on(brain->hub, session, BRAIN_PREVIEW_RESULT, o->result, delta);
}
