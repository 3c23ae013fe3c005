/*
 * Hands the network sockets of sandboxes to the bridge. The launcher keeps its
 * own copies, so that a bridge that was restarted gets them all again.
 */
#include "sandbox_svc/launcher_bridge.h"

#include <stdio.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/str.h"
#include "lib/unix.h"
#include "sandbox_svc/bridge_msg.h"
#include "sandbox_svc/fdpass.h"

#define RETRY_MS 1000

void
launcher_bridge_lost(struct launcher_bridge *b)
{
    if (b->fd >= 0)
        ag_log(AG_WARN, "bridge.lost", AG_S("path", b->path));
    ag_closep(&b->fd);
    b->fd = -1;
    b->next_try_ms = ag_mono_ms() + RETRY_MS;
}

static void
tell(struct launcher_bridge *b, enum bridge_type type,
     const struct launcher_sandbox *sb)
{
    struct bridge_msg m = {.magic = BRIDGE_MAGIC, .type = type};
    int fds[2] = {sb->tcp, sb->udp};

    if (b->fd < 0)
        return;
    snprintf(m.sandbox_id, sizeof(m.sandbox_id), "%s", sb->id);
    memcpy(m.address, sb->address, sizeof(m.address));
    /* A bridge that does not keep up is treated as gone. */
    if (fdpass_send(b->fd, &m, sizeof(m), fds, type == BRIDGE_ADD ? 2 : 0) < 0)
        launcher_bridge_lost(b);
}

void
launcher_bridge_add(struct launcher_bridge *b,
                    const struct launcher_sandbox *sb)
{
    tell(b, BRIDGE_ADD, sb);
}

void
launcher_bridge_remove(struct launcher_bridge *b,
                       const struct launcher_sandbox *sb)
{
    tell(b, BRIDGE_REMOVE, sb);
}

void
launcher_bridge_tick(struct launcher_bridge *b,
                     const struct launcher_sandbox *list)
{
    struct ag_err err = AG_ERR_INIT;

    if (b->fd >= 0 || *b->path == 0 || ag_mono_ms() < b->next_try_ms)
        return;
    b->fd = ag_unix_connect(b->path, SOCK_SEQPACKET, &err);
    if (b->fd < 0) {
        b->next_try_ms = ag_mono_ms() + RETRY_MS;
        return;
    }
    ag_log(AG_INFO, "bridge.connected", AG_S("path", b->path));
    for (; list != NULL; list = list->next)
        if (!list->is_dying && list->build == NULL)
            tell(b, BRIDGE_ADD, list);
}
