/*
 * What every server offers besides its own methods: grpc.health.v1 and
 * grpc.reflection.v1, from the descriptors that the build generated.
 */
#include "lib/rpc_call.h"

#include "agent_rpc.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"

/* "/package.Service/Method" → "package.Service". */
static ag_str_t
service_of(const char *path)
{
    ag_str_t rest = ag_str(path + 1), service = {NULL, 0};

    (void)ag_str_cut(&rest, '/', &service);
    return service;
}

static bool
offers(const struct ag_rpc_server *srv, ag_str_t service)
{
    for (size_t i = 0; i < srv->n_entries; i++)
        if (ag_str_eq(service_of(srv->entries[i].method->path), service))
            return true;
    return false;
}

static Grpc__Health__V1__HealthCheckResponse__ServingStatus
status_of(const struct ag_rpc_server *srv)
{
    return srv->is_serving
               ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
               : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
}

static void
health_check(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    const Grpc__Health__V1__HealthCheckRequest *req =
        (const Grpc__Health__V1__HealthCheckRequest *)request;
    Grpc__Health__V1__HealthCheckResponse reply =
        GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    const struct ag_rpc_server *srv = arg;
    struct ag_err err;

    if (req->service[0] != '\0' && !offers(srv, ag_str(req->service))) {
        ag_err_set(&err, AG_ERR_NOT_FOUND, "no service \"%s\" here",
                   req->service);
        ag_rpc_fail(call, &err);
        return;
    }
    reply.status = status_of(srv);
    ag_rpc_reply(call, &reply.base);
}

typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_reply;

static void
list_services(const struct ag_rpc_server *srv, struct ag_arena *arena,
              reflection_reply *reply)
{
    Grpc__Reflection__V1__ListServiceResponse *list =
        ag_arena_alloc(arena, sizeof(*list));

    grpc__reflection__v1__list_service_response__init(list);
    list->service =
        ag_arena_alloc(arena, srv->n_entries * sizeof(*list->service));
    for (size_t i = 0; i < srv->n_entries; i++) {
        ag_str_t name = service_of(srv->entries[i].method->path);
        Grpc__Reflection__V1__ServiceResponse *one;
        bool is_known = false;

        for (size_t k = 0; k < list->n_service; k++)
            is_known |= ag_str_is(name, list->service[k]->name);
        if (is_known)
            continue;
        one = ag_arena_alloc(arena, sizeof(*one));
        grpc__reflection__v1__service_response__init(one);
        one->name = ag_arena_cstr(arena, name);
        list->service[list->n_service++] = one;
    }
    reply->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    reply->list_services_response = list;
}

/* True when `file` declares `symbol`, or a parent of it. */
static bool
declares(const struct ag_rpc_file *file, ag_str_t symbol)
{
    for (const char *const *s = file->symbols; *s != NULL; s++) {
        ag_str_t name = ag_str(*s);

        if (ag_str_eq(name, symbol)
            || (ag_str_starts(symbol, name) && symbol.p[name.n] == '.'))
            return true;
    }
    return false;
}

/* Our files import only files without services: the one that is asked for is
 * enough for each of brain, sandbox, vault, health and reflection. */
static const struct ag_rpc_file *
find_file(const char *by_name, const char *by_symbol)
{
    for (const struct ag_rpc_file *f = ag_rpc_files; f->name != NULL; f++) {
        if (by_name != NULL && strcmp(f->name, by_name) == 0)
            return f;
        if (by_symbol != NULL && declares(f, ag_str(by_symbol)))
            return f;
    }
    return NULL;
}

static void
reply_error(struct ag_arena *arena, reflection_reply *reply, int code,
            const char *text)
{
    Grpc__Reflection__V1__ErrorResponse *e = ag_arena_alloc(arena, sizeof(*e));

    grpc__reflection__v1__error_response__init(e);
    e->error_code = code;
    e->error_message = ag_arena_cstr(arena, ag_str(text));
    reply->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    reply->error_response = e;
}

