/* Fields of a list's response, found by their names. Pure. */
#include "lib/rpc_page.h"

#include "lib/err.h"

static const ProtobufCFieldDescriptor *
field_of(const ProtobufCMessage *m, const char *name, ProtobufCType type)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);

    ag_assert(f != NULL && f->type == type);
    return f;
}

static void *
member(ProtobufCMessage *m, unsigned offset)
{
    return (char *)m + offset;
}

static void
set_data(ProtobufCMessage *out, ProtobufCMessage **data, size_t n)
{
    const ProtobufCFieldDescriptor *f =
        field_of(out, "data", PROTOBUF_C_TYPE_MESSAGE);

    ag_assert(f->label == PROTOBUF_C_LABEL_REPEATED);
    memcpy(member(out, f->offset), &data, sizeof(data));
    memcpy(member(out, f->quantifier_offset), &n, sizeof(n));
}

static void
set_next_page(ProtobufCMessage *out, ProtobufCMessage *last)
{
    const ProtobufCFieldDescriptor *id =
        field_of(last, "id", PROTOBUF_C_TYPE_STRING);
    const ProtobufCFieldDescriptor *f =
        field_of(out, "next_page", PROTOBUF_C_TYPE_STRING);

    ag_assert((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0);
    memcpy(member(out, f->offset), member(last, id->offset), sizeof(char *));
    memcpy(member(out, f->quantifier_offset), &f->id, sizeof(f->id));
}

ProtobufCMessage *
ag_rpc_page(struct ag_arena *arena, const ProtobufCMessageDescriptor *response,
            ProtobufCMessage **data, size_t n, bool has_more)
{
    ProtobufCMessage *out = ag_arena_alloc(arena, response->sizeof_message);

    protobuf_c_message_init(response, out);
    set_data(out, data, n);
    if (has_more) {
        ag_assert(n > 0);
        set_next_page(out, data[n - 1]);
    }
    return out;
}
