/*
 * Walks the wire format of protobuf along a descriptor. For rpc_call.c, on the
 * queue's thread: bytes come from any peer.
 */
#include "lib/rpc_wire.h"

#include <stdint.h>

/* As deep as unpacking goes. */
#define DEPTH_MAX 100

enum wire { VARINT, FIXED64, BYTES, GROUP_BEGIN, GROUP_END, FIXED32 };

/* Take a varint off the front; false at the end or when it is too long. */
static bool
take_varint(ag_str_t *s, uint64_t *out)
{
    uint64_t v = 0;

    for (int shift = 0; shift < 64 && s->n > 0; shift += 7) {
        unsigned char c = (unsigned char)*s->p++;
        s->n--;
        v |= (uint64_t)(c & 0x7f) << shift;
        if ((c & 0x80) == 0) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool
take_bytes(ag_str_t *s, uint64_t n, ag_str_t *out)
{
    if (n > s->n)
        return false;
    *out = ag_str_n(s->p, (size_t)n);
    s->p += n;
    s->n -= (size_t)n;
    return true;
}

/* Take a field off the front; `out` is empty but for BYTES. */
static bool
take_field(ag_str_t *s, uint64_t *number, ag_str_t *out)
{
    uint64_t tag, n = 0;

    *out = ag_str_n(NULL, 0);
    if (!take_varint(s, &tag))
        return false;
    *number = tag >> 3;
    switch ((enum wire)(tag & 7)) {
    case VARINT:
        return take_varint(s, &n);
    case FIXED64:
        return take_bytes(s, 8, out);
    case FIXED32:
        return take_bytes(s, 4, out);
    case BYTES:
        return take_varint(s, &n) && take_bytes(s, n, out);
    case GROUP_BEGIN:
    case GROUP_END:
    default:
        return false;
    }
}

static const char *
find_nul(const ProtobufCMessageDescriptor *desc, ag_str_t s, int depth)
{
    const ProtobufCFieldDescriptor *f;
    const char *found = NULL;
    uint64_t number;
    ag_str_t value;

    while (found == NULL && s.n > 0 && take_field(&s, &number, &value)) {
        f = number > UINT32_MAX ? NULL
                                : protobuf_c_message_descriptor_get_field(
                                    desc, (unsigned)number);
        if (f == NULL || value.n == 0)
            continue;
        if (f->type == PROTOBUF_C_TYPE_STRING
            && memchr(value.p, 0, value.n) != NULL)
            found = f->name;
        else if (f->type == PROTOBUF_C_TYPE_MESSAGE && depth < DEPTH_MAX)
            found = find_nul(f->descriptor, value, depth + 1);
    }
    return found;
}

const char *
ag_rpc_wire_nul(const ProtobufCMessageDescriptor *desc, ag_str_t bytes)
{
    return find_nul(desc, bytes, 0);
}
