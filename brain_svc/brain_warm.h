/*
 * Sessions that may ask a model soon: the last `workload_cache` that were made
 * here or had a run here. Their workloads are open, and while a message is
 * being stored the vault hears that one will be used. A stub that is kept gives
 * nobody more than it did: the vault and egress look at the session each time.
 * On the loop.
 */
#ifndef BRAIN_WARM_H
#define BRAIN_WARM_H

#include "brain_svc/brain_workload.h"

struct brain_warm;

struct brain_warm *brain_warm_new(struct brain *brain);
void brain_warm_free(struct brain_warm *warm);

/* The session was made, and its driver asks a model: its workload is opened. */
void
brain_warm_expect(struct brain_warm *warm, ag_str_t tenant, ag_str_t session);
/* An event for it is being stored. What another tenant says of it, or of one
 * that is not known, does nothing. */
void brain_warm_use(struct brain_warm *warm, ag_str_t tenant, ag_str_t session);
/* Its run begins. The workload is the caller's. */
struct brain_workload *brain_warm_take(struct brain *brain, ag_str_t session);
/* Its run is over; `w` is taken over. NULL is fine. */
void brain_warm_give(struct brain_warm *warm, ag_str_t tenant, ag_str_t session,
                     struct brain_workload *w);
/* The session has ended. */
void brain_warm_forget(struct brain_warm *warm, ag_str_t session);

#endif
