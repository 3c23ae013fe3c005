/*
 * Event streams. All on the loop.
 */
#include "brain_svc/brain_hub.h"

#include <stdlib.h>
#include <uthash.h>

#include "brain.pb-c.h"
#include "brain_svc/brain_log.h"
#include "brain_svc/brain_store.h"

#define READ_ROWS 100
/* A stream reads no further ahead than this. */
#define QUEUE_BYTES (256 * 1024)

struct stream {
    struct stream *next, **prev; /* of its topic */
    struct brain_hub *hub;
    struct topic *topic;
    struct ag_rpc_call *call;
    char *tenant;
    int64_t next_seq;
    bool is_reading;   /* a query is under way */
    bool is_behind;    /* something was published that it could not take */
    bool is_waiting;   /* for the caller to read */
    unsigned previews; /* kinds that are wanted, a bit each */
    bool is_last;      /* the session has ended: the stream ends when read */
    bool is_gone;      /* the caller left while a query is under way */
};

struct topic {
    UT_hash_handle hh;
    char session[AG_ID_TEXT];
    struct stream *streams;
};

struct brain_hub {
    struct brain *brain;
    struct topic *topics;
    struct ag_timer heartbeat;
};

static void stream_read(struct stream *s);

/* ---- topics ------------------------------------------------------------ */

static struct topic *
topic_find(const struct brain_hub *hub, ag_str_t session)
{
    struct topic *t;

    HASH_FIND(hh, hub->topics, session.p, session.n, t);
    return t;
}

static struct topic *
topic_get(struct brain_hub *hub, ag_str_t session)
{
    struct topic *t = topic_find(hub, session);

    if (t != NULL)
        return t;
    t = ag_xcalloc(1, sizeof(*t));
    ag_assert(session.n < sizeof(t->session));
    memcpy(t->session, session.p, session.n);
    HASH_ADD(hh, hub->topics, session, session.n, t);
    return t;
}

static void
stream_unlink(struct brain_hub *hub, struct stream *s)
{
    struct topic *t = s->topic;

    *s->prev = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    if (t->streams == NULL) {
        HASH_DEL(hub->topics, t);
        free(t);
    }
    s->topic = NULL;
}

static void
stream_free(struct stream *s)
{
    free(s->tenant);
    free(s);
}

/* Out of the hub now; freed now, or when its query is back. */
static void
stream_leave(struct brain_hub *hub, struct stream *s)
{
    if (s->topic != NULL)
        stream_unlink(hub, s);
    s->call = NULL;
    s->is_gone = true;
    if (!s->is_reading)
        stream_free(s);
}

/* ---- sending ----------------------------------------------------------- */

/* Returns the bytes that wait in the call. */
static size_t
send_body(struct stream *s, const char *id, const char *type, ag_str_t body)
{
    Agent__Brain__V1__StreamEventsResponse m =
        AGENT__BRAIN__V1__STREAM_EVENTS_RESPONSE__INIT;

    m.event_id = (char *)(uintptr_t)id;
    m.event_type = (char *)(uintptr_t)type;
    m.data_json = (ProtobufCBinaryData){body.n, (uint8_t *)(uintptr_t)body.p};
    return ag_rpc_send(s->call, &m.base);
}

static void
drained(struct ag_rpc_call *call, void *arg)
{
    struct stream *s = arg;

    (void)call;
    s->is_waiting = false;
    if (s->is_behind && !s->is_reading)
        stream_read(s);
}

static void
maybe_wait(struct stream *s, size_t queued)
{
    if (queued <= QUEUE_BYTES || s->is_waiting)
        return;
    s->is_waiting = true;
    ag_rpc_call_on_drain(s->call, drained, s);
}

/* ---- reading ----------------------------------------------------------- */

/* Those that were read; how many that is. */
static int
send_rows(struct stream *s, const struct ag_db_result *res)
{
    size_t queued = 0;
    int i;

    for (i = 0; i < ag_db_rows(res) && !ag_db_is_null(res, i, 1); i++) {
        AG_AUTO(ag_json_decref) json_t *body = NULL;
        struct ag_err err;

        body = ag_json_parse(ag_db_get(res, i, 1), &err);
        queued = send_body(s, brain_event_id(body), brain_event_type(body),
                           ag_db_get(res, i, 1));
        s->next_seq = ag_db_get_int(res, i, 0) + 1;
    }
    maybe_wait(s, queued);
    return i;
}

