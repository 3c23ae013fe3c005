/*
 * The event loop that owns a service's state, by its turn: code runs as the
 * loop when its thread holds the turn, and one thread does at a time.
 *
 * epoll for descriptors, a heap for timers, a signalfd for SIGTERM and SIGINT:
 * their callbacks run on the thread in ag_loop_run. What other threads hand
 * over runs on whichever thread has the turn, theirs when it is free. "On the
 * loop" says that the turn is held. Everything but ag_loop_post and
 * ag_loop_stop is called so, and no callback may block. The thread that makes a
 * loop has its turn, but while it waits in ag_loop_run: it is the one to call
 * that and ag_loop_free.
 */
#ifndef LIB_LOOP_H
#define LIB_LOOP_H

#include "lib/err.h"
#include "lib/str.h"

struct ag_loop;

/* Something to do on the loop. Embedded in its owner, which keeps it alive
 * until `fn` runs; posted at most once at a time. */
struct ag_task {
    void (*fn)(struct ag_task *task);
    struct ag_task *next;
};

struct ag_timer {
    void (*fn)(struct ag_timer *timer);
    int64_t due_us;
    size_t slot; /* 1-based place in the heap, 0 when not armed */
};

struct ag_io {
    void (*fn)(struct ag_io *io, uint32_t events); /* EPOLLIN, … */
    int fd;
};

struct ag_loop *ag_loop_new(struct ag_err *err);
void ag_loop_free(struct ag_loop *loop);

/* Runs until ag_loop_stop. */
void ag_loop_run(struct ag_loop *loop);
/* From any thread or callback. */
void ag_loop_stop(struct ag_loop *loop);

/* From any thread: run `task` on the loop, in the order posted. On the loop it
 * runs when what is being handed out is through; elsewhere, when nobody has the
 * turn, before this returns. */
void ag_loop_post(struct ag_loop *loop, struct ag_task *task);

/* (Re)arm: `fn` is called once, `delay_ms` from now. */
void
ag_timer_start(struct ag_loop *loop, struct ag_timer *timer, int64_t delay_ms);
/* No-op when not armed. */
void ag_timer_stop(struct ag_loop *loop, struct ag_timer *timer);

/* Watch io->fd for `events`; change; forget (before the fd is closed). */
int ag_io_start(struct ag_loop *loop, struct ag_io *io, uint32_t events,
                struct ag_err *err);
int ag_io_change(struct ag_loop *loop, struct ag_io *io, uint32_t events,
                 struct ag_err *err);
void ag_io_stop(struct ag_loop *loop, struct ag_io *io);

/*
 * Call `fn(arg)` on the loop at the first SIGTERM or SIGINT; a second one ends
 * the process at once. Blocks both signals in the calling thread: call before
 * any thread is made.
 */
int ag_loop_on_term(struct ag_loop *loop, void (*fn)(void *arg), void *arg,
                    struct ag_err *err);

#endif
