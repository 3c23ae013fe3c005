/* Bytes between two sockets. Runs on the loop; nothing here waits. */
#include "lib/flow.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Rounds of copying before others get their turn. */
#define ROUNDS 16

int
ag_side_watch(struct ag_loop *loop, struct ag_side *s, uint32_t events,
              struct ag_err *err)
{
    int rc = 0;

    if (s->is_watched && s->interest == events)
        return 0;
    s->interest = events;
    /* epoll reports a hang-up whether asked or not: a side that nothing is
     * wanted of is not watched, or it would be reported without end. */
    if (events == 0 && s->is_watched) {
        ag_io_stop(loop, &s->io);
        s->is_watched = false;
    } else if (events != 0 && !s->is_watched) {
        rc = ag_io_start(loop, &s->io, events, err);
        s->is_watched = rc == 0;
    } else if (events != 0) {
        rc = ag_io_change(loop, &s->io, events, err);
    }
    return rc;
}

void
ag_side_close(struct ag_loop *loop, struct ag_side *s)
{
    if (s->is_watched)
        ag_io_stop(loop, &s->io);
    s->is_watched = false;
    ag_closep(&s->io.fd);
    s->io.fd = -1;
}

/* Read if there is room, write what is there. Returns 1 when there may be more
 * to move, 0 when nothing can be moved now, -1 when the connection is broken.
 * What came in a piece smaller than the buffer was all that there was: epoll
 * says when there is more. */
static int
step(struct ag_flow *f, struct ag_side *from, struct ag_side *to)
{
    bool has_more = f->n > 0;

    if (f->n == 0 && !from->has_ended) {
        ssize_t n = recv(from->io.fd, f->buf, AG_FLOW_BYTES, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        from->has_ended = n == 0;
        f->off = 0;
        f->n = n > 0 ? (size_t)n : 0;
        has_more = n == AG_FLOW_BYTES;
    }
    if (f->n > 0) {
        ssize_t n =
            send(to->io.fd, f->buf + f->off, f->n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        if (n > 0) {
            f->off += (size_t)n;
            f->n -= (size_t)n;
        }
        has_more = has_more && f->n == 0;
    }
    if (from->has_ended && f->n == 0 && !to->is_shut) {
        (void)shutdown(to->io.fd, SHUT_WR);
        to->is_shut = true;
    }
    return has_more;
}

static uint32_t
interest_of(const struct ag_side *s, const struct ag_flow *from_it,
            const struct ag_flow *to_it)
{
    return (!s->has_ended && from_it->n == 0 ? (uint32_t)EPOLLIN : 0)
           | (to_it->n > 0 ? (uint32_t)EPOLLOUT : 0);
}

enum ag_flow_rc
ag_flow_copy(struct ag_loop *loop, struct ag_side *a, struct ag_side *b,
             struct ag_flow *up, struct ag_flow *down, struct ag_err *err)
{
    int there = 1, back = 1;

    for (int i = 0; i < ROUNDS && (there > 0 || back > 0); i++) {
        there = there > 0 ? step(up, a, b) : 0;
        back = there >= 0 && back > 0 ? step(down, b, a) : back;
        if (there < 0 || back < 0) {
            ag_err_set(err, AG_ERR_IO, "the connection is broken");
            return AG_FLOW_BROKEN;
        }
    }
    if (a->is_shut && b->is_shut)
        return AG_FLOW_ENDED;
    return ag_side_watch(loop, a, interest_of(a, up, down), err) < 0
                   || ag_side_watch(loop, b, interest_of(b, down, up), err) < 0
               ? AG_FLOW_BROKEN
               : AG_FLOW_OPEN;
}
