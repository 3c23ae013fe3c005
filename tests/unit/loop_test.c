/* lib/loop.c and lib/workq.c: order, timers, jobs. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
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

/* What two threads post, and who ran it. */
enum { TURNS = 20000 };

static struct {
    struct ag_task task;
    struct ag_timer timer;
    struct ag_io io;
    pthread_t ran_on;
    bool is_inside, is_watched;
    int n, calls;
    atomic_bool is_free; /* to be posted again */
} turns;

static void
take_turn(struct ag_task *task)
{
    (void)task;
    assert_false(turns.is_inside);
    turns.is_inside = true;
    turns.ran_on = pthread_self();
    turns.n++;
    turns.is_inside = false;
    atomic_store(&turns.is_free, true);
}

static void
post_and_wait(void (*fn)(struct ag_task *task))
{
    atomic_store(&turns.is_free, false);
    turns.task.fn = fn;
    ag_loop_post(seen.loop, &turns.task);
    while (!atomic_load(&turns.is_free))
        (void)sched_yield();
}

static void *
post_until_run_here(void *arg)
{
    bool *is_here = arg;

    for (int i = 0; i < TURNS && !*is_here; i++) {
        post_and_wait(take_turn);
        *is_here = pthread_equal(turns.ran_on, pthread_self()) != 0;
    }
    ag_loop_stop(seen.loop);
    return NULL;
}

static void
a_task_runs_where_it_is_posted_when_the_turn_is_free(void **state)
{
    bool is_here = false;
    pthread_t thread;

    (void)state;
    assert_int_equal(
        pthread_create(&thread, NULL, post_until_run_here, &is_here), 0);
    ag_loop_run(seen.loop);
    (void)pthread_join(thread, NULL);
    assert_true(is_here);
}

static void
stop_by_timer(struct ag_timer *timer)
{
    (void)timer;
    ag_loop_stop(seen.loop);
}

static void
set_timer(struct ag_task *task)
{
    take_turn(task);
    turns.timer.fn = stop_by_timer;
    ag_timer_start(seen.loop, &turns.timer, 1);
}

static void *
post_timer(void *arg)
{
    (void)arg;
    post_and_wait(set_timer);
    return NULL;
}

/* That it ends is the proof. */
static void
a_timer_set_by_another_thread_wakes_the_loop(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, post_timer, NULL), 0);
    ag_loop_run(seen.loop);
    (void)pthread_join(thread, NULL);
}

static void
start_again(struct ag_timer *timer)
{
    ag_timer_start(seen.loop, timer, 0);
}

static void
stop_by_descriptor(struct ag_io *io, uint32_t events)
{
    (void)io;
    (void)events;
    ag_loop_stop(seen.loop);
}

/* That it ends is the proof. */
static void
a_timer_that_starts_itself_at_once_keeps_out_no_descriptor(void **state)
{
    struct ag_timer timer = {.fn = start_again};
    struct ag_io io = {.fn = stop_by_descriptor};
    struct ag_err err;
    int fd[2];

    (void)state;
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "x", 1), 1);
    io.fd = fd[0];
    assert_int_equal(ag_io_start(seen.loop, &io, EPOLLIN, &err), 0);
    ag_timer_start(seen.loop, &timer, 0);
    ag_loop_run(seen.loop);
    ag_timer_stop(seen.loop, &timer);
    ag_io_stop(seen.loop, &io);
    (void)close(fd[0]);
    (void)close(fd[1]);
}

static void
ready(struct ag_io *io, uint32_t events)
{
    (void)io;
    (void)events;
    assert_true(turns.is_watched);
    assert_false(turns.is_inside);
    turns.calls++;
}

static void
watch_or_not(struct ag_task *task)
{
    struct ag_err err;

    if (turns.is_watched)
        ag_io_stop(seen.loop, &turns.io);
    else
        assert_int_equal(ag_io_start(seen.loop, &turns.io, EPOLLIN, &err), 0);
    turns.is_watched = !turns.is_watched;
    take_turn(task);
}

static void *
watch_and_stop(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++)
        post_and_wait(watch_or_not);
    ag_loop_stop(seen.loop);
    return NULL;
}

static void
what_another_thread_stops_is_not_called_again(void **state)
{
    pthread_t thread;
    int fd[2];

    (void)state;
    turns.n = 0;
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "x", 1), 1);
    turns.io = (struct ag_io){ready, fd[0]};
    assert_int_equal(pthread_create(&thread, NULL, watch_and_stop, NULL), 0);
    ag_loop_run(seen.loop);
    (void)pthread_join(thread, NULL);
    assert_int_equal(turns.n, TURNS);
    assert_true(turns.calls > 0);
    (void)close(fd[0]);
    (void)close(fd[1]);
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
        cmocka_unit_test(a_task_runs_where_it_is_posted_when_the_turn_is_free),
        cmocka_unit_test(a_timer_set_by_another_thread_wakes_the_loop),
        cmocka_unit_test(
            a_timer_that_starts_itself_at_once_keeps_out_no_descriptor),
        cmocka_unit_test(what_another_thread_stops_is_not_called_again),
        cmocka_unit_test(timers_fire_by_time_and_stopped_ones_do_not),
        cmocka_unit_test(jobs_come_back_through_the_loop),
        cmocka_unit_test(full_queue_refuses_by_name),
    };
    struct ag_err err;
    int rc;

    seen.loop = ag_loop_new(&err);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    ag_loop_free(seen.loop);
    return rc;
}
