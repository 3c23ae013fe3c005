/*
 * Bytes between two sockets, both ways, on a loop: each way has one buffer, so
 * that what one side does not take stops the other, and an end that is closed
 * is closed on the other side.
 */
#ifndef LIB_FLOW_H
#define LIB_FLOW_H

#include "lib/loop.h"

#define AG_FLOW_BYTES 32768

/* A socket. io.fd is -1 when there is none; the owner sets io.fn. */
struct ag_side {
    struct ag_io io;
    uint32_t interest;
    bool is_watched;
    bool has_ended; /* no more will be read */
    bool is_shut;   /* no more will be written */
};

/* One way. `buf` has AG_FLOW_BYTES and is the owner's. */
struct ag_flow {
    char *buf;
    size_t off, n;
};

enum ag_flow_rc {
    AG_FLOW_OPEN,
    AG_FLOW_ENDED,  /* both ways */
    AG_FLOW_BROKEN, /* one side is */
};

/* Watch the side for `events`, which may be none. */
int ag_side_watch(struct ag_loop *loop, struct ag_side *s, uint32_t events,
                  struct ag_err *err);
/* Forget and close it. */
void ag_side_close(struct ag_loop *loop, struct ag_side *s);

/*
 * Copy what there is, `up` from a to b and `down` from b to a, for so many
 * rounds at most that others get their turn, and watch both sides for what can
 * be done next.
 */
enum ag_flow_rc
ag_flow_copy(struct ag_loop *loop, struct ag_side *a, struct ag_side *b,
             struct ag_flow *up, struct ag_flow *down, struct ag_err *err);

#endif
