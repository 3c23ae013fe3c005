/*
 * The pool keeps sandboxes ready, between `pool_min` and `pool_max` of them as
 * demand has it, and makes one more for each claim that waits. None is made
 * when the machine's memory runs out. A sandbox is used by one session and
 * never comes back.
 */
#include "sandbox_svc/sandbox_pool.h"

#include "sandbox_svc/sandbox_metrics.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/id.h"
#include "lib/log.h"
#include "sandbox_svc/sandbox_ca.h"
#include "sandbox_svc/sandbox_demand.h"
#include "sandbox_svc/sandbox_link.h"

#define RETRY_MS 1000
/* How often there may be more than are wanted, and how many of them go then. */
#define SHRINK_MS 1000
#define SHRINK_COUNT 8
/* Building takes the processor for milliseconds: what was just claimed runs
 * its first command before, unless more are claimed than are ready. */
#define REFILL_MS 60

/* Built at a time: they wait for the kernel mostly, but not only. */
#define MAKING_MAX 8

struct waiter {
    struct waiter *next;
    sandbox_pool_done *done;
    void *arg;
};

struct sandbox_pool {
    struct sandbox_svc *svc;
    struct sandbox_box *ready;
    int n_ready, n_making, n_waiters;
    struct waiter *waiters, **waiters_end;
    struct ag_timer retry, shrink;
    struct sandbox_demand demand;
};

static void fill(struct sandbox_pool *pool);

static void
ignore_reply(void *arg, const struct launcher_reply *reply, const int *fds,
             const struct ag_err *err)
{
    (void)arg;
    (void)reply;
    (void)fds;
    if (err != NULL && err->kind != AG_ERR_UNAVAILABLE
        && err->kind != AG_ERR_NOT_FOUND)
        ag_log(AG_WARN, "sandbox.destroy_failed", AG_E(err));
}

void
sandbox_pool_discard(struct sandbox_pool *pool, struct sandbox_box *box)
{
    struct launcher_request req = {.type = LAUNCHER_DESTROY};
    struct ag_err err = AG_ERR_INIT;

    memcpy(req.sandbox_id, box->id, sizeof(req.sandbox_id));
    /* Without a launcher there is nothing left to destroy. */
    (void)sandbox_link_send(pool->svc->link, &req, ignore_reply, NULL, &err);
    sandbox_box_free(box);
}

/* ---- claims ---------------------------------------------------------- */

static struct waiter *
take_waiter(struct sandbox_pool *pool)
{
    struct waiter *w = pool->waiters;

    if (w == NULL)
        return NULL;
    pool->waiters = w->next;
    if (pool->waiters == NULL)
        pool->waiters_end = &pool->waiters;
    pool->n_waiters--;
    return w;
}

static void
fail_waiter(struct sandbox_pool *pool, const struct ag_err *err)
{
    struct waiter *w = take_waiter(pool);

    if (w == NULL)
        return;
    w->done(w->arg, NULL, err);
    ag_freep(&w);
}

static void
on_ready_dead(void *arg)
{
    /* Found and thrown away by the next claim or tick: the box does not know
     * its list. */
    struct sandbox_pool *pool = ((struct sandbox_box *)arg)->pool;

    ag_timer_start(pool->svc->loop, &pool->retry, 0);
}

static void
on_ready_event(void *arg, const struct init_head *event)
{
    struct sandbox_box *box = arg;

    if (!sandbox_shell_died(box, event) && event->type == INIT_PUT_DONE
        && event->run_id == box->ca_put_id && event->a == 0)
        box->ca_version = box->ca_putting;
}

/* What cannot be put or started now is missed when it is used, and done
 * then. */
static void
complete(struct sandbox_pool *pool, struct sandbox_box *box)
{
    struct ag_err err = AG_ERR_INIT;

    (void)sandbox_shell_start(box, ag_str(NULL), 0, &err);
    if (pool->svc->ca_pem == NULL)
        return;
    box->ca_putting = pool->svc->ca_version;
    (void)sandbox_ca_put(pool->svc, box, &err);
}

