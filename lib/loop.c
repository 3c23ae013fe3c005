/*
 * The event loop: epoll, a list of tasks, a binary heap of timers behind a
 * timerfd, a signalfd. Whoever holds the turn is the loop: the thread in
 * ag_loop_run when descriptors are ready, and any thread that posts a task
 * while nobody has the turn, so that what is handed over wakes no thread. A
 * task that finds the turn taken is run by whoever has it.
 */
#include "lib/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/clock.h"

#define EVENTS_AT_ONCE 64
#define ROUNDS_AT_ONCE 8

struct ag_loop {
    pthread_mutex_t turn; /* guards: the service's state, and all below */
    int epoll_fd;
    struct ag_io wake; /* an eventfd, for ag_loop_stop alone */
    struct ag_io term;
    void (*on_term)(void *arg);
    void *term_arg;
    bool is_terminating;
    atomic_bool is_stopped;

    struct ag_timer **heap; /* heap[0] is due first; slot = index + 1 */
    size_t n_timers, cap_timers;
    struct ag_io due;  /* a timerfd */
    int64_t due_at_us; /* what it is set to; INT64_MAX: it is not */

    pthread_mutex_t lock; /* guards: tasks, tasks_end */
    struct ag_task *tasks, **tasks_end;

    /* The batch of epoll_wait that is being handed out; ag_io_stop clears
     * events of what it stops, so that a freed ag_io is never called. What is
     * stopped while the runner waits makes what it then gets stale. */
    struct epoll_event batch[EVENTS_AT_ONCE];
    int batch_n;
    bool is_stale;
};

static void
on_count(struct ag_io *io, uint32_t events)
{
    uint64_t n;

    (void)events;
    (void)!read(io->fd, &n, sizeof(n));
}

static void
on_due(struct ag_io *io, uint32_t events)
{
    struct ag_loop *loop =
        (struct ag_loop *)((char *)io - offsetof(struct ag_loop, due));

    on_count(io, events);
    loop->due_at_us = INT64_MAX;
}

