/*
 * EventService: callers' events in, the log out. Streams are brain_hub.c's.
 */
#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "brain_svc/brain_check.h"
#include "brain_svc/brain_event_check.h"
#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_log.h"
#include "brain_svc/brain_run.h"
#include "brain_svc/brain_store.h"
#include "brain_svc/brain_warm.h"
#include "lib/clock.h"

#define EVENTS_MAX 32
#define TYPES_MAX 32

/* ---- send -------------------------------------------------------------- */

struct post {
    ag_str_t session;
    json_t **events;
    size_t n;
};

static void
post_release(struct post *post)
{
    for (size_t i = 0; i < post->n; i++)
        json_decref(post->events[i]);
    post->n = 0;
}

static void
posted(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct post *post = req->state;
    Agent__Brain__V1__SendEventsResponse reply =
        AGENT__BRAIN__V1__SEND_EVENTS_RESPONSE__INIT;
    int64_t first;

    if (err != NULL) {
        post_release(post);
        ag_rpc_fail(req->call, err);
        return;
    }
    first = ag_db_get_int(res, 0, 0);
    reply.n_data_json = post->n;
    reply.data_json =
        ag_arena_alloc(req->arena, post->n * sizeof(*reply.data_json));
    for (size_t i = 0; i < post->n; i++) {
        AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(SIZE_MAX / 4);
        struct ag_err bug;

        ag_assert(ag_json_dump(post->events[i], &b, &bug) == 0);
        reply.data_json[i] =
            brain_data(ag_arena_copy(req->arena, ag_buf_str(&b)));
    }
    brain_hub_publish(req->brain->hub, post->session, first, post->events,
                      post->n);
    brain_run_posted(req->brain,
                     &(struct brain_append){.tenant = req->who.tenant,
                                            .session = post->session,
                                            .events = post->events,
                                            .n = post->n},
                     res);
    post_release(post);
    ag_rpc_reply(req->call, &reply.base);
}

static int
check_events(const Agent__Brain__V1__SendEventsRequest *m, struct post *post,
             struct ag_err *err)
{
    if (m->n_events_json == 0 || m->n_events_json > EVENTS_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "events: must have 1 to %d",
                          EVENTS_MAX);
    for (size_t i = 0; i < m->n_events_json; i++) {
        AG_AUTO(ag_json_decref) json_t *in = NULL;

        in = ag_json_parse(brain_bytes(m->events_json[i]), err);
        if (in == NULL || brain_event_check(in, &post->events[i], err) < 0)
            return ag_err_wrap(err, "events[%zu]", i);
        post->n++;
    }
    return 0;
}

static void
send_events(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    const Agent__Brain__V1__SendEventsRequest *m =
        (const Agent__Brain__V1__SendEventsRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);
    struct brain_append append = {0};
    struct post *post;
    struct ag_err err;

    if (req == NULL)
        return;
    post = ag_arena_alloc(req->arena, sizeof(*post));
    post->session = ag_str(m->session_id);
    post->events =
        ag_arena_alloc(req->arena, EVENTS_MAX * sizeof(*post->events));
    req->state = post;
    if (check_events(m, post, &err) < 0) {
        post_release(post);
        ag_rpc_fail(call, &err);
        return;
    }
    append.tenant = req->who.tenant;
    append.session = post->session;
    append.events = post->events;
    append.n = post->n;
    brain_store_post(req->brain, &append, brain_runs_may_claim(req->brain),
                     posted, req);
    brain_warm_use(req->brain->warm, append.tenant, append.session);
}

/* ---- list -------------------------------------------------------------- */

