/*
 * Checks what comes from sandbox_init. The peer may be under the control of
 * whatever runs in the sandbox: every field is bounded here, before anything
 * is decided by it.
 */
#include "sandbox_svc/init_proto.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "lib/err.h"

static int
check_values(const struct init_head *h, struct ag_err *err)
{
    bool ok;

    switch (h->type) {
    case INIT_STARTED:
    case INIT_KILLED:
    case INIT_FULL:
        ok = h->a == 0 && h->b == 0;
        break;
    case INIT_EXITED:
        ok = h->a >= 0 && h->a <= 255 && h->b >= 0 && h->b <= SIGRTMAX
             && (h->a == 0 || h->b == 0);
        break;
    case INIT_FAILED:
        ok = h->a > 0 && h->a < 4096 && h->b == 0;
        break;
    case INIT_PUT_DONE:
        ok = h->a >= 0 && h->a < 4096 && h->b == 0;
        break;
    default:
        return ag_err_set(err, AG_ERR_CORRUPT, "init: unknown message %u",
                          h->type);
    }
    if (!ok)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "init: message %u with values %d, %d", h->type, h->a,
                          h->b);
    return 0;
}

int
init_event_parse(const void *packet, size_t n, struct init_head *out,
                 struct ag_err *err)
{
    struct init_head h;

    if (n != sizeof(h))
        return ag_err_set(err, AG_ERR_CORRUPT, "init: packet of %zu bytes", n);
    memcpy(&h, packet, sizeof(h));
    if (h.magic != INIT_MAGIC)
        return ag_err_set(err, AG_ERR_CORRUPT, "init: wrong magic");
    if (h.run_id == 0)
        return ag_err_set(err, AG_ERR_CORRUPT, "init: of no request");
    if (check_values(&h, err) < 0)
        return -1;
    *out = h;
    return 0;
}
