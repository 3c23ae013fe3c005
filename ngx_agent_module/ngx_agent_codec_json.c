/*
 * Protobuf -> JSON by descriptor: the answers of services. Every field is
 * written, as the contract's clients expect: absent ones as null, lists that
 * are empty as []. Opaque fields are spliced as the service stored them.
 */
#include <stdlib.h>

#include "ngx_agent_module/ngx_agent_codec.h"

static const char base64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
ngx_agent_base64_add(struct ag_buf *out, ag_str_t s)
{
    for (size_t i = 0; i < s.n; i += 3) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        size_t left = s.n - i;
        uint32_t v = (uint32_t)p[0] << 16
                     | (left > 1 ? (uint32_t)p[1] << 8 : 0)
                     | (left > 2 ? p[2] : 0);
        ag_buf_addc(out, base64[v >> 18]);
        ag_buf_addc(out, base64[v >> 12 & 63]);
        ag_buf_addc(out, left > 1 ? base64[v >> 6 & 63] : '=');
        ag_buf_addc(out, left > 2 ? base64[v & 63] : '=');
    }
}

int
ngx_agent_base64_append(struct ag_buf *out, ag_str_t text, struct ag_err *err)
{
    AG_AUTO(ag_freep) char *url = NULL;

    /* The library knows the URL alphabet without padding. */
    if (text.n % 4 == 0)
        for (int k = 0; k < 2 && text.n > 0 && text.p[text.n - 1] == '='; k++)
            text.n--;
    url = ag_str_dup(text);
    for (size_t i = 0; i < text.n; i++) {
        if (url[i] == '-' || url[i] == '_')
            return ag_err_set(err, AG_ERR_INVALID, "not standard base64");
        if (url[i] == '+')
            url[i] = '-';
        if (url[i] == '/')
            url[i] = '_';
    }
    return ag_buf_append_b64url(out, ag_str_n(url, text.n), err);
}

static bool
is_opaque(const ProtobufCFieldDescriptor *f)
{
    return f->type == PROTOBUF_C_TYPE_BYTES
           && ag_str_ends(ag_str(f->name), AG_STR("_json"));
}

static void
add_bytes(struct ag_buf *out, const ProtobufCFieldDescriptor *f,
          const ProtobufCBinaryData *data)
{
    ag_str_t s = ag_str_n(data->data, data->len);

    if (!is_opaque(f)) {
        ag_buf_addc(out, '"');
        ngx_agent_base64_add(out, s);
        ag_buf_addc(out, '"');
    } else if (s.n == 0) {
        ag_buf_add(out, AG_STR("null"));
    } else {
        ag_buf_add(out, s);
    }
}

static void
add_enum(struct ag_buf *out, const ProtobufCFieldDescriptor *f, int value)
{
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(f->descriptor, value);

    /* A newer service may know values that this module does not. */
    if (v == NULL)
        ag_buf_addf(out, "%d", value);
    else
        ag_buf_addf(out, "\"%s\"", v->name);
}

static int add_message(struct ag_buf *out, const ProtobufCMessage *m,
                       struct ag_err *err);

/* One value; `p` points at it, not at the field. */
static int
add_value(struct ag_buf *out, const ProtobufCFieldDescriptor *f,
          const void *p, struct ag_err *err)
{
    const ProtobufCMessage *m;

    switch ((int)f->type) {
    case PROTOBUF_C_TYPE_STRING:
        ag_buf_add_json(out, ag_str(*(char *const *)p));
        return 0;
    case PROTOBUF_C_TYPE_BYTES:
        add_bytes(out, f, p);
        return 0;
    case PROTOBUF_C_TYPE_BOOL:
        ag_buf_add(out, *(const protobuf_c_boolean *)p ? AG_STR("true")
                                                       : AG_STR("false"));
        return 0;
    case PROTOBUF_C_TYPE_INT32:
        ag_buf_addf(out, "%d", *(const int32_t *)p);
        return 0;
    case PROTOBUF_C_TYPE_INT64:
        ag_buf_addf(out, "%lld", (long long)*(const int64_t *)p);
        return 0;
    case PROTOBUF_C_TYPE_UINT32:
        ag_buf_addf(out, "%u", *(const uint32_t *)p);
        return 0;
    case PROTOBUF_C_TYPE_UINT64:
        ag_buf_addf(out, "%llu", (unsigned long long)*(const uint64_t *)p);
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        add_enum(out, f, *(const int *)p);
        return 0;
    case PROTOBUF_C_TYPE_MESSAGE:
        m = *(ProtobufCMessage *const *)p;
        if (m != NULL)
            return add_message(out, m, err);
        ag_buf_add(out, AG_STR("null"));
        return 0;
    default:
        return ag_err_set(err, AG_ERR_INTERNAL, "%s: type is not known here",
                          f->name);
    }
}

