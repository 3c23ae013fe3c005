/*
 * Calls one method of a service and prints the answer as JSON:
 *
 *   vault_call TARGET /package.Service/Method [-m key=value]… JSON|-
 *
 * Messages are walked by their protobuf-c descriptors. A `bytes` field is text
 * as it is, or binary as {"hex":"…"}; in answers, too, text where it is UTF-8.
 * Each further line of stdin after "-" is a request of its own. Exit status: 0,
 * 1 with {"error":{"kind","message"}} on stdout, 2 for wrong usage.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/arena.h"
#include "lib/json.h"
#include "lib/rpc_client.h"

enum { META_MAX = 8, TIMEOUT_MS = 20000 };

static const struct ag_rpc_method *const methods[] = {
#define M(x) &agent__##x##__rpc
    M(vault__v1__identity_service__resolve),
    M(vault__v1__key_service__create_key),
    M(vault__v1__key_service__list_keys),
    M(vault__v1__key_service__revoke_key),
    M(vault__v1__vault_service__create_vault),
    M(vault__v1__vault_service__get_vault),
    M(vault__v1__vault_service__list_vaults),
    M(vault__v1__vault_service__delete_vault),
    M(vault__v1__vault_service__archive_vault),
    M(vault__v1__vault_service__create_credential),
    M(vault__v1__vault_service__update_credential),
    M(vault__v1__vault_service__get_credential),
    M(vault__v1__vault_service__list_credentials),
    M(vault__v1__vault_service__delete_credential),
    M(vault__v1__vault_service__archive_credential),
    M(vault__v1__grant_service__put_grant),
    M(vault__v1__grant_service__end_grant),
    M(vault__v1__grant_service__put_policy),
    M(vault__v1__workload_service__open_workload),
    M(vault__v1__workload_service__warm_workload),
    M(vault__v1__workload_service__close_workload),
    M(vault__v1__egress_service__authorize),
    M(vault__v1__egress_service__authorize_batch),
    M(vault__v1__egress_service__report_scrub),
    M(vault__v1__egress_service__report_refusal),
    M(vault__v1__egress_service__fingerprints),
    M(vault__v1__egress_service__confirm),
    M(vault__v1__egress_service__mint),
    M(vault__v1__policy_service__get_proposed_policy),
    M(vault__v1__approval_service__list_approvals),
    M(vault__v1__approval_service__decide_approval),
    M(vault__v1__egress_service__await_approval),
    M(vault__v1__incident_service__list_incidents),
    M(vault__v1__incident_service__resolve_incident),
    M(vault__v1__explain_service__explain),
    M(vault__v1__audit_service__list_audit),
    M(vault__v1__role_service__create_role),
    M(vault__v1__role_service__get_role),
    M(vault__v1__role_service__list_roles),
    M(vault__v1__role_service__update_role),
    M(vault__v1__role_service__delete_role),
    M(vault__v1__data_key_service__rotate_data_key),
    M(vault__v1__ops_service__get_metrics),
    M(sandbox__v1__sandbox_service__provision),
    M(sandbox__v1__sandbox_service__end_turn),
    M(sandbox__v1__sandbox_service__list_sandboxes),
    M(brain__v1__agent_service__create_agent),
    M(brain__v1__environment_service__create_environment),
    M(brain__v1__environment_service__update_environment),
    M(brain__v1__session_service__create_session),
    M(brain__v1__session_service__get_session),
    M(brain__v1__event_service__send_events),
    M(brain__v1__event_service__list_events),
#undef M
    &grpc__health__v1__health__check__rpc,
};

struct answer {
    struct ag_loop *loop;
    bool is_error;
};

static ProtobufCMessage *build(const ProtobufCMessageDescriptor *d,
                               const json_t *in, struct ag_arena *arena);
static json_t *show(const ProtobufCMessage *m);

static void
usage(const char *what)
{
    fprintf(stderr, "vault_call: %s\n", what);
    exit(2);
}

/* ---- JSON to message --------------------------------------------------- */

static size_t
size_of(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    }
    return 0;
}

static ProtobufCBinaryData
bytes_from(const json_t *in, struct ag_arena *arena)
{
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf raw = AG_BUF_INIT(1 << 20);
    ag_str_t s;

    if (json_is_string(in)) {
        s = ag_arena_copy(arena, ag_json_str(in));
    } else if (json_is_string(json_object_get(in, "hex"))) {
        if (ag_buf_append_hex(&raw, ag_json_str(json_object_get(in, "hex")),
                              &err) < 0)
            usage("bad hex");
        s = ag_arena_copy(arena, ag_buf_str(&raw));
    } else {
        if (ag_json_dump(in, &raw, &err) < 0)
            usage(err.msg);
        s = ag_arena_copy(arena, ag_buf_str(&raw));
    }
    ag_buf_release(&raw);
    return (ProtobufCBinaryData){s.n, (uint8_t *)s.p};
}

static void
put(const ProtobufCFieldDescriptor *f, void *at, const json_t *in,
    struct ag_arena *arena)
{
    if (f->type == PROTOBUF_C_TYPE_STRING)
        *(char **)at = ag_arena_cstr(arena, ag_json_str(in));
    else if (f->type == PROTOBUF_C_TYPE_BYTES)
        *(ProtobufCBinaryData *)at = bytes_from(in, arena);
    else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        *(ProtobufCMessage **)at = build(f->descriptor, in, arena);
    else if (f->type == PROTOBUF_C_TYPE_BOOL)
        *(protobuf_c_boolean *)at = json_is_true(in);
    else if (size_of(f) == 8)
        *(int64_t *)at = json_integer_value(in);
    else
        *(int32_t *)at = (int32_t)json_integer_value(in);
}

