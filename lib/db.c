/*
 * PostgreSQL on the loop: connections in pipeline mode, statements prepared
 * once a connection, queries in the order given on the connection with the
 * fewest. Everything runs on the loop.
 */
#include "lib/db.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "lib/clock.h"
#include "lib/db_result.h"
#include "lib/log.h"

#define CONNS_MAX 32
#define PARAMS_MAX 24
#define INFLIGHT_MAX 64    /* queries in one connection's pipeline */
#define WAITING_MAX 8192   /* queries without a connection */
#define STATEMENTS_MAX 256 /* prepared on a connection */
#define TICK_MS 250
#define RETRY_MS 500
/* Statements here read a few rows in the order of an index. Where a table has
 * grown since it was looked at last, the planner may take a bitmap of all its
 * rows and sort them instead. What conninfo says goes before this. */
#define SESSION_OPTIONS "-c enable_bitmapscan=off"

static const char tenant_sql[] =
    "SELECT set_config('brainbox.tenant', $1, true)";

struct query {
    struct query *next;
    char *tenant;
    const char *sql;
    int n_params;
    struct ag_db_param params[PARAMS_MAX];
    char *param_bytes; /* the copied values */
    size_t n_param_bytes;
    ag_db_done *done;
    void *arg;
    int64_t since_ms;
    int n_skip;    /* results that come before the statement's own */
    int preparing; /* statement that this query prepares, or -1 */
    struct ag_err err;
    PGresult *res;
};

struct queue {
    struct query *head, **tail;
    int n;
};

struct conn {
    struct ag_db *db;
    PGconn *pg;
    struct ag_io io;
    bool is_watched, is_up;
    uint32_t events;
    struct queue inflight;
    const char *statements[STATEMENTS_MAX];
    int n_statements;
    struct ag_timer retry;
};

struct ag_db {
    struct ag_loop *loop;
    char *conninfo;
    int64_t timeout_ms;
    int n_conns;
    struct conn conns[CONNS_MAX];
    struct queue waiting, failed;
    struct ag_timer tick, fail_soon;
    const char *listen_sql; /* the first connection hears; NULL: none does */
    ag_db_notify *notify;
    void *notify_arg;
    bool is_closing;
};

static void conn_start(struct conn *c);
static void listen_begin(struct ag_db *db);
static void pump(struct ag_db *db);

/* ---- queues ------------------------------------------------------------ */

static void
queue_push(struct queue *q, struct query *x)
{
    if (q->head == NULL)
        q->tail = &q->head;
    x->next = NULL;
    *q->tail = x;
    q->tail = &x->next;
    q->n++;
}

static struct query *
queue_pop(struct queue *q)
{
    struct query *x = q->head;

    if (x == NULL)
        return NULL;
    q->head = x->next;
    q->n--;
    return x;
}

static void
query_free(struct query *x)
{
    PQclear(x->res);
    free(x->tenant);
    if (x->n_param_bytes > 0)
        explicit_bzero(x->param_bytes, x->n_param_bytes);
    free(x->param_bytes);
    free(x);
}

static void
query_finish(struct query *x)
{
    struct ag_db_result res = {x->res};

    if (x->err.kind != AG_ERR_NONE)
        x->done(x->arg, NULL, &x->err);
    else
        x->done(x->arg, &res, NULL);
    query_free(x);
}

/* Fail later, from a timer, so that callbacks never run inside ag_db_query. */
static void
query_fail(struct ag_db *db, struct query *x, enum ag_err_kind kind,
           const char *why)
{
    ag_err_set(&x->err, kind, "%s", why);
    queue_push(&db->failed, x);
    if (db->fail_soon.slot == 0)
        ag_timer_start(db->loop, &db->fail_soon, 0);
}

static void
run_failed(struct ag_timer *timer)
{
    struct ag_db *db =
        (struct ag_db *)((char *)timer - offsetof(struct ag_db, fail_soon));
    struct queue now = db->failed;
    struct query *x;

    db->failed = (struct queue){NULL, NULL, 0};
    while ((x = queue_pop(&now)) != NULL)
        query_finish(x);
}

/* ---- connections ------------------------------------------------------- */

static void
watch(struct conn *c, uint32_t events)
{
    struct ag_err err;
    int rc;

    if (c->is_watched && c->events == events)
        return;
    rc = c->is_watched ? ag_io_change(c->db->loop, &c->io, events, &err)
                       : ag_io_start(c->db->loop, &c->io, events, &err);
    ag_assert(rc == 0);
    c->is_watched = true;
    c->events = events;
}

static void
unwatch(struct conn *c)
{
    if (c->is_watched)
        ag_io_stop(c->db->loop, &c->io);
    c->is_watched = false;
}