static void
listed(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_req *req = arg;
    int limit = *(int *)req->state, rows, n;
    Agent__Brain__V1__ListEventsResponse reply =
        AGENT__BRAIN__V1__LIST_EVENTS_RESPONSE__INIT;
    struct ag_err missing;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
        return;
    }
    /* The session's own row comes first, so that no row means no session. */
    if (ag_db_rows(res) == 0) {
        ag_err_set(&missing, AG_ERR_NOT_FOUND, "session_id: no such session");
        ag_rpc_fail(req->call, &missing);
        return;
    }
    rows = ag_db_is_null(res, 0, 0) ? 0 : ag_db_rows(res);
    for (n = 0; n < rows && n < limit && !ag_db_is_null(res, n, 1);)
        n++;
    if (rows > n) {
        reply._next_page_case =
            AGENT__BRAIN__V1__LIST_EVENTS_RESPONSE___NEXT_PAGE_NEXT_PAGE;
        reply.next_page = brain_cell(res, n - 1, 0, req->arena);
    }
    reply.n_data_json = (size_t)n;
    reply.data_json =
        ag_arena_alloc(req->arena, (size_t)(n + 1) * sizeof(*reply.data_json));
    for (int i = 0; i < n; i++)
        reply.data_json[i] = brain_cell_json(res, i, 1, req->arena);
    ag_rpc_reply(req->call, &reply.base);
}

#define WANTED(compare, order)                            \
    "SELECT seq, body, octet_length(body::text) AS own "  \
    "FROM brain.event WHERE session_id = s.id "           \
    "AND ($2::bigint = 0 OR seq " compare " $2::bigint) " \
    "AND ($3::json IS NULL OR type IN "                   \
    "(SELECT json_array_elements_text($3::json))) "       \
    "ORDER BY seq " order " LIMIT $4::int"

#define EVENTS_HEAD \
    "SELECT e.seq, e.body FROM brain.session s LEFT JOIN LATERAL ("
#define EVENTS_TAIL ") e ON true WHERE s.id = $1 ORDER BY e.seq "

#define EVENTS_SQL(compare, order)                                \
    EVENTS_HEAD                                                   \
    BRAIN_STORE_SOME(WANTED(compare, order), order, "$5::bigint") \
    EVENTS_TAIL order

static void
list_events(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    const Agent__Brain__V1__ListEventsRequest *m =
        (const Agent__Brain__V1__ListEventsRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);
    bool is_desc = strcmp(m->order, "desc") == 0;
    struct ag_err err = AG_ERR_INIT;
    int64_t page = 0;
    int *limit;

    if (req == NULL)
        return;
    limit = ag_arena_alloc(req->arena, sizeof(*limit));
    req->state = limit;
    if (m->order[0] != '\0' && !is_desc && strcmp(m->order, "asc") != 0)
        ag_err_set(&err, AG_ERR_INVALID, "order: must be asc or desc");
    else if (m->page[0] != '\0'
             && (ag_str_i64(ag_str(m->page), &page) < 0 || page < 1))
        ag_err_set(&err, AG_ERR_INVALID,
                   "page: must be a next_page of an earlier answer");
    else if (m->n_types > TYPES_MAX)
        ag_err_set(&err, AG_ERR_INVALID, "types: more than %d", TYPES_MAX);
    else
        (void)brain_check_limit(m->limit, limit, &err);
    if (err.kind != AG_ERR_NONE) {
        ag_rpc_fail(call, &err);
        return;
    }
    brain_query(
        req, is_desc ? EVENTS_SQL("<", "DESC") : EVENTS_SQL(">", "ASC"),
        (struct ag_db_param[]){
            ag_db_str(ag_str(m->session_id)), ag_db_int(page),
            m->n_types > 0
                ? ag_db_str(brain_json_list(m->types, m->n_types, req->arena))
                : ag_db_null(),
            ag_db_int(*limit + 1), ag_db_int(req->brain->conf.page_bytes)},
        5, listed, req);
}

/* ---- stream ------------------------------------------------------------ */

static void
stream_events(struct ag_rpc_call *call, const ProtobufCMessage *request,
              void *arg)
{
    struct brain_req *req = brain_enter(arg, call, false);

    if (req != NULL)
        brain_hub_stream(req, request);
}

void
brain_event_register(struct brain *brain)
{
#define ADD(name)                                                            \
    ag_rpc_server_add(brain->server,                                         \
                      &agent__brain__v1__event_service__##name##__rpc, name, \
                      brain)
    ADD(send_events);
    ADD(list_events);
    ADD(stream_events);
#undef ADD
}
