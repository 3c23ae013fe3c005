/*
 * A few threads for files and crypto. A job owns its input, touches nothing
 * else, and comes back through the loop.
 */
#ifndef LIB_WORKQ_H
#define LIB_WORKQ_H

#include "lib/loop.h"

struct ag_workq;

struct ag_job {
    struct ag_task task;              /* private */
    void (*work)(struct ag_job *job); /* on a worker thread */
    void (*done)(struct ag_job *job); /* on the loop; may free the job */
    struct ag_job *next;              /* private */
    struct ag_workq *q;               /* private */
};

/* `threads` workers; at most `limit` jobs waiting. */
struct ag_workq *ag_workq_new(struct ag_loop *loop, int threads, size_t limit,
                              struct ag_err *err);
/* Waits for running jobs; waiting ones still run. Their `done` does not. */
void ag_workq_free(struct ag_workq *q);

/* -1 with AG_ERR_LIMIT when `limit` jobs wait. */
int ag_workq_submit(struct ag_workq *q, struct ag_job *job, struct ag_err *err);

#endif
