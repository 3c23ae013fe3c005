/* The launcher's side of the socket to the bridge. */
#ifndef SANDBOX_SVC_LAUNCHER_BRIDGE_H
#define SANDBOX_SVC_LAUNCHER_BRIDGE_H

#include <stdint.h>

#include "sandbox_svc/launcher_sandbox.h"

struct launcher_bridge {
    const char *path; /* "" for none: sandboxes then have no network */
    int fd;
    int64_t next_try_ms;
};

/* Tell the bridge of a sandbox; while it cannot be reached, nothing: it is
 * told of all when it can. */
void launcher_bridge_add(struct launcher_bridge *b,
                         const struct launcher_sandbox *sb);
void launcher_bridge_remove(struct launcher_bridge *b,
                            const struct launcher_sandbox *sb);

/* Connect if that is due, and tell of every sandbox on `list`. */
void launcher_bridge_tick(struct launcher_bridge *b,
                          const struct launcher_sandbox *list);
/* The socket is readable: the bridge is gone. */
void launcher_bridge_lost(struct launcher_bridge *b);

#endif