static void
rows_read(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct stream *s = arg;
    struct ag_rpc_call *call = s->call;
    int n;

    s->is_reading = false;
    if (s->is_gone) {
        stream_free(s);
        return;
    }
    if (err != NULL) {
        stream_leave(s->hub, s);
        ag_rpc_fail(call, err);
        return;
    }
    n = send_rows(s, res);
    if (n == READ_ROWS || n < ag_db_rows(res))
        s->is_behind = true;
    if (s->is_last && !s->is_behind) {
        stream_leave(s->hub, s);
        ag_rpc_end(call);
    } else if (s->is_behind && !s->is_waiting) {
        stream_read(s);
    }
}

static void
stream_read(struct stream *s)
{
    s->is_reading = true;
    s->is_behind = false;
    brain_store_read_some(s->hub->brain, ag_str(s->tenant),
                          ag_str(s->topic->session), s->next_seq - 1, READ_ROWS,
                          rows_read, s);
}

/* ---- publishing -------------------------------------------------------- */

static void
offer(struct stream *s, int64_t seq, const json_t *event, ag_str_t body)
{
    if (seq < s->next_seq)
        return;
    if (seq > s->next_seq || s->is_reading || s->is_waiting) {
        s->is_behind = true;
        if (!s->is_reading && !s->is_waiting)
            stream_read(s);
        return;
    }
    s->next_seq++;
    maybe_wait(
        s, send_body(s, brain_event_id(event), brain_event_type(event), body));
}

void
brain_hub_publish(struct brain_hub *hub, ag_str_t session, int64_t first,
                  json_t *const *events, size_t n)
{
    struct topic *t = topic_find(hub, session);

    if (t == NULL)
        return;
    for (size_t i = 0; i < n; i++) {
        AG_AUTO(ag_buf_release) struct ag_buf body = AG_BUF_INIT(SIZE_MAX / 4);
        struct ag_err err;

        ag_assert(ag_json_dump(events[i], &body, &err) == 0);
        for (struct stream *s = t->streams; s != NULL; s = s->next)
            offer(s, first + (int64_t)i, events[i], ag_buf_str(&body));
    }
}

static bool
wants(const struct stream *s, enum brain_preview kind)
{
    return (s->previews & 1U << kind) != 0;
}

void
brain_hub_preview(struct brain_hub *hub, ag_str_t session,
                  enum brain_preview kind, const json_t *event)
{
    AG_AUTO(ag_buf_release) struct ag_buf body = AG_BUF_INIT(SIZE_MAX / 4);
    struct topic *t = topic_find(hub, session);
    struct ag_err err;

    if (t == NULL)
        return;
    ag_assert(ag_json_dump(event, &body, &err) == 0);
    for (struct stream *s = t->streams; s != NULL; s = s->next)
        if (wants(s, kind) && !s->is_reading && !s->is_waiting)
            maybe_wait(s, send_body(s, "", brain_event_type(event),
                                    ag_buf_str(&body)));
}

bool
brain_hub_wants(const struct brain_hub *hub, ag_str_t session,
                enum brain_preview kind)
{
    const struct topic *t = topic_find(hub, session);

    for (const struct stream *s = t == NULL ? NULL : t->streams; s != NULL;
         s = s->next)
        if (wants(s, kind))
            return true;
    return false;
}

void
brain_hub_close(struct brain_hub *hub, ag_str_t session)
{
    struct topic *t;

    while ((t = topic_find(hub, session)) != NULL) {
        struct ag_rpc_call *call = t->streams->call;

        stream_leave(hub, t->streams);
        ag_rpc_end(call);
    }
}

static void
beat(struct ag_timer *timer)
{
    struct brain_hub *hub =
        (struct brain_hub *)((char *)timer
                             - offsetof(struct brain_hub, heartbeat));
    struct topic *t, *next;

    HASH_ITER (hh, hub->topics, t, next)
        for (struct stream *s = t->streams; s != NULL; s = s->next)
            if (!s->is_waiting)
                (void)send_body(s, "", "ping", AG_STR("{\"type\":\"ping\"}"));
    ag_timer_start(hub->brain->loop, timer,
                   hub->brain->conf.heartbeat_seconds * 1000);
}

/* ---- one stream -------------------------------------------------------- */

static void
caller_gone(struct ag_rpc_call *call, void *arg)
{
    struct stream *s = arg;
    struct ag_err err;

    stream_leave(s->hub, s);
    ag_err_set(&err, AG_ERR_CANCELLED, "the caller is gone");
    ag_rpc_fail(call, &err);
}