static void
keep(struct sandbox_pool *pool, struct sandbox_box *box)
{
    box->on_dead = on_ready_dead;
    box->on_event = on_ready_event;
    box->arg = box;
    box->pool = pool;
    complete(pool, box);
    box->next = pool->ready;
    pool->ready = box;
    pool->n_ready++;
    if (pool->n_ready > pool->svc->conf.pool_min && pool->shrink.slot == 0)
        ag_timer_start(pool->svc->loop, &pool->shrink, SHRINK_MS);
}

static void
hand_over(struct sandbox_box *box, sandbox_pool_done *done, void *arg)
{
    box->on_dead = NULL;
    box->on_event = NULL;
    box->arg = NULL;
    box->next = NULL;
    done(arg, box, NULL);
}

static void
drop_dead(struct sandbox_pool *pool)
{
    struct sandbox_box **at = &pool->ready;

    while (*at != NULL) {
        struct sandbox_box *box = *at;
        if (!box->is_dead) {
            at = &box->next;
            continue;
        }
        *at = box->next;
        pool->n_ready--;
        ag_log(AG_WARN, "pool.sandbox_died", AG_S("sandbox", box->id));
        sandbox_pool_discard(pool, box);
    }
}

void
sandbox_pool_claim(struct sandbox_pool *pool, sandbox_pool_done *done,
                   void *arg)
{
    drop_dead(pool);
    sandbox_demand_claim(&pool->demand, ag_mono_ms());
    if (!sandbox_link_is_up(pool->svc->link)) {
        struct ag_err err = AG_ERR_INIT;
        ag_err_set(&err, AG_ERR_UNAVAILABLE,
                   "the sandbox launcher cannot be reached");
        done(arg, NULL, &err);
        return;
    }
    struct sandbox_box *box = pool->ready;
    ag_metrics_add(pool->svc->metrics, SANDBOX_METRIC_CLAIMS,
                   box != NULL ? "warm" : "cold", NULL, 1);
    if (box != NULL) {
        pool->ready = box->next;
        pool->n_ready--;
        if (pool->retry.slot == 0 || pool->ready == NULL)
            ag_timer_start(pool->svc->loop, &pool->retry,
                           pool->ready == NULL ? REFILL_MS / 6 : REFILL_MS);
        hand_over(box, done, arg);
    } else {
        struct waiter *w = ag_xcalloc(1, sizeof(*w));
        *w = (struct waiter){NULL, done, arg};
        *pool->waiters_end = w;
        pool->waiters_end = &w->next;
        pool->n_waiters++;
        fill(pool);
    }
}

/* ---- filling --------------------------------------------------------- */

static void
on_made(void *arg, const struct launcher_reply *reply, const int *fds,
        const struct ag_err *failure)
{
    struct sandbox_pool *pool = arg;
    struct ag_err err = AG_ERR_INIT;
    struct sandbox_box *box = NULL;

    pool->n_making--;
    if (failure == NULL)
        box = sandbox_box_new(pool->svc->loop, reply, fds, &err);
    else
        err = *failure;
    if (box == NULL) {
        ag_log(AG_WARN, "sandbox.create_failed", AG_E(&err));
        fail_waiter(pool, &err);
        if (sandbox_link_is_up(pool->svc->link))
            ag_timer_start(pool->svc->loop, &pool->retry, RETRY_MS);
        return;
    }
    struct waiter *w = take_waiter(pool);
    if (w == NULL) {
        keep(pool, box);
    } else {
        hand_over(box, w->done, w->arg);
        ag_freep(&w);
    }
    if (pool->n_waiters > pool->n_making)
        fill(pool);
    else if (pool->retry.slot == 0)
        ag_timer_start(pool->svc->loop, &pool->retry, REFILL_MS);
}

static int
make_one(struct sandbox_pool *pool)
{
    struct launcher_request req = {.type = LAUNCHER_CREATE};
    struct ag_err err = AG_ERR_INIT;

    ag_id_new("sbx", req.sandbox_id);
    snprintf(req.image, sizeof(req.image), "%s", pool->svc->conf.image);
    req.limits = pool->svc->limits.box;
    if (sandbox_link_send(pool->svc->link, &req, on_made, pool, &err) < 0)
        return -1;
    pool->n_making++;
    return 0;
}

