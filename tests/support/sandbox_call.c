/*
 * One gRPC call to sandbox_svc from the command line, for tests and people.
 *
 *   sandbox_call TARGET METHOD [FIELD=VALUE]... [@timeout_ms=N]
 *
 * TARGET as gRPC names it (unix:/path); METHOD one of provision, execute,
 * cancel, end_turn, delete_workspace, list_sandboxes, health. Each message that comes
 * back is one line of JSON; bytes are shown as text. FIELD=@FILE reads the
 * value from a file. Ends with 1 and a line {"error": …, "message": …} when
 * the call failed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/rpc_client.h"

#define DEFAULT_TIMEOUT_MS 600000
#define FILE_MAX (4 << 20)

#define SANDBOX(m) &agent__sandbox__v1__sandbox_service__##m##__rpc

static const struct {
    const char *name;
    const struct ag_rpc_method *method;
} methods[] = {
    {"provision", SANDBOX(provision)},
    {"execute", SANDBOX(execute)},
    {"cancel", SANDBOX(cancel)},
    {"end_turn", SANDBOX(end_turn)},
    {"delete_workspace", SANDBOX(delete_workspace)},
    {"list_sandboxes", SANDBOX(list_sandboxes)},
    {"health", &grpc__health__v1__health__check__rpc},
};

static struct ag_loop *loop;
static int exit_code;

static _Noreturn void
usage(const char *why)
{
    fprintf(stderr,
            "sandbox_call: %s\n"
            "usage: sandbox_call TARGET METHOD [FIELD=VALUE]...\n",
            why);
    exit(2);
}

/* ---- message to JSON ------------------------------------------------- */

static json_t *message_json(const ProtobufCMessage *m);

static json_t *
value_json(const ProtobufCFieldDescriptor *f, const void *p)
{
    const ProtobufCBinaryData *b = p;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        return ag_json_from_str(ag_str(*(char *const *)p));
    case PROTOBUF_C_TYPE_BYTES:
        return ag_json_from_str(ag_str_n(b->data, b->len));
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)p);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return json_integer(*(const int64_t *)p);
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *m = *(ProtobufCMessage *const *)p;
        return m == NULL ? json_null() : message_json(m);
    }
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *v =
            protobuf_c_enum_descriptor_get_value(f->descriptor,
                                                 *(const int *)p);
        return v == NULL ? json_integer(*(const int *)p)
                         : json_string(v->name);
    }
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const int32_t *)p);
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
    default:
        return json_null();
    }
}

static json_t *
repeated_json(const ProtobufCFieldDescriptor *f, const char *base)
{
    size_t n = *(const size_t *)(base + f->quantifier_offset);
    const char *items = *(char *const *)(base + f->offset);
    json_t *list = json_array();

    /* Strings and messages; no method here repeats anything else. */
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, value_json(f, items + i * sizeof(void *)));
    return list;
}

static json_t *
message_json(const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    const char *base = (const char *)m;
    json_t *out = json_object();

    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0
            && *(const uint32_t *)(base + f->quantifier_offset) != f->id)
            continue;
        json_object_set_new(out, f->name,
                            f->label == PROTOBUF_C_LABEL_REPEATED
                                ? repeated_json(f, base)
                                : value_json(f, base + f->offset));
    }
    return out;
}

static void
print_json(json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT);

    puts(text);
    fflush(stdout);
    free(text);
    json_decref(j);
}

/* ---- FIELD=VALUE to message ------------------------------------------ */

/* Until the next call. */
static ag_str_t
file_value(const char *path)
{
    static char p[FILE_MAX];
    FILE *f = fopen(path, "re");

    if (f == NULL)
        usage("a file of a field cannot be read");
    size_t n = fread(p, 1, FILE_MAX, f);
    fclose(f);
    return ag_str_n(p, n);
}