/* Turns are short: spin before sleeping. */
static void
turn_init(pthread_mutex_t *turn)
{
    pthread_mutexattr_t attr;

    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    (void)pthread_mutex_init(turn, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    (void)pthread_mutex_lock(turn);
}

struct ag_loop *
ag_loop_new(struct ag_err *err)
{
    struct ag_loop *loop = ag_xcalloc(1, sizeof(*loop));

    loop->term.fd = -1;
    loop->tasks_end = &loop->tasks;
    loop->due_at_us = INT64_MAX;
    turn_init(&loop->turn);
    (void)pthread_mutex_init(&loop->lock, NULL);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->wake.fn = on_count;
    loop->due.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    loop->due.fn = on_due;
    if (loop->epoll_fd < 0 || loop->wake.fd < 0 || loop->due.fd < 0) {
        ag_err_sys(err, "epoll, eventfd or timerfd");
        ag_loop_free(loop);
        return NULL;
    }
    if (ag_io_start(loop, &loop->wake, EPOLLIN, err) < 0
        || ag_io_start(loop, &loop->due, EPOLLIN, err) < 0) {
        ag_loop_free(loop);
        return NULL;
    }
    return loop;
}

void
ag_loop_free(struct ag_loop *loop)
{
    if (loop == NULL)
        return;
    ag_closep(&loop->epoll_fd);
    ag_closep(&loop->wake.fd);
    ag_closep(&loop->due.fd);
    ag_closep(&loop->term.fd);
    (void)pthread_mutex_unlock(&loop->turn);
    (void)pthread_mutex_destroy(&loop->turn);
    (void)pthread_mutex_destroy(&loop->lock);
    free(loop->heap);
    free(loop);
}

/* ---- timers ------------------------------------------------------------ */

static void
heap_put(struct ag_loop *loop, size_t i, struct ag_timer *t)
{
    loop->heap[i] = t;
    t->slot = i + 1;
}

static void
heap_up(struct ag_loop *loop, size_t i, struct ag_timer *t)
{
    while (i > 0 && loop->heap[(i - 1) / 2]->due_us > t->due_us) {
        heap_put(loop, i, loop->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(loop, i, t);
}

static void
heap_down(struct ag_loop *loop, size_t i, struct ag_timer *t)
{
    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid >= loop->n_timers)
            break;
        if (kid + 1 < loop->n_timers
            && loop->heap[kid + 1]->due_us < loop->heap[kid]->due_us)
            kid++;
        if (loop->heap[kid]->due_us >= t->due_us)
            break;
        heap_put(loop, i, loop->heap[kid]);
        i = kid;
    }
    heap_put(loop, i, t);
}

void
ag_timer_start(struct ag_loop *loop, struct ag_timer *timer, int64_t delay_ms)
{
    ag_timer_stop(loop, timer);
    if (loop->n_timers == loop->cap_timers) {
        loop->cap_timers = loop->cap_timers == 0 ? 64 : loop->cap_timers * 2;
        loop->heap =
            ag_xrealloc(loop->heap, loop->cap_timers * sizeof(*loop->heap));
    }
    timer->due_us = ag_mono_us() + delay_ms * 1000;
    heap_up(loop, loop->n_timers++, timer);
}

void
ag_timer_stop(struct ag_loop *loop, struct ag_timer *timer)
{
    struct ag_timer *last;
    size_t i;

    if (timer->slot == 0)
        return;
    i = timer->slot - 1;
    timer->slot = 0;
    last = loop->heap[--loop->n_timers];
    if (last == timer)
        return;
    if (i > 0 && loop->heap[(i - 1) / 2]->due_us > last->due_us)
        heap_up(loop, i, last);
    else
        heap_down(loop, i, last);
}

/* Those that are due, and what they start for at once: but what goes on so for
 * ever lets descriptors have their turn. */
static void
run_timers(struct ag_loop *loop)
{
    for (int i = 0; i < ROUNDS_AT_ONCE; i++) {
        int64_t now = ag_mono_us();

        if (loop->n_timers == 0 || loop->heap[0]->due_us > now)
            return;
        while (loop->n_timers > 0 && loop->heap[0]->due_us <= now) {
            struct ag_timer *t = loop->heap[0];

            ag_timer_stop(loop, t);
            t->fn(t);
        }
    }
}

/* Have the runner woken when the first timer is due. One that was set for a
 * timer that is gone wakes it for nothing, once. */
static void
set_due(struct ag_loop *loop)
{
    struct itimerspec in = {{0, 0}, {0, 0}};
    int64_t us, left;

    if (loop->n_timers == 0 || loop->heap[0]->due_us >= loop->due_at_us)
        return;
    us = loop->heap[0]->due_us;
    /* Zero would disarm it. From now on, not at a time: a clock that is set for
     * a test has another one than the kernel. */
    left = us - ag_mono_us();
    left = left < 1 ? 1 : left;
    in.it_value.tv_sec = left / 1000000;
    in.it_value.tv_nsec = left % 1000000 * 1000;
    ag_assert(timerfd_settime(loop->due.fd, 0, &in, NULL) == 0);
    loop->due_at_us = us;
}

/* ---- descriptors ------------------------------------------------------- */

static int
control(struct ag_loop *loop, int op, struct ag_io *io, uint32_t events,
        struct ag_err *err)
{
    struct epoll_event ev = {.events = events, .data.ptr = io};

    if (epoll_ctl(loop->epoll_fd, op, io->fd, &ev) < 0)
        return ag_err_sys(err, "epoll_ctl");
    return 0;
}

int
ag_io_start(struct ag_loop *loop, struct ag_io *io, uint32_t events,
            struct ag_err *err)
{
    return control(loop, EPOLL_CTL_ADD, io, events, err);
}

int
ag_io_change(struct ag_loop *loop, struct ag_io *io, uint32_t events,
             struct ag_err *err)
{
    return control(loop, EPOLL_CTL_MOD, io, events, err);
}

void
ag_io_stop(struct ag_loop *loop, struct ag_io *io)
{
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    loop->is_stale = true;
    for (int i = 0; i < loop->batch_n; i++)
        if (loop->batch[i].data.ptr == io)
            loop->batch[i].data.ptr = NULL;
}

/* ---- tasks ------------------------------------------------------------- */

static void
push(struct ag_loop *loop, struct ag_task *task)
{
    task->next = NULL;
    (void)pthread_mutex_lock(&loop->lock);
    *loop->tasks_end = task;
    loop->tasks_end = &task->next;
    (void)pthread_mutex_unlock(&loop->lock);
}

static bool
has_tasks(struct ag_loop *loop)
{
    bool out;

    (void)pthread_mutex_lock(&loop->lock);
    out = loop->tasks != NULL;
    (void)pthread_mutex_unlock(&loop->lock);
    return out;
}

static void
run_tasks(struct ag_loop *loop)
{
    struct ag_task *task, *next;

    (void)pthread_mutex_lock(&loop->lock);
    task = loop->tasks;
    loop->tasks = NULL;
    loop->tasks_end = &loop->tasks;
    (void)pthread_mutex_unlock(&loop->lock);

    for (; task != NULL; task = next) {
        next = task->next;
        task->fn(task);
    }
}

/*
 * Give the turn away, with the tasks that wait and the timers that are due run,
 * and the next one set: what was put off to the end of a callback wakes nobody.
 * Who pushes a task tries for the turn behind that; who gives the turn away
 * looks for tasks behind that: one of the two sees the other.
 */
static void
leave(struct ag_loop *loop, bool is_runner)
{
    do {
        run_tasks(loop);
        run_timers(loop);
        set_due(loop);
        if (is_runner)
            loop->is_stale = false;
        (void)pthread_mutex_unlock(&loop->turn);
    } while (has_tasks(loop) && pthread_mutex_trylock(&loop->turn) == 0);
}

void
ag_loop_post(struct ag_loop *loop, struct ag_task *task)
{
    push(loop, task);
    if (pthread_mutex_trylock(&loop->turn) == 0)
        leave(loop, false);
}

/* ---- running ----------------------------------------------------------- */

/* What is ready, with the turn taken. */
static int
wait_for_turn(struct ag_loop *loop)
{
    int n;

    leave(loop, true);
    n = epoll_wait(loop->epoll_fd, loop->batch, EVENTS_AT_ONCE, -1);
    ag_assert(n >= 0 || errno == EINTR);
    (void)pthread_mutex_lock(&loop->turn);
    if (loop->is_stale)
        n = epoll_wait(loop->epoll_fd, loop->batch, EVENTS_AT_ONCE, 0);
    return n < 0 ? 0 : n;
}

void
ag_loop_run(struct ag_loop *loop)
{
    while (!atomic_load(&loop->is_stopped)) {
        loop->batch_n = wait_for_turn(loop);
        for (int i = 0; i < loop->batch_n; i++) {
            struct ag_io *io = loop->batch[i].data.ptr;

            if (io != NULL)
                io->fn(io, loop->batch[i].events);
        }
        loop->batch_n = 0;
    }
    atomic_store(&loop->is_stopped, false);
}

void
ag_loop_stop(struct ag_loop *loop)
{
    uint64_t one = 1;

    atomic_store(&loop->is_stopped, true);
    (void)!write(loop->wake.fd, &one, sizeof(one));
}

/* ---- signals ----------------------------------------------------------- */

static void
on_signal(struct ag_io *io, uint32_t events)
{
    struct ag_loop *loop =
        (struct ag_loop *)((char *)io - offsetof(struct ag_loop, term));
    struct signalfd_siginfo info;

    (void)events;
    if (read(io->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (loop->is_terminating)
        _exit(128 + (int)info.ssi_signo);
    loop->is_terminating = true;
    loop->on_term(loop->term_arg);
}

int
ag_loop_on_term(struct ag_loop *loop, void (*fn)(void *arg), void *arg,
                struct ag_err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return ag_err_sys(err, "sigprocmask");
    (void)signal(SIGPIPE, SIG_IGN);
    loop->term.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (loop->term.fd < 0)
        return ag_err_sys(err, "signalfd");
    loop->term.fn = on_signal;
    loop->on_term = fn;
    loop->term_arg = arg;
    return ag_io_start(loop, &loop->term, EPOLLIN, err);
}
