/*
 * Fuzz target of the codec: the first byte picks a route, the rest is the
 * query, a NUL, and the body; what is accepted must be a message of its type,
 * and as an answer must become JSON. The same bytes are read as an answer too.
 */
#include <stdint.h>
#include <stdlib.h>

#include "lib/json.h"
#include "ngx_agent_module/ngx_agent_codec.h"
#include "ngx_agent_module/ngx_agent_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_answer(const ProtobufCMessageDescriptor *desc, ag_str_t message,
             bool is_ours)
{
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(SIZE_MAX / 4);
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    struct ag_err err = AG_ERR_INIT;

    if (ngx_agent_codec_decode(desc, message, &out, &err) < 0) {
        ag_assert(!is_ours || err.kind == AG_ERR_LIMIT);
        return;
    }
    /* Opaque fields of a stranger may be anything; ours were checked. */
    if (!is_ours)
        return;
    j = ag_json_parse(ag_buf_str(&out), &err);
    ag_assert(j != NULL || strstr(err.msg, "deeper") != NULL);
}

static void
check_request(const struct ngx_agent_route *route, ag_str_t query,
              ag_str_t body)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(SIZE_MAX / 4);
    struct ag_err err = AG_ERR_INIT;
    struct ngx_agent_request rq = {
        .desc = route->input,
        .query = query,
        .body = body,
        .has_body = *route->body != '\0',
        .depth_max = 64,
    };

    if (ngx_agent_codec_encode(&rq, arena, &out, &err) == 0)
        check_answer(route->input, ag_buf_str(&out), true);
    else
        ag_assert(err.kind == AG_ERR_INVALID && err.msg[0] != '\0');
}

static void
check_frames(ag_str_t in)
{
    struct ngx_agent_frames f;
    struct ag_err err = AG_ERR_INIT;

    ngx_agent_frames_init(&f, 1000);
    while (ngx_agent_frames_next(&f, &in, &err) == 1)
        ag_assert(f.message.n <= 1000);
    ngx_agent_frames_release(&f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct ngx_agent_route *routes;
    ag_str_t all, query = {NULL, 0};
    size_t n;

    if (size == 0)
        return 0;
    routes = ngx_agent_route_table(&n);
    all = ag_str_n(data + 1, size - 1);
    check_answer(routes[data[0] % n].output, all, false);
    check_frames(all);
    (void)ag_str_cut(&all, '\0', &query);
    check_request(&routes[data[0] % n], query, all);
    return 0;
}
