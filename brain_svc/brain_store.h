/*
 * Writing events: one SQL function a kind of write (sql/0001_brain.sql), each
 * one round trip and one transaction.
 */
#ifndef BRAIN_STORE_H
#define BRAIN_STORE_H

#include "brain_svc/brain.h"

enum brain_write {
    BRAIN_WRITE_APPEND, /* by the run */
    BRAIN_WRITE_BEGIN,  /* by the run, and the session is running */
    BRAIN_WRITE_END,    /* by the run, and the session is idle: only when no
                           user event has a seq above `seen` */
};

struct brain_append {
    enum brain_write how;
    ag_str_t tenant, session;
    int64_t fence, seen;
    json_t *const *events; /* all with distinct ids */
    /* For each the last seq that the run had heard of when it decided on it;
     * NULL for events from outside. */
    const int64_t *heard;
    size_t n;
};

/*
 * The result is one cell: the first seq; 0 when BRAIN_WRITE_END wrote nothing.
 * Repeating the same events is safe: EXISTS, then, and brain_store_find has the
 * seq that they got. Other kinds of error: NOT_FOUND no session,
 * PRECONDITION it has ended, CONFLICT the lease was taken over, UNAVAILABLE
 * perhaps written: repeat.
 */
void brain_store_append(struct brain *brain, const struct brain_append *append,
                        ag_db_done *done, void *arg);

/* Columns of what brain_store_read_run and brain_store_post give. */
enum brain_run_column {
    BRAIN_COL_HARNESS,
    BRAIN_COL_MODEL,
    BRAIN_COL_SYSTEM,
    BRAIN_COL_MAX_STEPS,
    BRAIN_COL_MAX_TURN_SECONDS,
    BRAIN_COL_ENVIRONMENT,
    BRAIN_COL_TOOLS,
    BRAIN_COL_BASE,
    BRAIN_COL_IS_STOPPED,
    BRAIN_COL_BUDGET,
    BRAIN_COL_COST,
    BRAIN_COL_TOKENS,
    BRAIN_COL_STEPS,
    BRAIN_COL_ACTIVE_MS,
    BRAIN_COL_SANDBOX_MS,
    BRAIN_COL_UNPRICED,
    BRAIN_COL_ASKED,
    BRAIN_COL_SEQ,
    BRAIN_COL_BODY,
};
#define BRAIN_READ_ROWS 1000 /* events at once */

/*
 * Events by a caller (`fence` and `seen` are not looked at); the session must
 * be open. A run that nobody holds is claimed with `may_claim`. The rows begin
 * with the first seq, the fencing number (0: not claimed), and when the turn
 * began; behind these BRAIN_POST_COLUMNS stands what a claimed run begins with.
 */
#define BRAIN_POST_COLUMNS 3
void brain_store_post(struct brain *brain, const struct brain_append *append,
                      bool may_claim, ag_db_done *done, void *arg);

/* What a run begins with: a row of all but SEQ and BODY, then rows of these two
 * alone; no row without a session. */
void
brain_store_read_run(struct brain *brain, ag_str_t tenant, ag_str_t session,
                     int limit, ag_db_done *done, void *arg);

/* Appends (BRAIN_WRITE_APPEND), sorted by session, in one transaction: a row
 * with the first seq of each, or none was written. */
void
brain_store_append_all(struct brain *brain, const struct brain_append *appends,
                       size_t n, ag_db_done *done, void *arg);

/* One row with the seq of this event of the session, or none. */
void brain_store_find(struct brain *brain, ag_str_t tenant, ag_str_t session,
                      ag_str_t id, ag_db_done *done, void *arg);

/* Rows (seq, body) of a session's events above `after`, in order. */
void brain_store_read(struct brain *brain, ag_str_t tenant, ag_str_t session,
                      int64_t after, int limit, ag_db_done *done, void *arg);
/* The same; once bodies have come to `page_bytes`, the next ones are NULL. */
void
brain_store_read_some(struct brain *brain, ag_str_t tenant, ag_str_t session,
                      int64_t after, int limit, ag_db_done *done, void *arg);
/* Of a query for events, (seq, body, octet_length(body::text) AS own), that is
 * in this order: the same with NULL for bodies behind that many bytes of them,
 * parameter `bytes`. The first one is there in any case. */
#define BRAIN_STORE_SOME(query, order, bytes)                             \
    "SELECT seq, CASE WHEN till - own < " bytes " THEN body END AS body " \
    "FROM (SELECT *, sum(own) OVER (ORDER BY seq " order ") AS till "     \
    "FROM (" query ") read) summed "

#endif
