/* Workloads between turns. */
#include "brain_svc/brain_warm.h"

#include <stdlib.h>
#include <uthash.h>

#include "lib/id.h"

struct entry {
    UT_hash_handle hh; /* the one that was touched last is the last */
    char session[AG_ID_TEXT];
    char *tenant;
    struct brain_workload *workload;
};

struct brain_warm {
    struct brain *brain;
    struct entry *all;
};

static struct entry *
find(struct brain_warm *warm, ag_str_t session)
{
    struct entry *e;

    HASH_FIND(hh, warm->all, session.p, session.n, e);
    return e;
}

static void
entry_free(struct brain_warm *warm, struct entry *e)
{
    HASH_DEL(warm->all, e);
    brain_workload_free(e->workload);
    free(e->tenant);
    free(e);
}

void
brain_warm_forget(struct brain_warm *warm, ag_str_t session)
{
    struct entry *e = find(warm, session);

    if (e != NULL)
        entry_free(warm, e);
}

static void
add(struct brain_warm *warm, ag_str_t tenant, ag_str_t session,
    struct brain_workload *w)
{
    struct entry *e = ag_xcalloc(1, sizeof(*e));

    brain_warm_forget(warm, session);
    ag_assert(session.n < sizeof(e->session));
    memcpy(e->session, session.p, session.n);
    e->tenant = ag_str_dup(tenant);
    e->workload = w;
    HASH_ADD(hh, warm->all, session, session.n, e);
    while ((int64_t)HASH_COUNT(warm->all) > warm->brain->conf.workload_cache)
        entry_free(warm, warm->all); /* the oldest */
}

void
brain_warm_expect(struct brain_warm *warm, ag_str_t tenant, ag_str_t session)
{
    const struct brain_conf *conf = &warm->brain->conf;

    if (conf->model_base_url[0] != '\0' && conf->workload_cache > 0)
        add(warm, tenant, session, brain_workload_new(warm->brain, session));
}

void
brain_warm_use(struct brain_warm *warm, ag_str_t tenant, ag_str_t session)
{
    struct entry *e = find(warm, session);

    if (e != NULL && ag_str_is(tenant, e->tenant))
        brain_workload_warm(e->workload);
}

struct brain_workload *
brain_warm_take(struct brain *brain, ag_str_t session)
{
    struct entry *e = find(brain->warm, session);
    struct brain_workload *w;

    if (e == NULL)
        return brain_workload_new(brain, session);
    w = ag_take(&e->workload);
    entry_free(brain->warm, e);
    return w;
}

void
brain_warm_give(struct brain_warm *warm, ag_str_t tenant, ag_str_t session,
                struct brain_workload *w)
{
    if (w != NULL)
        add(warm, tenant, session, w);
}

struct brain_warm *
brain_warm_new(struct brain *brain)
{
    struct brain_warm *warm = ag_xcalloc(1, sizeof(*warm));

    warm->brain = brain;
    return warm;
}

void
brain_warm_free(struct brain_warm *warm)
{
    struct entry *e, *next;

    if (warm == NULL)
        return;
    HASH_ITER (hh, warm->all, e, next)
        entry_free(warm, e);
    free(warm);
}