static void
put_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
          const json_t *in, struct ag_arena *arena)
{
    char *at = (char *)m + f->offset;
    size_t *n = (size_t *)(void *)((char *)m + f->quantifier_offset);

    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        char *list = ag_arena_alloc(arena,
                                    (json_array_size(in) + 1) * size_of(f));
        for (size_t i = 0; i < json_array_size(in); i++)
            put(f, list + i * size_of(f), json_array_get(in, i), arena);
        *(char **)(void *)at = list;
        *n = json_array_size(in);
        return;
    }
    put(f, at, in, arena);
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        *(uint32_t *)(void *)n = f->id;
}

static ProtobufCMessage *
build(const ProtobufCMessageDescriptor *d, const json_t *in,
      struct ag_arena *arena)
{
    ProtobufCMessage *m = ag_arena_alloc(arena, d->sizeof_message);
    const char *key;
    json_t *value;

    protobuf_c_message_init(d, m);
    json_object_foreach((json_t *)in, key, value) {
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field_by_name(d, key);
        if (f == NULL)
            usage(key);
        put_field(m, f, value, arena);
    }
    return m;
}

/* ---- message to JSON --------------------------------------------------- */

static json_t *
bytes_shown(const ProtobufCBinaryData *b)
{
    ag_str_t s = ag_str_n(b->data, b->len);
    struct ag_buf hex = AG_BUF_INIT(1 << 22);

    if (ag_str_is_utf8(s))
        return ag_json_from_str(s);
    ag_buf_add_hex(&hex, s);
    json_t *out = json_pack("{s:s}", "hex", ag_buf_cstr(&hex));
    ag_buf_release(&hex);
    return out;
}

static json_t *
show_one(const ProtobufCFieldDescriptor *f, const void *at)
{
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return ag_json_from_str(ag_str(*(char *const *)at));
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return bytes_shown(at);
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *m = *(ProtobufCMessage *const *)at;
        return m == NULL ? json_null() : show(m);
    }
    if (f->type == PROTOBUF_C_TYPE_BOOL)
        return json_boolean(*(const protobuf_c_boolean *)at);
    return json_integer(size_of(f) == 8 ? *(const int64_t *)at
                                        : *(const int32_t *)at);
}

static json_t *
show(const ProtobufCMessage *m)
{
    json_t *out = json_object();

    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const char *at = (const char *)m + f->offset;
        const void *quantifier = (const char *)m + f->quantifier_offset;
        json_t *v;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            const char *list = *(char *const *)(const void *)at;
            v = json_array();
            for (size_t k = 0; k < *(const size_t *)quantifier; k++)
                json_array_append_new(v, show_one(f, list + k * size_of(f)));
        } else if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
                   && *(const uint32_t *)quantifier != f->id) {
            v = json_null();
        } else {
            v = show_one(f, at);
        }
        json_object_set_new(out, f->name, v);
    }
    return out;
}

static void
on_done(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct answer *a = arg;
    struct ag_buf text = AG_BUF_INIT(64 << 20);
    struct ag_err ignored = AG_ERR_INIT;
    json_t *j = reply != NULL
                    ? show(reply)
                    : json_pack("{s:{s:s,s:s}}", "error", "kind",
                                ag_err_kind_name(err->kind), "message",
                                err->msg);
    a->is_error = reply == NULL;
    ag_json_dump(j, &text, &ignored);
    printf("%s\n", ag_buf_cstr(&text));
    fflush(stdout);
    json_decref(j);
    ag_buf_release(&text);
    ag_loop_stop(a->loop);
}

static void
call(struct ag_rpc_channel *ch, const struct ag_rpc_method *method,
     const struct ag_rpc_call_opts *opts, const char *text, struct answer *a)
{
    struct ag_err err = AG_ERR_INIT;
    json_t *j = ag_json_parse(ag_str(text), &err);
    struct ag_arena *arena = ag_arena_new();

    if (!json_is_object(j))
        usage("the request is no JSON object");
    ag_rpc_unary(ch, method, build(method->input, j, arena), opts, on_done, a);
    ag_loop_run(a->loop);
    ag_arena_free(arena);
    json_decref(j);
}

int
main(int argc, char **argv)
{
    struct ag_rpc_metadata meta[META_MAX];
    struct ag_rpc_call_opts opts = {TIMEOUT_MS, meta, 0};
    const struct ag_rpc_method *method = NULL;
    struct ag_err err = AG_ERR_INIT;
    struct answer a = {NULL, false};
    int at = 3;

    if (argc < 4)
        usage("TARGET METHOD [-m key=value]… JSON|-");
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (strcmp(methods[i]->path, argv[2]) == 0)
            method = methods[i];
    if (method == NULL)
        usage("unknown method");
    for (; at + 2 < argc && strcmp(argv[at], "-m") == 0; at += 2) {
        char *eq = strchr(argv[at + 1], '=');
        if (eq == NULL || opts.n_metadata == META_MAX)
            usage("-m key=value");
        *eq = '\0';
        meta[opts.n_metadata++] =
            (struct ag_rpc_metadata){argv[at + 1], ag_str(eq + 1)};
    }
    a.loop = ag_loop_new(&err);
    struct ag_rpc *rpc = ag_rpc_new(a.loop, &err);
    if (rpc == NULL)
        usage(err.msg);
    struct ag_rpc_channel *ch = ag_rpc_channel_new(rpc, argv[1]);
    if (strcmp(argv[at], "-") != 0) {
        call(ch, method, &opts, argv[at], &a);
    } else {
        char *line = NULL;
        size_t cap = 0;
        while (getline(&line, &cap, stdin) > 0)
            call(ch, method, &opts, line, &a);
        free(line);
    }
    ag_rpc_channel_free(ch);
    ag_rpc_free(rpc);
    ag_loop_free(a.loop);
    return a.is_error;
}