/* The connection is gone: what was in flight has an unknown outcome. */
static void
conn_lost(struct conn *c, const char *why)
{
    struct ag_db *db = c->db;
    struct query *x;

    if (!db->is_closing && (c->is_up || c->inflight.n > 0))
        ag_log(AG_WARN, "database.lost", AG_S("message", why),
               AG_I("in_flight", c->inflight.n));
    unwatch(c);
    PQfinish(c->pg);
    c->pg = NULL;
    c->is_up = false;
    c->n_statements = 0;
    while ((x = queue_pop(&c->inflight)) != NULL)
        query_fail(db, x, AG_ERR_UNAVAILABLE,
                   "the connection to the database was lost");
    if (!db->is_closing)
        ag_timer_start(db->loop, &c->retry, RETRY_MS);
}

/* The first line of libpq's message, without its newline. */
static const char *
pg_message(struct conn *c, char out[160])
{
    (void)snprintf(out, 160, "%s", PQerrorMessage(c->pg));
    out[strcspn(out, "\n")] = '\0';
    return out;
}

static void
flush(struct conn *c)
{
    char text[160];
    int rc = PQflush(c->pg);

    if (rc < 0)
        conn_lost(c, pg_message(c, text));
    else
        watch(c, rc > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
conn_up(struct conn *c)
{
    char text[160];

    if (PQsetnonblocking(c->pg, 1) < 0 || PQenterPipelineMode(c->pg) != 1) {
        conn_lost(c, pg_message(c, text));
        return;
    }
    c->is_up = true;
    watch(c, EPOLLIN);
    if (c == c->db->conns)
        listen_begin(c->db);
    pump(c->db);
}

static void
conn_poll(struct conn *c)
{
    char text[160];

    switch (PQconnectPoll(c->pg)) {
    case PGRES_POLLING_OK:
        conn_up(c);
        return;
    case PGRES_POLLING_READING:
        unwatch(c); /* libpq may have changed the socket */
        c->io.fd = PQsocket(c->pg);
        watch(c, EPOLLIN);
        return;
    case PGRES_POLLING_WRITING:
        unwatch(c);
        c->io.fd = PQsocket(c->pg);
        watch(c, EPOLLOUT);
        return;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
        break;
    }
    ag_log(AG_WARN, "database.refused", AG_S("message", pg_message(c, text)));
    conn_lost(c, "connect");
}

/* One result of the query at the head; true when the query is complete. */
static bool
take_result(struct conn *c, struct query *x, PGresult *res)
{
    int status = (int)PQresultStatus(res);
    bool is_sync = status == PGRES_PIPELINE_SYNC;

    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        if (x->n_skip == 0) {
            PQclear(x->res);
            x->res = res;
            return false;
        }
        x->n_skip--;
    } else if (!is_sync && status != PGRES_PIPELINE_ABORTED) {
        /* The last result that is skipped is that of the preparation. */
        if (x->preparing >= 0 && x->n_skip == 1)
            c->statements[x->preparing] = NULL;
        ag_db_set_error(&x->err, res);
    }
    PQclear(res);
    return is_sync;
}

static void
hear(struct conn *c)
{
    PGnotify *said;

    while (c->pg != NULL && (said = PQnotifies(c->pg)) != NULL) {
        if (c->db->notify != NULL)
            c->db->notify(c->db->notify_arg, ag_str(said->extra));
        PQfreemem(said);
    }
}

static void
conn_read(struct conn *c)
{
    char text[160];

    if (PQconsumeInput(c->pg) != 1) {
        conn_lost(c, pg_message(c, text));
        return;
    }
    while (c->inflight.head != NULL && !PQisBusy(c->pg)) {
        PGresult *res = PQgetResult(c->pg);

        /* NULL ends one statement's results; the sync ends the query. */
        if (res != NULL && take_result(c, c->inflight.head, res)) {
            query_finish(queue_pop(&c->inflight));
            if (c->pg == NULL || c->db->is_closing)
                return;
        }
        if (res == NULL && PQstatus(c->pg) == CONNECTION_BAD) {
            conn_lost(c, pg_message(c, text));
            return;
        }
    }
    if (PQstatus(c->pg) == CONNECTION_BAD)
        conn_lost(c, pg_message(c, text));
    else
        hear(c);
}

static void
conn_event(struct ag_io *io, uint32_t events)
{
    struct conn *c = (struct conn *)((char *)io - offsetof(struct conn, io));

    if (!c->is_up) {
        conn_poll(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        conn_read(c);
    if (c->is_up && (events & EPOLLOUT))
        flush(c);
    if (c->is_up)
        pump(c->db);
}

static void
conn_start(struct conn *c)
{
    char text[160];

    c->pg = PQconnectStartParams(
        (const char *const[]){"options", "dbname", NULL},
        (const char *const[]){SESSION_OPTIONS, c->db->conninfo, NULL}, 1);
    ag_assert(c->pg != NULL);
    if (PQstatus(c->pg) == CONNECTION_BAD) {
        ag_log(AG_WARN, "database.refused",
               AG_S("message", pg_message(c, text)));
        conn_lost(c, "connect");
        return;
    }
    c->io.fd = PQsocket(c->pg);
    c->io.fn = conn_event;
    watch(c, EPOLLOUT);
}

static void
conn_retry(struct ag_timer *timer)
{
    conn_start((struct conn *)((char *)timer - offsetof(struct conn, retry)));
}

/* ---- sending ----------------------------------------------------------- */

/*
 * Number of `sql` among the statements of the connection, prepared now if it
 * is new (*is_new); -1 on a failed send.
 */
static int
statement(struct conn *c, const char *sql, bool *is_new)
{
    int i, unused = -1;
    char name[16];

    *is_new = false;
    for (i = 0; i < c->n_statements; i++) {
        if (c->statements[i] == NULL)
            unused = i;
        else if (c->statements[i] == sql || strcmp(c->statements[i], sql) == 0)
            return i;
    }
    if (unused >= 0)
        i = unused;
    /* Statements are literals of the program: their number is bounded. */
    ag_assert(i < STATEMENTS_MAX);
    (void)snprintf(name, sizeof(name), "s%d", i);
    if (PQsendPrepare(c->pg, name, sql, 0, NULL) != 1)
        return -1;
    c->statements[i] = sql;
    c->n_statements += i == c->n_statements;
    *is_new = true;
    return i;
}

static int
send_tenant(struct conn *c, struct query *x)
{
    const char *value = x->tenant;
    char name[16];
    bool is_new;
    int i = statement(c, tenant_sql, &is_new);

    if (i < 0)
        return -1;
    x->n_skip += is_new ? 2 : 1;
    (void)snprintf(name, sizeof(name), "s%d", i);
    return PQsendQueryPrepared(c->pg, name, 1, &value, NULL, NULL, 0) == 1 ? 0
                                                                           : -1;
}

static int
send_statement(struct conn *c, struct query *x)
{
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX], formats[PARAMS_MAX];
    char name[16];
    bool is_new;
    int i = statement(c, x->sql, &is_new);

    if (i < 0)
        return -1;
    if (is_new) {
        x->n_skip++;
        x->preparing = i;
    }
    for (int k = 0; k < x->n_params; k++) {
        const struct ag_db_param *p = &x->params[k];

        values[k] = p->is_null ? NULL : p->v.p;
        lengths[k] = (int)p->v.n;
        formats[k] = p->is_bytes;
    }
    (void)snprintf(name, sizeof(name), "s%d", i);
    return PQsendQueryPrepared(c->pg, name, x->n_params, values, lengths,
                               formats, 0)
                   == 1
               ? 0
               : -1;
}

static void
conn_send(struct conn *c, struct query *x)
{
    char text[160];

    queue_push(&c->inflight, x);
    /* The setting ends with the transaction: without one there is none. */
    if ((*x->tenant != '\0' && send_tenant(c, x) < 0)
        || send_statement(c, x) < 0 || PQpipelineSync(c->pg) != 1)
        conn_lost(c, pg_message(c, text));
}

static void
listening(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct ag_db *db = arg;

    (void)res; /* when it failed, the connection is lost and made again */
    if (err == NULL && db->notify != NULL)
        db->notify(db->notify_arg, (ag_str_t){NULL, 0});
}

static void
listen_begin(struct ag_db *db)
{
    struct conn *c = &db->conns[0];
    struct query *x;

    if (db->listen_sql == NULL || !c->is_up)
        return;
    x = ag_xcalloc(1, sizeof(*x));
    x->tenant = ag_str_dup(AG_STR(""));
    x->sql = db->listen_sql;
    x->done = listening;
    x->arg = db;
    x->since_ms = ag_mono_ms();
    x->preparing = -1;
    conn_send(c, x);
    if (c->is_up)
        flush(c);
}

/* The connection that is up and has least to do, or NULL. */
static struct conn *
pick(struct ag_db *db)
{
    struct conn *best = NULL;

    for (int i = 0; i < db->n_conns; i++) {
        struct conn *c = &db->conns[i];

        if (c->is_up && c->inflight.n < INFLIGHT_MAX
            && (best == NULL || c->inflight.n < best->inflight.n))
            best = c;
    }
    return best;
}

static void
pump(struct ag_db *db)
{
    bool is_touched[CONNS_MAX] = {false};
    struct conn *c;

    while (db->waiting.head != NULL && (c = pick(db)) != NULL) {
        conn_send(c, queue_pop(&db->waiting));
        is_touched[c - db->conns] = true;
    }
    for (int i = 0; i < db->n_conns; i++)
        if (is_touched[i] && db->conns[i].is_up)
            flush(&db->conns[i]);
}

/* ---- timeouts ---------------------------------------------------------- */

static void
tick(struct ag_timer *timer)
{
    struct ag_db *db =
        (struct ag_db *)((char *)timer - offsetof(struct ag_db, tick));
    int64_t oldest = ag_mono_ms() - db->timeout_ms;

    while (db->waiting.head != NULL && db->waiting.head->since_ms < oldest)
        query_fail(db, queue_pop(&db->waiting), AG_ERR_UNAVAILABLE,
                   "the database cannot be reached");
    for (int i = 0; i < db->n_conns; i++) {
        struct conn *c = &db->conns[i];

        if (c->is_up && c->inflight.head != NULL
            && c->inflight.head->since_ms < oldest)
            conn_lost(c, "a query took too long");
    }
    ag_timer_start(db->loop, &db->tick, TICK_MS);
}

/* ---- public ------------------------------------------------------------ */

struct ag_db *
ag_db_new(struct ag_loop *loop, const char *conninfo, int n_conns,
          int64_t timeout_ms, struct ag_err *err)
{
    struct ag_db *db;

    if (n_conns < 1 || n_conns > CONNS_MAX) {
        ag_err_set(err, AG_ERR_INVALID, "%d connections: must be 1 to %d",
                   n_conns, CONNS_MAX);
        return NULL;
    }
    db = ag_xcalloc(1, sizeof(*db));
    db->loop = loop;
    db->conninfo = ag_str_dup(ag_str(conninfo));
    db->timeout_ms = timeout_ms;
    db->n_conns = n_conns;
    db->tick.fn = tick;
    db->fail_soon.fn = run_failed;
    for (int i = 0; i < n_conns; i++) {
        db->conns[i].db = db;
        db->conns[i].retry.fn = conn_retry;
        conn_start(&db->conns[i]);
    }
    ag_timer_start(loop, &db->tick, TICK_MS);
    return db;
}

void
ag_db_free(struct ag_db *db)
{
    struct query *x;

    if (db == NULL)
        return;
    db->is_closing = true;
    ag_timer_stop(db->loop, &db->tick);
    for (int i = 0; i < db->n_conns; i++) {
        ag_timer_stop(db->loop, &db->conns[i].retry);
        if (db->conns[i].pg != NULL)
            conn_lost(&db->conns[i], "closing");
    }
    while ((x = queue_pop(&db->waiting)) != NULL)
        query_fail(db, x, AG_ERR_UNAVAILABLE, "the service is stopping");
    ag_timer_stop(db->loop, &db->fail_soon);
    run_failed(&db->fail_soon);
    free(db->conninfo);
    free(db);
}

/* One block for all values, each followed by NUL as libpq's text wants it. */
static void
copy_params(struct query *x, const struct ag_db_param *params, int n)
{
    size_t total = 0, at = 0;

    for (int i = 0; i < n; i++)
        total += params[i].v.n + sizeof(params[i].text) + 1;
    x->param_bytes = ag_xcalloc(total + 1, 1);
    x->n_param_bytes = total;
    for (int i = 0; i < n; i++) {
        const struct ag_db_param *p = &params[i];
        ag_str_t v = p->text[0] != '\0' ? ag_str(p->text) : p->v;

        x->params[i] = *p;
        if (v.n > 0)
            memcpy(x->param_bytes + at, v.p, v.n);
        x->params[i].v = ag_str_n(x->param_bytes + at, v.n);
        at += v.n + 1;
    }
    x->n_params = n;
}

void
ag_db_query(struct ag_db *db, ag_str_t tenant, const char *sql,
            const struct ag_db_param *params, int n_params, ag_db_done *done,
            void *arg)
{
    struct query *x = ag_xcalloc(1, sizeof(*x));

    ag_assert(n_params <= PARAMS_MAX);
    x->tenant = ag_str_dup(tenant);
    x->sql = sql;
    x->done = done;
    x->arg = arg;
    x->since_ms = ag_mono_ms();
    x->preparing = -1;
    copy_params(x, params, n_params);
    if (db->is_closing) {
        query_fail(db, x, AG_ERR_UNAVAILABLE, "the service is stopping");
        return;
    }
    if (db->waiting.n >= WAITING_MAX) {
        query_fail(db, x, AG_ERR_UNAVAILABLE, "the database is overloaded");
        return;
    }
    queue_push(&db->waiting, x);
    pump(db);
}

void
ag_db_listen(struct ag_db *db, const char *sql, ag_db_notify *fn, void *arg)
{
    db->listen_sql = sql;
    db->notify = fn;
    db->notify_arg = arg;
    listen_begin(db);
}

bool
ag_db_is_up(const struct ag_db *db)
{
    for (int i = 0; i < db->n_conns; i++)
        if (db->conns[i].is_up)
            return true;
    return false;
}
