/*
 * Group commit: appends of several sessions in one transaction. An append is
 * sent at once while a connection has none under way; what comes meanwhile
 * waits, and goes together. On the loop.
 */
#ifndef BRAIN_GROUP_H
#define BRAIN_GROUP_H

#include "brain_svc/brain_store.h"

struct brain_group;

struct brain_group *brain_group_new(struct brain *brain);
/* Behind ag_db_free: what waits fails. */
void brain_group_free(struct brain_group *group);

/* `first` is the seq of the first event. */
typedef void brain_grouped(void *arg, int64_t first, const struct ag_err *err);

/*
 * Append (BRAIN_WRITE_APPEND) as brain_store_append does. What `append` points
 * to lives until `done`. One that fails for a reason of its own fails alone.
 */
void
brain_group_append(struct brain_group *group, const struct brain_append *append,
                   brain_grouped *done, void *arg);

#endif
