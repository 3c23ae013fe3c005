/*
 * One gRPC call from the command line, on gRPC core: for tests, and for
 * people who look into a service. JSON in and out, as ingress does it.
 *
 *   rpc_call [-n COUNT] TARGET /package.Service/Method JSON [name=value …]
 *
 * TARGET as gRPC names it ("unix:/path", "127.0.0.1:8081"); name=value is
 * metadata. Only methods with a REST route are known. Prints a line for each
 * message and ends after COUNT of them; a failure is "status <kind>: text" on
 * stderr and exit code 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/arena.h"
#include "lib/rpc_client.h"
#include "ngx_agent_module/ngx_agent_codec.h"

static long n_wanted = -1;

static void
on_item(void *arg, const ProtobufCMessage *m)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(SIZE_MAX / 4);
    size_t n = protobuf_c_message_get_packed_size(m);
    AG_AUTO(ag_freep) uint8_t *packed = ag_xmalloc(n + 1);
    struct ag_err err = AG_ERR_INIT;

    (void)arg;
    (void)protobuf_c_message_pack(m, packed);
    if (ngx_agent_codec_decode(m->descriptor, ag_str_n(packed, n), &text, &err)
        < 0) {
        (void)fprintf(stderr, "rpc_call: %s\n", err.msg);
        _exit(1);
    }
    (void)puts(ag_buf_cstr(&text));
    (void)fflush(stdout);
    if (n_wanted > 0 && --n_wanted == 0)
        _exit(0);
}

static void
on_done(void *arg, const struct ag_err *err)
{
    (void)arg;
    if (err == NULL)
        _exit(0);
    (void)fprintf(stderr, "status %s: %s\n", ag_err_kind_name(err->kind),
                  err->msg);
    _exit(1);
}

static void
on_unary(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    if (reply != NULL)
        on_item(arg, reply);
    on_done(arg, err);
}

/* The request, or the end of the program. */
static ProtobufCMessage *
parse_request(const struct ngx_agent_route *route, const char *json)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_buf_release) struct ag_buf wire = AG_BUF_INIT(SIZE_MAX / 4);
    struct ag_err err = AG_ERR_INIT;
    struct ngx_agent_request rq = {
        .desc = route->input,
        .body = ag_str(json),
        .has_body = true,
        .depth_max = 64,
    };

    if (ngx_agent_codec_encode(&rq, arena, &wire, &err) < 0) {
        (void)fprintf(stderr, "rpc_call: %s\n", err.msg);
        exit(2);
    }
    return protobuf_c_message_unpack(route->input, NULL, wire.n,
                                     (const uint8_t *)wire.p);
}

static size_t
parse_metadata(char **words, int n, struct ag_rpc_metadata *out, size_t max)
{
    size_t used = 0;

    for (int i = 0; i < n && used < max; i++) {
        char *eq = strchr(words[i], '=');
        if (eq == NULL)
            continue;
        *eq = '\0';
        out[used++] = (struct ag_rpc_metadata){words[i], ag_str(eq + 1)};
    }
    return used;
}

int
main(int argc, char **argv)
{
    struct ag_rpc_metadata metadata[8];
    struct ag_rpc_call_opts opts = {.timeout_ms = 30000, .metadata = metadata};
    const struct ngx_agent_route *route;
    struct ag_err err = AG_ERR_INIT;
    struct ag_loop *loop;
    struct ag_rpc *rpc;

    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        n_wanted = atol(argv[2]);
        argc -= 2;
        argv += 2;
    }
    if (argc < 4) {
        (void)fprintf(stderr, "usage: rpc_call [-n COUNT] TARGET METHOD JSON "
                              "[name=value ...]\n");
        return 2;
    }
    route = ngx_agent_route_by_grpc(ag_str(argv[2]));
    if (route == NULL) {
        (void)fprintf(stderr, "rpc_call: no method %s has a route\n", argv[2]);
        return 2;
    }
    opts.n_metadata = parse_metadata(argv + 4, argc - 4, metadata, 8);

    struct ag_rpc_method method = {
        .path = route->grpc_path,
        .input = route->input,
        .output = route->output,
        .server_streams = route->streams,
    };
    ProtobufCMessage *request = parse_request(route, argv[3]);
    loop = ag_loop_new(&err);
    rpc = loop == NULL ? NULL : ag_rpc_new(loop, &err);
    if (rpc == NULL || request == NULL)
        return 2;
    struct ag_rpc_channel *ch = ag_rpc_channel_new(rpc, argv[1]);
    if (route->streams)
        (void)ag_rpc_stream(ch, &method, request, &opts, on_item, on_done,
                            NULL);
    else
        (void)ag_rpc_unary(ch, &method, request, &opts, on_unary, NULL);
    ag_loop_run(loop);
    return 0;
}