static void
reply_file(struct ag_arena *arena, reflection_reply *reply,
           const struct ag_rpc_file *file)
{
    Grpc__Reflection__V1__FileDescriptorResponse *r;

    if (file == NULL) {
        reply_error(arena, reply, GRPC_STATUS_NOT_FOUND, "not found");
        return;
    }
    r = ag_arena_alloc(arena, sizeof(*r));
    grpc__reflection__v1__file_descriptor_response__init(r);
    r->file_descriptor_proto =
        ag_arena_alloc(arena, sizeof(ProtobufCBinaryData));
    r->file_descriptor_proto[0].data = (uint8_t *)(uintptr_t)file->data;
    r->file_descriptor_proto[0].len = file->n;
    r->n_file_descriptor_proto = 1;
    reply->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    reply->file_descriptor_response = r;
}

static void
reflect(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    Grpc__Reflection__V1__ServerReflectionRequest *req =
        (Grpc__Reflection__V1__ServerReflectionRequest *)(uintptr_t)request;
    reflection_reply reply =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    struct ag_arena *arena = ag_rpc_call_arena(call);

    reply.valid_host = req->host;
    reply.original_request = req;
    switch ((int)req->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        list_services(arg, arena, &reply);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        reply_file(arena, &reply, find_file(req->file_by_filename, NULL));
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        reply_file(arena, &reply, find_file(NULL, req->file_containing_symbol));
        break;
    default:
        reply_error(arena, &reply, GRPC_STATUS_UNIMPLEMENTED,
                    "extensions are not served");
    }
    (void)ag_rpc_send(call, &reply.base);
    ag_rpc_call_recv(call);
}

/* ---- Watch: the status now, and again at each change --------------------- */

static void
send_status(struct ag_rpc_call *call, int status)
{
    Grpc__Health__V1__HealthCheckResponse reply =
        GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    reply.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    (void)ag_rpc_send(call, &reply.base);
}

static void
watcher_remove(struct ag_rpc_server *srv, const struct ag_rpc_call *call)
{
    for (size_t i = 0; i < srv->n_watchers; i++)
        if (srv->watchers[i] == call)
            srv->watchers[i--] = srv->watchers[--srv->n_watchers];
}

static void
watcher_gone(struct ag_rpc_call *call, void *arg)
{
    struct ag_err err;

    watcher_remove(arg, call);
    ag_err_set(&err, AG_ERR_CANCELLED, "the caller is gone");
    ag_rpc_fail(call, &err);
}

static void
health_watch(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    const Grpc__Health__V1__HealthCheckRequest *req =
        (const Grpc__Health__V1__HealthCheckRequest *)request;
    struct ag_rpc_server *srv = arg;
    struct ag_err err;

    if (srv->is_stopping || srv->n_watchers == AG_RPC_WATCHERS_MAX) {
        ag_err_set(&err, srv->is_stopping ? AG_ERR_UNAVAILABLE : AG_ERR_LIMIT,
                   srv->is_stopping ? "the service is stopping"
                                    : "too many watchers");
        ag_rpc_fail(call, &err);
        return;
    }
    if (req->service[0] != '\0' && !offers(srv, ag_str(req->service)))
        send_status(
            call,
            GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN);
    else
        send_status(call, (int)status_of(srv));
    srv->watchers[srv->n_watchers++] = call;
    ag_rpc_call_on_cancel(call, watcher_gone, srv);
}

void
ag_rpc_builtin_changed(struct ag_rpc_server *srv)
{
    for (size_t i = 0; i < srv->n_watchers; i++)
        send_status(srv->watchers[i], (int)status_of(srv));
}

void
ag_rpc_builtin_stop(struct ag_rpc_server *srv)
{
    ag_rpc_builtin_changed(srv);
    while (srv->n_watchers > 0)
        ag_rpc_end(srv->watchers[--srv->n_watchers]);
}

void
ag_rpc_builtin_add(struct ag_rpc_server *srv)
{
    ag_rpc_server_add(srv, &grpc__health__v1__health__check__rpc, health_check,
                      srv);
    ag_rpc_server_add(srv, &grpc__health__v1__health__watch__rpc, health_watch,
                      srv);
    ag_rpc_server_add(
        srv,
        &grpc__reflection__v1__server_reflection__server_reflection_info__rpc,
        reflect, srv);
}
