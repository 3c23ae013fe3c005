/* lib/loop.c and lib/workq.c: order, timers, jobs. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/workq.h"

struct seen {
    struct ag_loop *loop;
    struct ag_task task[100];
    struct ag_timer timer[50];
    int order[100], n;
};

static struct seen seen;

static void
note_task(struct ag_task *t)
{
    seen.order[seen.n++] = (int)(t - seen.task);
    if (seen.n == 100)
        ag_loop_stop(seen.loop);
}

static void *
poster(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++)
        ag_loop_post(seen.loop, &seen.task[i]);
    return NULL;
}

static void
tasks_of_a_thread_run_in_order(void **state)
{
    pthread_t thread;

    (void)state;
    seen.n = 0;
    for (int i = 0; i < 100; i++)
        seen.task[i].fn = note_task;
    assert_int_equal(pthread_create(&thread, NULL, poster, NULL), 0);
    ag_loop_run(seen.loop);
    (void)pthread_join(thread, NULL);
    for (int i = 0; i < 100; i++)
        assert_int_equal(seen.order[i], i);
}

static void *
idle_poster(void *arg)
{
    (void)arg;
    for (int i = 0; i < 99; i++)
        ag_loop_post_idle(seen.loop, &seen.task[i]);
    ag_loop_post(seen.loop, &seen.task[99]);
    return NULL;
}

static void
what_nobody_waits_for_runs_with_the_next_task(void **state)
{
    pthread_t thread;

    (void)state;
    seen.n = 0;
    assert_int_equal(pthread_create(&thread, NULL, idle_poster, NULL), 0);
    ag_loop_run(seen.loop);
    (void)pthread_join(thread, NULL);
    for (int i = 0; i < 100; i++)
        assert_int_equal(seen.order[i], i);
}

static void *
only_idle_poster(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++)
        ag_loop_post_idle(seen.loop, &seen.task[i]);
    return NULL;
}

/* The last test: the loop stays in a hurry. */
static void
a_loop_in_a_hurry_waits_for_nothing(void **state)
{
    pthread_t thread;

    (void)state;
    seen.n = 0;
    ag_loop_hurry(seen.loop);
    assert_int_equal(pthread_create(&thread, NULL, only_idle_poster, NULL), 0);
    ag_loop_run(seen.loop);
    (void)pthread_join(thread, NULL);
    assert_int_equal(seen.n, 100);
}

static void
note_timer(struct ag_timer *t)
{
    seen.order[seen.n++] = (int)(t - seen.timer);
    if (seen.n == 25)
        ag_loop_stop(seen.loop);
}

static void
timers_fire_by_time_and_stopped_ones_do_not(void **state)
{
    (void)state;
    seen.n = 0;
    /* 7 is coprime to 50: the order of arming is not that of firing. */
    for (int i = 0; i < 50; i++) {
        int k = i * 7 % 50;

        seen.timer[k].fn = note_timer;
        ag_timer_start(seen.loop, &seen.timer[k], k);
    }
    for (int i = 1; i < 50; i += 2)
        ag_timer_stop(seen.loop, &seen.timer[i]);
    ag_loop_run(seen.loop);
    for (int i = 0; i < 25; i++)
        assert_int_equal(seen.order[i], 2 * i);
}

struct square {
    struct ag_job job;
    int in, out;
};

static void
work(struct ag_job *job)
{
    struct square *s = (struct square *)job;

    s->out = s->in * s->in;
}

static void
done(struct ag_job *job)
{
    struct square *s = (struct square *)job;

    assert_int_equal(s->out, s->in * s->in);
    if (++seen.n == 64)
        ag_loop_stop(seen.loop);
}

static void
jobs_come_back_through_the_loop(void **state)
{
    static struct square squares[64];
    struct ag_err err;
    struct ag_workq *q = ag_workq_new(seen.loop, 2, 64, &err);

    (void)state;
    seen.n = 0;
    for (int i = 0; i < 64; i++) {
        squares[i] =
            (struct square){.job = {.work = work, .done = done}, .in = i};
        assert_int_equal(ag_workq_submit(q, &squares[i].job, &err), 0);
    }
    ag_loop_run(seen.loop);
    ag_workq_free(q);
}

static void
block(struct ag_job *job)
{
    char c;

    assert_int_equal(read(((struct square *)job)->in, &c, 1), 1);
}

static void
full_queue_refuses_by_name(void **state)
{
    static struct square held, waiting, refused;
    struct ag_err err;
    struct ag_workq *q = ag_workq_new(seen.loop, 1, 1, &err);
    int fd[2], rc;

    (void)state;
    seen.n = 62; /* two more end the loop */
    assert_int_equal(pipe(fd), 0);
    held = (struct square){.job = {.work = block, .done = done}, .in = fd[0]};
    held.out = fd[0] * fd[0];
    waiting = (struct square){.job = {.work = work, .done = done}, .in = 3};
    refused = waiting;
    assert_int_equal(ag_workq_submit(q, &held.job, &err), 0);
    do /* until the worker has taken the first */
        rc = ag_workq_submit(q, &waiting.job, &err);
    while (rc < 0);
    assert_int_equal(ag_workq_submit(q, &refused.job, &err), -1);
    assert_int_equal(err.kind, AG_ERR_LIMIT);
    assert_int_equal(write(fd[1], "x", 1), 1);
    ag_loop_run(seen.loop);
    ag_workq_free(q);
    (void)close(fd[0]);
    (void)close(fd[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_of_a_thread_run_in_order),
        cmocka_unit_test(what_nobody_waits_for_runs_with_the_next_task),
        cmocka_unit_test(timers_fire_by_time_and_stopped_ones_do_not),
        cmocka_unit_test(jobs_come_back_through_the_loop),
        cmocka_unit_test(full_queue_refuses_by_name),
        cmocka_unit_test(a_loop_in_a_hurry_waits_for_nothing),
    };
    struct ag_err err;
    int rc;

    seen.loop = ag_loop_new(&err);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    ag_loop_free(seen.loop);
    return rc;
}