/* As a bit each. Returns 0, or -1 with AG_ERR_INVALID. */
static int
read_previews(const Agent__Brain__V1__StreamEventsRequest *m, unsigned *out,
              struct ag_err *err)
{
    enum brain_preview kind;

    for (size_t i = 0; i < m->n_event_deltas; i++) {
        if (brain_preview_find(ag_str(m->event_deltas[i]), &kind, err) < 0)
            return -1;
        *out |= 1U << kind;
    }
    return 0;
}

/* Columns: next_seq, whether it has ended, the seq of last_event_id. */
static void
session_found(void *arg, const struct ag_db_result *res,
              const struct ag_err *err)
{
    struct brain_req *req = arg;
    const Agent__Brain__V1__StreamEventsRequest *m = req->state;
    struct ag_err bad = AG_ERR_INIT;
    unsigned previews = 0;
    struct stream *s;

    if (err != NULL)
        bad = *err;
    else if (ag_db_rows(res) == 0)
        ag_err_set(&bad, AG_ERR_NOT_FOUND, "session_id: no session \"%.64s\"",
                   m->session_id);
    else if (m->last_event_id[0] != '\0' && ag_db_is_null(res, 0, 2))
        ag_err_set(&bad, AG_ERR_NOT_FOUND,
                   "last_event_id: no event \"%.64s\" in this session",
                   m->last_event_id);
    else if (ag_rpc_call_is_cancelled(req->call))
        ag_err_set(&bad, AG_ERR_CANCELLED, "the caller is gone");
    else
        (void)read_previews(m, &previews, &bad);
    if (bad.kind != AG_ERR_NONE) {
        ag_rpc_fail(req->call, &bad);
        return;
    }
    s = ag_xcalloc(1, sizeof(*s));
    s->hub = req->brain->hub;
    s->call = req->call;
    s->tenant = ag_str_dup(req->who.tenant);
    s->next_seq = m->from_start ? 1 : ag_db_get_int(res, 0, 0);
    if (m->last_event_id[0] != '\0')
        s->next_seq = ag_db_get_int(res, 0, 2) + 1;
    s->previews = previews;
    s->topic = topic_get(req->brain->hub, ag_str(m->session_id));
    s->next = s->topic->streams;
    s->prev = &s->topic->streams;
    if (s->next != NULL)
        s->next->prev = &s->next;
    s->topic->streams = s;
    ag_rpc_call_on_cancel(req->call, caller_gone, s);
    ag_rpc_accept(req->call);
    s->is_last = ag_db_get_bool(res, 0, 1);
    if (s->next_seq < ag_db_get_int(res, 0, 0) || s->is_last)
        stream_read(s);
}

void
brain_hub_stream(struct brain_req *req, const ProtobufCMessage *request)
{
    const Agent__Brain__V1__StreamEventsRequest *m =
        (const Agent__Brain__V1__StreamEventsRequest *)request;

    req->state = (void *)(uintptr_t)request;
    brain_query(req,
                "SELECT s.next_seq, s.archived_at IS NOT NULL, e.seq "
                "FROM brain.session s LEFT JOIN brain.event e "
                "ON e.session_id = s.id AND e.id = $2 WHERE s.id = $1",
                (struct ag_db_param[]){ag_db_str(ag_str(m->session_id)),
                                       ag_db_str(ag_str(m->last_event_id))},
                2, session_found, req);
}

struct brain_hub *
brain_hub_new(struct brain *brain)
{
    struct brain_hub *hub = ag_xcalloc(1, sizeof(*hub));

    hub->brain = brain;
    hub->heartbeat.fn = beat;
    ag_timer_start(brain->loop, &hub->heartbeat,
                   brain->conf.heartbeat_seconds * 1000);
    return hub;
}

void
brain_hub_free(struct brain_hub *hub)
{
    if (hub == NULL)
        return;
    ag_timer_stop(hub->brain->loop, &hub->heartbeat);
    while (hub->topics != NULL) {
        char session[AG_ID_TEXT];

        memcpy(session, hub->topics->session, sizeof(session));
        brain_hub_close(hub, ag_str(session));
    }
    free(hub);
}

size_t
brain_hub_count(const struct brain_hub *hub)
{
    size_t n = 0;

    for (const struct topic *t = hub->topics; t != NULL; t = t->hh.next)
        for (const struct stream *s = t->streams; s != NULL; s = s->next)
            n++;
    return n;
}
