/*
 * A session's workload at the vault: the stub with which a run asks the model,
 * kept for its model calls and between its turns (brain_warm.h); the vault and
 * egress refuse the stub as soon as the session has ended or is frozen. On the
 * loop.
 */
#ifndef BRAIN_WORKLOAD_H
#define BRAIN_WORKLOAD_H

#include "brain_svc/brain.h"

struct brain_workload;

/* Begins to open it. */
struct brain_workload *
brain_workload_new(struct brain *brain, ag_str_t session);
/* Nobody is called any more. NULL is fine. */
void brain_workload_free(struct brain_workload *w);

/* Exactly one of them is not NULL; the stub lives for the callback, and is ""
 * where the model needs no key. */
typedef void
brain_workload_opened(void *arg, const char *stub, const struct ag_err *err);

/*
 * Call `fn` when the workload is open, later and never from inside. What could
 * not be opened is tried again. One waits at a time.
 */
void brain_workload_await(struct brain_workload *w, brain_workload_opened *fn,
                          void *arg);
/* `fn` is not called any more. */
void brain_workload_leave(struct brain_workload *w);

/* It will be used soon: the vault reads what it may use. */
void brain_workload_warm(struct brain_workload *w);

/* The stub was refused: it is asked for again. True when it was one that had
 * been used before, so that a new one may help. */
bool brain_workload_renew(struct brain_workload *w);

#endif