static int64_t
wanted(struct sandbox_pool *pool)
{
    const struct sandbox_conf *c = &pool->svc->conf;

    return sandbox_demand_want(&pool->demand, ag_mono_ms(), c->pool_min,
                               c->pool_max);
}

/* Whoever waits is told; what is only kept ready waits for better times. */
static bool
has_memory(struct sandbox_pool *pool)
{
    int64_t left = sandbox_limits_memory_left();
    struct ag_err err = AG_ERR_INIT;

    if (left < 0 || left >= pool->svc->conf.memory_reserve_mib << 20)
        return true;
    ag_err_set(&err, AG_ERR_LIMIT,
               "the machine is full: %lld MiB of memory are left, and "
               "memory_reserve_mib keeps %lld",
               (long long)left >> 20,
               (long long)pool->svc->conf.memory_reserve_mib);
    while (pool->waiters != NULL)
        fail_waiter(pool, &err);
    ag_timer_start(pool->svc->loop, &pool->retry, RETRY_MS);
    return false;
}

static void
fill(struct sandbox_pool *pool)
{
    int64_t want = wanted(pool) + pool->n_waiters;

    if (pool->svc->is_stopping || !sandbox_link_is_up(pool->svc->link)
        || pool->n_ready + pool->n_making >= want || !has_memory(pool))
        return;
    while (pool->n_ready + pool->n_making < want && pool->n_making < MAKING_MAX)
        if (make_one(pool) < 0)
            return;
}

static void
on_retry(struct ag_timer *timer)
{
    struct sandbox_pool *pool =
        (struct sandbox_pool *)((char *)timer
                                - offsetof(struct sandbox_pool, retry));

    drop_dead(pool);
    fill(pool);
}

/* What was ready for a demand that has passed. */
static void
on_shrink(struct ag_timer *timer)
{
    struct sandbox_pool *pool =
        (struct sandbox_pool *)((char *)timer
                                - offsetof(struct sandbox_pool, shrink));
    int64_t want = wanted(pool);

    for (int i = 0; i < SHRINK_COUNT && pool->n_ready > want; i++) {
        struct sandbox_box *box = pool->ready;
        pool->ready = box->next;
        pool->n_ready--;
        sandbox_pool_discard(pool, box);
    }
    if (pool->n_ready > pool->svc->conf.pool_min)
        ag_timer_start(pool->svc->loop, timer, SHRINK_MS);
}

void
sandbox_pool_up(struct sandbox_pool *pool)
{
    fill(pool);
}

void
sandbox_pool_down(struct sandbox_pool *pool)
{
    struct ag_err err = AG_ERR_INIT;

    ag_timer_stop(pool->svc->loop, &pool->retry);
    ag_timer_stop(pool->svc->loop, &pool->shrink);
    while (pool->ready != NULL) {
        struct sandbox_box *box = pool->ready;
        pool->ready = box->next;
        sandbox_box_free(box);
    }
    pool->n_ready = 0;
    ag_err_set(&err, AG_ERR_UNAVAILABLE, "the sandbox launcher went away");
    while (pool->waiters != NULL)
        fail_waiter(pool, &err);
}

/* ---- life ------------------------------------------------------------ */

struct sandbox_pool *
sandbox_pool_new(struct sandbox_svc *svc)
{
    struct sandbox_pool *pool = ag_xcalloc(1, sizeof(*pool));

    pool->svc = svc;
    pool->waiters_end = &pool->waiters;
    pool->retry.fn = on_retry;
    pool->shrink.fn = on_shrink;
    return pool;
}

void
sandbox_pool_free(struct sandbox_pool *pool)
{
    if (pool == NULL)
        return;
    sandbox_pool_down(pool);
    ag_freep(&pool);
}

int
sandbox_pool_ready(const struct sandbox_pool *pool)
{
    return pool->n_ready;
}