static size_t
size_of(const ProtobufCFieldDescriptor *f)
{
    switch ((int)f->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        return 8;
    default:
        return 4;
    }
}

static int
add_list(struct ag_buf *out, const ProtobufCFieldDescriptor *f,
         const char *base, struct ag_err *err)
{
    size_t n = *(const size_t *)(base + f->quantifier_offset);
    const char *items = *(const char *const *)(base + f->offset);

    ag_buf_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            ag_buf_addc(out, ',');
        if (add_value(out, f, items + i * size_of(f), err) < 0)
            return -1;
    }
    ag_buf_addc(out, ']');
    return 0;
}

static int
add_field(struct ag_buf *out, const ProtobufCFieldDescriptor *f,
          const char *base, struct ag_err *err)
{
    ag_str_t key = ag_str(f->name);

    if (is_opaque(f))
        key.n -= strlen("_json");
    ag_buf_addf(out, "\"%.*s\":", AG_FMT(key));
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return add_list(out, f, base, err);
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        && *(const uint32_t *)(base + f->quantifier_offset) != f->id) {
        ag_buf_add(out, AG_STR("null"));
        return 0;
    }
    return add_value(out, f, base + f->offset, err);
}

static int
add_message(struct ag_buf *out, const ProtobufCMessage *m, struct ag_err *err)
{
    ag_buf_addc(out, '{');
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        if (i > 0)
            ag_buf_addc(out, ',');
        if (add_field(out, &m->descriptor->fields[i], (const char *)m, err)
            < 0)
            return -1;
        if (out->n > NGX_AGENT_JSON_MAX)
            return ag_err_set(err, AG_ERR_LIMIT, "the answer is too long");
    }
    ag_buf_addc(out, '}');
    return 0;
}

int
ngx_agent_codec_decode(const ProtobufCMessageDescriptor *desc,
                       ag_str_t message, struct ag_buf *out,
                       struct ag_err *err)
{
    ProtobufCMessage *m = protobuf_c_message_unpack(
        desc, NULL, message.n, (const uint8_t *)message.p);
    int rc;

    if (m == NULL)
        return ag_err_set(err, AG_ERR_CORRUPT, "not a message of type %s",
                          desc->name);
    rc = add_message(out, m, err);
    protobuf_c_message_free_unpacked(m, NULL);
    return rc;
}

int
ngx_agent_codec_text(const ProtobufCMessageDescriptor *desc, const char *name,
                     ag_str_t message, struct ag_buf *out, struct ag_err *err)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(desc, name);
    ProtobufCMessage *m = protobuf_c_message_unpack(
        desc, NULL, message.n, (const uint8_t *)message.p);
    int rc;

    if (m == NULL || f == NULL || f->type != PROTOBUF_C_TYPE_STRING) {
        protobuf_c_message_free_unpacked(m, NULL);
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "not a message of type %s with a text \"%s\"",
                          desc->name, name);
    }
    rc = ag_buf_append(
        out, ag_str(*(char *const *)((const char *)m + f->offset)), err);
    protobuf_c_message_free_unpacked(m, NULL);
    return rc;
}

bool
ngx_agent_codec_knows(const ProtobufCMessageDescriptor *desc)
{
    if (desc->n_fields > 64)
        return false;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &desc->fields[i];
        switch ((int)f->type) {
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_BYTES:
        case PROTOBUF_C_TYPE_BOOL:
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_ENUM:
            break;
        case PROTOBUF_C_TYPE_MESSAGE:
            if (!ngx_agent_codec_knows(f->descriptor))
                return false;
            break;
        default:
            return false;
        }
    }
    return true;
}
