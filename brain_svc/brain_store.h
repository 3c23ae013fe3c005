/*
 * Writing events: one SQL function a kind of write (sql/0001_brain.sql), each
 * one round trip and one transaction.
 */
#ifndef BRAIN_STORE_H
#define BRAIN_STORE_H

#include "brain_svc/brain.h"

enum brain_write {
    BRAIN_WRITE_POST,   /* by a caller: the session must be open */
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

/* One row with the seq of this event of the session, or none. */
void brain_store_find(struct brain *brain, ag_str_t tenant, ag_str_t session,
                      ag_str_t id, ag_db_done *done, void *arg);

/* Rows (seq, body) of a session's events above `after`, in order. */
void brain_store_read(struct brain *brain, ag_str_t tenant, ag_str_t session,
                      int64_t after, int limit, ag_db_done *done, void *arg);

#endif
