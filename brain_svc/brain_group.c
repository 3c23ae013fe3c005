/*
 * Group commit. At most as many batches are under way as there are connections:
 * so while one commits, the next one gathers.
 */
#include "brain_svc/brain_group.h"

#include <stdlib.h>

#include "brain_svc/brain_run.h"

#define BATCH_APPENDS 64
#define BATCH_EVENTS 512

struct waiting {
    struct waiting *next;
    struct brain_append append;
    brain_grouped *done;
    void *arg;
};

struct batch {
    struct brain_group *group;
    struct waiting *of[BATCH_APPENDS]; /* by session */
    size_t n;
};

struct brain_group {
    struct brain *brain;
    struct waiting *head, **tail;
    int64_t n_under_way;
};

static void pump(struct brain_group *group);

static void
finish(struct waiting *w, int64_t first, const struct ag_err *err)
{
    brain_grouped *done = w->done;
    void *arg = w->arg;

    free(w);
    done(arg, first, err);
}

static void
stored_alone(void *arg, const struct ag_db_result *res,
             const struct ag_err *err)
{
    finish(arg, err == NULL ? ag_db_get_int(res, 0, 0) : 0, err);
}

static void
stored(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct batch *b = arg;
    struct brain_group *group = b->group;
    /* Of an answer that was lost nobody knows: whoever waits asks again. */
    bool is_shared = err == NULL || err->kind == AG_ERR_UNAVAILABLE;

    /* What these go on to write goes together, too. */
    for (size_t i = 0; i < b->n; i++)
        if (is_shared || b->n == 1)
            finish(b->of[i], err == NULL ? ag_db_get_int(res, (int)i, 0) : 0,
                   err);
        else
            brain_store_append(group->brain, &b->of[i]->append, stored_alone,
                               b->of[i]);
    free(b);
    group->n_under_way--;
    pump(group);
}

static int
by_session(const void *a, const void *b)
{
    const struct waiting *const *x = a, *const *y = b;
    ag_str_t s = (*x)->append.session, t = (*y)->append.session;
    int order = memcmp(s.p, t.p, s.n < t.n ? s.n : t.n);

    return order != 0 ? order : (s.n > t.n) - (s.n < t.n);
}

static struct batch *
gather(struct brain_group *group)
{
    struct batch *b = ag_xcalloc(1, sizeof(*b));
    size_t n_events = 0;

    b->group = group;
    while (group->head != NULL && b->n < BATCH_APPENDS
           && (b->n == 0 || n_events + group->head->append.n <= BATCH_EVENTS)) {
        n_events += group->head->append.n;
        b->of[b->n++] = group->head;
        group->head = group->head->next;
    }
    if (group->head == NULL)
        group->tail = &group->head;
    qsort(b->of, b->n, sizeof(b->of[0]), by_session);
    return b;
}

static void
pump(struct brain_group *group)
{
    struct brain_append appends[BATCH_APPENDS];

    /* Nobody goes on with what a brain that stops would write. */
    while (group->head != NULL && brain_runs_may_claim(group->brain)
           && group->n_under_way < group->brain->conf.db_connections) {
        struct batch *b = gather(group);

        for (size_t i = 0; i < b->n; i++)
            appends[i] = b->of[i]->append;
        group->n_under_way++;
        if (b->n == 1)
            brain_store_append(group->brain, &appends[0], stored, b);
        else
            brain_store_append_all(group->brain, appends, b->n, stored, b);
    }
}

void
brain_group_append(struct brain_group *group, const struct brain_append *append,
                   brain_grouped *done, void *arg)
{
    struct waiting *w = ag_xcalloc(1, sizeof(*w));

    ag_assert(append->how == BRAIN_WRITE_APPEND);
    w->append = *append;
    w->done = done;
    w->arg = arg;
    *group->tail = w;
    group->tail = &w->next;
    pump(group);
}

struct brain_group *
brain_group_new(struct brain *brain)
{
    struct brain_group *group = ag_xcalloc(1, sizeof(*group));

    group->brain = brain;
    group->tail = &group->head;
    return group;
}

void
brain_group_free(struct brain_group *group)
{
    struct ag_err err;

    if (group == NULL)
        return;
    ag_err_set(&err, AG_ERR_UNAVAILABLE, "the service is stopping");
    while (group->head != NULL) {
        struct waiting *w = group->head;

        group->head = w->next;
        finish(w, 0, &err);
    }
    free(group);
}
