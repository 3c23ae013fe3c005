/*
 * Fuzz target of the codec: a line names a method, or its first byte picks a
 * route; the rest is the query, a NUL, and the body; what is accepted must be a message of its type,
 * and as an answer must become JSON. The same bytes are read as an answer too.
 */
#include <stdint.h>
#include <stdlib.h>

#include "lib/json.h"
#include "ngx_agent_module/ngx_agent_codec.h"
#include "ngx_agent_module/ngx_agent_frame.h"
#include "vault.pb-c.h"

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
check_request(const ProtobufCMessageDescriptor *input, bool has_body,
              ag_str_t query, ag_str_t body)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(SIZE_MAX / 4);
    struct ag_err err = AG_ERR_INIT;
    ag_str_t value = ag_str_n(query.p, query.n > 40 ? 40 : query.n);
    const struct ngx_agent_param params[] = {
        {AG_STR("session_id"), value, true},
        {AG_STR("vault_id"), value, true},
        {AG_STR("limit"), value, true}};
    struct ngx_agent_request rq = {
        .desc = input,
        .params = params,
        .n_params = sizeof(params) / sizeof(params[0]),
        .query = query,
        .body = body,
        .has_body = has_body,
        .depth_max = 64,
    };

    if (ngx_agent_codec_encode(&rq, arena, &out, &err) == 0)
        check_answer(input, ag_buf_str(&out), true);
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

/* No route's, with what no route's has: nesting, enums, plain bytes. */
static const struct {
    const char *word;
    const ProtobufCMessageDescriptor *desc;
} others[] = {
    {"AuthorizeRequest", &agent__vault__v1__authorize_request__descriptor},
    {"AuthorizeResponse", &agent__vault__v1__authorize_response__descriptor},
    {"OpenWorkloadRequest", &agent__vault__v1__open_workload_request__descriptor},
    {"Assertion", &agent__vault__v1__assertion__descriptor}};

static bool
check_other(ag_str_t word, ag_str_t query, ag_str_t body)
{
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (ag_str_is(word, others[i].word)) {
            check_request(others[i].desc, true, query, body);
            check_answer(others[i].desc, body, false);
            return true;
        }
    return false;
}

/* "CreateAgent": a name stays when routes are added, a number does not. */
static const struct ngx_agent_route *
pick(ag_str_t word)
{
    size_t n;
    const struct ngx_agent_route *routes = ngx_agent_route_table(&n);

    for (size_t i = 0; i < n && word.n > 0; i++)
        if (word.n < strlen(routes[i].grpc_path)
            && ag_str_ends(ag_str(routes[i].grpc_path), word)
            && routes[i].grpc_path[strlen(routes[i].grpc_path) - word.n - 1]
                   == '/')
            return &routes[i];
    return &routes[word.n > 0 ? (unsigned char)word.p[0] % n : 0];
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ag_str_t all = ag_str_n(data, size), word, query = {NULL, 0};

    if (size == 0 || !ag_str_cut(&all, '\n', &word) || word.n > 64)
        return 0;
    const struct ngx_agent_route *route = pick(word);
    check_answer(route->output, all, false);
    check_frames(all);
    (void)ag_str_cut(&all, '\0', &query);
    if (!check_other(word, query, all))
        check_request(route->input, *route->body != '\0', query, all);
    return 0;
}