static void
set_field(ProtobufCMessage *m, ag_str_t name, const char *text)
{
    AG_AUTO(ag_freep) char *field = ag_str_dup(name);
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(m->descriptor, field);
    ag_str_t value = *text == '@' ? file_value(text + 1) : ag_str(text);
    int64_t number = 0;

    if (f == NULL)
        usage("the request has no such field");
    void *at = (char *)m + f->offset;
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        /* The last of several holds. */
        if (*(char **)at != protobuf_c_empty_string)
            free(*(char **)at);
        *(char **)at = ag_str_dup(value);
    } else if (f->type == PROTOBUF_C_TYPE_BYTES) {
        *(ProtobufCBinaryData *)at =
            (ProtobufCBinaryData){value.n, (uint8_t *)ag_str_dup(value)};
    } else {
        if (ag_str_i64(value, &number) < 0)
            usage("the field is a number");
        /* A protobuf_c_boolean is an int. */
        if (f->type == PROTOBUF_C_TYPE_INT64)
            *(int64_t *)at = number;
        else
            *(int32_t *)at = (int32_t)number;
    }
}

/* ---- the call -------------------------------------------------------- */

static void
end(const struct ag_err *err)
{
    if (err != NULL) {
        print_json(json_pack("{ssss}", "error", ag_err_kind_name(err->kind),
                             "message", err->msg));
        exit_code = 1;
    }
    ag_loop_stop(loop);
}

static void
on_reply(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    (void)arg;
    if (reply != NULL)
        print_json(message_json(reply));
    end(err);
}

static void
on_item(void *arg, const ProtobufCMessage *item)
{
    (void)arg;
    print_json(message_json(item));
}

static void
on_end(void *arg, const struct ag_err *err)
{
    (void)arg;
    end(err);
}

static ProtobufCMessage *
make_request(const struct ag_rpc_method *method, char **args, int n,
             int64_t *timeout_ms)
{
    ProtobufCMessage *m = ag_xcalloc(1, method->input->sizeof_message);

    method->input->message_init(m);
    for (int i = 0; i < n; i++) {
        ag_str_t value = ag_str(args[i]), name;
        if (ag_str_chr(value, '=') < 0)
            usage("arguments are FIELD=VALUE");
        ag_str_cut(&value, '=', &name);
        if (!ag_str_is(name, "@timeout_ms"))
            set_field(m, name, value.p == NULL ? "" : value.p);
        else if (ag_str_i64(value, timeout_ms) < 0)
            usage("@timeout_ms is a number");
    }
    return m;
}

static const struct ag_rpc_method *
find_method(const char *name)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (strcmp(methods[i].name, name) == 0)
            return methods[i].method;
    usage("no such method");
}

int
main(int argc, char **argv)
{
    struct ag_rpc_call_opts opts = {.timeout_ms = DEFAULT_TIMEOUT_MS};
    struct ag_err err = AG_ERR_INIT;

    if (argc < 3)
        usage("too few arguments");
    ag_log_init("sandbox_call", AG_ERROR);
    const struct ag_rpc_method *method = find_method(argv[2]);
    ProtobufCMessage *request =
        make_request(method, argv + 3, argc - 3, &opts.timeout_ms);
    loop = ag_loop_new(&err);
    struct ag_rpc *rpc = loop == NULL ? NULL : ag_rpc_new(loop, &err);
    if (rpc == NULL)
        usage(err.msg);
    struct ag_rpc_channel *ch = ag_rpc_channel_new(rpc, argv[1]);
    if (method->server_streams)
        (void)ag_rpc_stream(ch, method, request, &opts, on_item, on_end, NULL);
    else
        (void)ag_rpc_unary(ch, method, request, &opts, on_reply, NULL);
    ag_loop_run(loop);
    ag_rpc_channel_free(ch);
    ag_rpc_free(rpc);
    ag_loop_free(loop);
    protobuf_c_message_free_unpacked(request, NULL);
    return exit_code;
}
