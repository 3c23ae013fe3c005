/*
 * Fuzz target of what sandbox_svc reads from init and from the launcher, and
 * the launcher from sandbox_svc: fixed-size messages, all fields bounded.
 */
#include <stdint.h>
#include <string.h>

#include "lib/err.h"
#include "lib/id.h"
#include "lib/str.h"
#include "sandbox_svc/init_proto.h"
#include "sandbox_svc/launcher_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_request(const struct launcher_request *r)
{
    if (r->type == LAUNCHER_CREATE) {
        ag_assert(strchr(r->image, '/') == NULL && *r->image != 0);
        ag_assert(r->limits.pids > 0 && r->limits.memory_bytes > 0);
    }
    if (r->type == LAUNCHER_WIPE)
        ag_assert(ag_id_is(ag_str(r->session_id), "sesn"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct launcher_request request;
    struct launcher_reply reply;
    struct init_head event;
    struct ag_err err = AG_ERR_INIT;

    if (init_event_parse(data, size, &event, &err) == 0)
        ag_assert(event.a >= 0 && event.a < 4096 && event.b >= 0);
    if (launcher_request_parse(data, size, &request, &err) == 0)
        check_request(&request);
    if (launcher_reply_parse(data, size, &reply, &err) == 0)
        ag_assert(strlen(reply.text) < sizeof(reply.text));
    return 0;
}
