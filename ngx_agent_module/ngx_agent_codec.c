/*
 * JSON and query -> protobuf, written straight to the wire by walking the
 * descriptor. What a client sent is checked here and nowhere later: types,
 * ranges, unknown and doubled names, depth, UTF-8, NUL. The way back is in
 * ngx_agent_codec_json.c. Called by nginx workers and by the fuzz target.
 */
#include "ngx_agent_module/ngx_agent_codec.h"

#include <stdio.h>

#include "lib/json.h"

/* Where in the request we are, for messages: "config.hosts[3]". */
struct place {
    char text[120];
    size_t n;
};

static void
place_enter(struct place *at, const char *fmt, ag_str_t name, size_t index)
{
    size_t room = sizeof(at->text) - at->n;
    int n = fmt == NULL ? snprintf(at->text + at->n, room, "[%zu]", index)
                        : snprintf(at->text + at->n, room, "%s%.*s",
                                   at->n ? fmt : "", AG_FMT(name));

    /* What does not fit is left out: the message stays true, only shorter. */
    if (n > 0 && (size_t)n < room)
        at->n += (size_t)n;
    else
        at->text[at->n] = '\0';
}

static void
place_leave(struct place *at, size_t n)
{
    at->n = n;
    at->text[n] = '\0';
}

static int
refuse(const struct place *at, struct ag_err *err, const char *why)
{
    if (at->n == 0)
        return ag_err_set(err, AG_ERR_INVALID, "%s", why);
    return ag_err_set(err, AG_ERR_INVALID, "%s: %s", at->text, why);
}

static const char *
json_type_name(const json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

static int
wrong_type(const struct place *at, struct ag_err *err, const char *want,
           const json_t *have)
{
    char why[80];

    (void)snprintf(why, sizeof(why), "must be %s, not %s", want,
                   json_type_name(have));
    return refuse(at, err, why);
}

/* ---- wire ------------------------------------------------------------- */

static int
put_varint(struct ag_buf *out, uint64_t v, struct ag_err *err)
{
    char text[10];
    size_t n = 0;

    do {
        text[n++] = (char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        v >>= 7;
    } while (v != 0);
    return ag_buf_append(out, ag_str_n(text, n), err);
}

static int
put_number(const ProtobufCFieldDescriptor *f, uint64_t v, struct ag_buf *out,
           struct ag_err *err)
{
    if (put_varint(out, (uint64_t)f->id << 3, err) < 0)
        return -1;
    return put_varint(out, v, err);
}

static int
put_bytes(const ProtobufCFieldDescriptor *f, ag_str_t s, struct ag_buf *out,
          struct ag_err *err)
{
    if (put_varint(out, (uint64_t)f->id << 3 | 2, err) < 0
        || put_varint(out, s.n, err) < 0)
        return -1;
    return ag_buf_append(out, s, err);
}

/* ---- fields ----------------------------------------------------------- */

static bool
is_opaque(const ProtobufCFieldDescriptor *f)
{
    return f->type == PROTOBUF_C_TYPE_BYTES
           && ag_str_ends(ag_str(f->name), AG_STR("_json"));
}

/* The field whose JSON key is `key`; an opaque one drops its "_json". */
static const ProtobufCFieldDescriptor *
field_of(const ProtobufCMessageDescriptor *desc, ag_str_t key)
{
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &desc->fields[i];
        ag_str_t name = ag_str(f->name);
        if (is_opaque(f))
            name.n -= strlen("_json");
        if (ag_str_eq(name, key))
            return f;
    }
    return NULL;
}

static int
check_text(ag_str_t s, const struct place *at, struct ag_err *err)
{
    if (!ag_str_is_utf8(s))
        return refuse(at, err, "must be UTF-8");
    if (s.n > 0 && memchr(s.p, '\0', s.n) != NULL)
        return refuse(at, err, "must not hold a NUL character");
    return 0;
}

/* No string in an opaque value may hold NUL: PostgreSQL cannot store it. */
static int
check_opaque(json_t *j, struct place *at, struct ag_err *err)
{
    size_t n = at->n, i;
    const char *key;
    size_t key_n;
    json_t *v;

    if (json_is_string(j))
        return check_text(ag_json_str(j), at, err);
    if (json_is_array(j)) {
        json_array_foreach(j, i, v) {
            place_enter(at, NULL, (ag_str_t){NULL, 0}, i);
            if (check_opaque(v, at, err) < 0)
                return -1;
            place_leave(at, n);
        }
    }
    if (json_is_object(j)) {
        json_object_keylen_foreach(j, key, key_n, v) {
            if (check_text(ag_str_n(key, key_n), at, err) < 0)
                return -1;
            place_enter(at, ".", ag_str_n(key, key_n), 0);
            if (check_opaque(v, at, err) < 0)
                return -1;
            place_leave(at, n);
        }
    }
    return 0;
}

static int
put_opaque(const ProtobufCFieldDescriptor *f, json_t *j, struct place *at,
           struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(out->max);

    if (check_opaque(j, at, err) < 0 || ag_json_dump(j, &text, err) < 0)
        return -1;
    return put_bytes(f, ag_buf_str(&text), out, err);
}

static int
put_string(const ProtobufCFieldDescriptor *f, ag_str_t s,
           const struct place *at, struct ag_buf *out, struct ag_err *err)
{
    if (check_text(s, at, err) < 0)
        return -1;
    return put_bytes(f, s, out, err);
}

static int
put_base64(const ProtobufCFieldDescriptor *f, ag_str_t s,
           const struct place *at, struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf raw = AG_BUF_INIT(out->max);

    if (ngx_agent_base64_append(&raw, s, err) < 0)
        return refuse(at, err, "must be base64");
    return put_bytes(f, ag_buf_str(&raw), out, err);
}

static int
put_integer(const ProtobufCFieldDescriptor *f, int64_t v,
            const struct place *at, struct ag_buf *out, struct ag_err *err)
{
    bool fits = true;

    if (f->type == PROTOBUF_C_TYPE_INT32)
        fits = v >= INT32_MIN && v <= INT32_MAX;
    if (f->type == PROTOBUF_C_TYPE_UINT32)
        fits = v >= 0 && v <= UINT32_MAX;
    if (f->type == PROTOBUF_C_TYPE_UINT64)
        fits = v >= 0;
    if (!fits)
        return refuse(at, err, "is out of range");
    return put_number(f, (uint64_t)v, out, err);
}

static int
put_enum(const ProtobufCFieldDescriptor *f, ag_str_t name,
         const struct place *at, struct ag_buf *out, struct ag_err *err)
{
    const ProtobufCEnumDescriptor *e = f->descriptor;

    for (unsigned i = 0; i < e->n_values; i++)
        if (ag_str_is(name, e->values[i].name))
            return put_number(f, (uint64_t)e->values[i].value, out, err);
    return refuse(at, err, "is not one of the names that are known here");
}

static int put_object(const ProtobufCMessageDescriptor *desc, json_t *obj,
                      uint64_t taken, struct place *at, struct ag_buf *out,
                      struct ag_err *err);

static int
put_message(const ProtobufCFieldDescriptor *f, json_t *v, struct place *at,
            struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf inner = AG_BUF_INIT(out->max);

    if (put_object(f->descriptor, v, 0, at, &inner, err) < 0)
        return -1;
    return put_bytes(f, ag_buf_str(&inner), out, err);
}

/* What JSON type a field wants, for messages. */
static const char *
wanted(const ProtobufCFieldDescriptor *f)
{
    if (f->type == PROTOBUF_C_TYPE_BOOL)
        return "true or false";
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return "an object";
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES
        || f->type == PROTOBUF_C_TYPE_ENUM)
        return "a string";
    return "an integer";
}

static bool
is_wanted(const ProtobufCFieldDescriptor *f, const json_t *v)
{
    if (f->type == PROTOBUF_C_TYPE_BOOL)
        return json_is_boolean(v);
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return json_is_object(v);
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES
        || f->type == PROTOBUF_C_TYPE_ENUM)
        return json_is_string(v);
    return json_is_integer(v);
}

static int
put_value(const ProtobufCFieldDescriptor *f, json_t *v, struct place *at,
          struct ag_buf *out, struct ag_err *err)
{
    if (is_opaque(f))
        return put_opaque(f, v, at, out, err);
    if (!is_wanted(f, v))
        return wrong_type(at, err, wanted(f), v);
    if (f->type == PROTOBUF_C_TYPE_BOOL)
        return put_number(f, json_is_true(v), out, err);
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return put_string(f, ag_json_str(v), at, out, err);
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return put_base64(f, ag_json_str(v), at, out, err);
    if (f->type == PROTOBUF_C_TYPE_ENUM)
        return put_enum(f, ag_json_str(v), at, out, err);
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return put_message(f, v, at, out, err);
    return put_integer(f, json_integer_value(v), at, out, err);
}

static int
put_field(const ProtobufCFieldDescriptor *f, json_t *v, struct place *at,
          struct ag_buf *out, struct ag_err *err)
{
    size_t n = at->n, i;
    json_t *item;

    if (json_is_null(v))
        return 0;
    if (f->label != PROTOBUF_C_LABEL_REPEATED)
        return put_value(f, v, at, out, err);
    if (!json_is_array(v))
        return wrong_type(at, err, "an array", v);
    json_array_foreach(v, i, item) {
        place_enter(at, NULL, (ag_str_t){NULL, 0}, i);
        if (put_value(f, item, at, out, err) < 0)
            return -1;
        place_leave(at, n);
    }
    return 0;
}

static uint64_t
bit_of(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *f)
{
    return (uint64_t)1 << (f - desc->fields);
}

/* `taken` marks fields that the path has filled: the body must not. */
static int
put_object(const ProtobufCMessageDescriptor *desc, json_t *obj, uint64_t taken,
           struct place *at, struct ag_buf *out, struct ag_err *err)
{
    const char *key;
    size_t key_n, n = at->n;
    json_t *v;

    json_object_keylen_foreach(obj, key, key_n, v) {
        ag_str_t name = ag_str_n(key, key_n);
        const ProtobufCFieldDescriptor *f = field_of(desc, name);
        if (check_text(name, at, err) < 0)
            return -1;
        place_enter(at, ".", name, 0);
        if (f == NULL)
            return refuse(at, err, "unknown field");
        if (taken & bit_of(desc, f))
            return refuse(at, err, "is given by the path, not in the body");
        if (put_field(f, v, at, out, err) < 0)
            return -1;
        place_leave(at, n);
    }
    return 0;
}

/* ---- path and query --------------------------------------------------- */

static int
put_text(const ProtobufCFieldDescriptor *f, ag_str_t text, struct place *at,
         struct ag_buf *out, struct ag_err *err)
{
    int64_t v;

    if (f->type == PROTOBUF_C_TYPE_STRING)
        return put_string(f, text, at, out, err);
    if (f->type == PROTOBUF_C_TYPE_ENUM)
        return put_enum(f, text, at, out, err);
    if (f->type == PROTOBUF_C_TYPE_BOOL) {
        if (ag_str_is(text, "true") || ag_str_is(text, "false"))
            return put_number(f, ag_str_is(text, "true"), out, err);
        return refuse(at, err, "must be true or false");
    }
    if (f->type == PROTOBUF_C_TYPE_BYTES
        || f->type == PROTOBUF_C_TYPE_MESSAGE)
        return refuse(at, err, "cannot stand in a query");
    if (ag_str_i64(text, &v) < 0)
        return refuse(at, err, "must be an integer");
    return put_integer(f, v, at, out, err);
}

/* One `name=value` of the query. */
static int
put_pair(const struct ngx_agent_request *rq, ag_str_t name, ag_str_t value,
         uint64_t *seen, uint64_t hidden, struct ag_buf *out,
         struct ag_err *err)
{
    const ProtobufCFieldDescriptor *f;
    struct place at = {"", 0};
    bool is_list = ag_str_ends(name, AG_STR("[]"));

    if (is_list)
        name.n -= 2;
    if (check_text(name, &at, err) < 0)
        return -1;
    if (ag_str_is(name, "beta"))
        return 0;
    place_enter(&at, ".", name, 0);
    f = field_of(rq->desc, name);
    if (f == NULL || rq->has_body
        || (is_list && f->label != PROTOBUF_C_LABEL_REPEATED))
        return refuse(&at, err, "unknown query parameter");
    if (hidden & bit_of(rq->desc, f))
        return 0;
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        if (*seen & bit_of(rq->desc, f))
            return refuse(&at, err, "is given twice");
        *seen |= bit_of(rq->desc, f);
    }
    return put_text(f, value, &at, out, err);
}

static int
put_query(const struct ngx_agent_request *rq, uint64_t *seen, uint64_t hidden,
          struct ag_arena *arena, struct ag_buf *out, struct ag_err *err)
{
    ag_str_t query = rq->query, pair, name, value;

    while (ag_str_cut(&query, '&', &pair)) {
        if (pair.n == 0)
            continue;
        value = pair;
        (void)ag_str_cut(&value, '=', &name);
        if (!ngx_agent_percent_decode(name, true, arena, &name)
            || !ngx_agent_percent_decode(value, true, arena, &value))
            return ag_err_set(err, AG_ERR_INVALID,
                              "the query is not percent-encoded as it should");
        if (put_pair(rq, name, value, seen, hidden, out, err) < 0)
            return -1;
    }
    return 0;
}

static int
put_params(const struct ngx_agent_request *rq, uint64_t *seen,
           uint64_t *hidden, struct ag_buf *out, struct ag_err *err)
{
    for (size_t i = 0; i < rq->n_params; i++) {
        const struct ngx_agent_param *p = &rq->params[i];
        const ProtobufCFieldDescriptor *f = field_of(rq->desc, p->name);
        struct place at = {"", 0};
        if (f == NULL && p->is_header)
            continue;
        place_enter(&at, ".", p->name, 0);
        if (f == NULL)
            return refuse(&at, err, "unknown path parameter");
        *seen |= bit_of(rq->desc, f);
        if (p->is_header)
            *hidden |= bit_of(rq->desc, f);
        if (put_text(f, p->value, &at, out, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- body ------------------------------------------------------------- */

/* Deepest nesting of brackets, so that no parser meets more. */
static size_t
depth_of(ag_str_t s)
{
    size_t depth = 0, deepest = 0;
    bool in_string = false;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > deepest)
                deepest = depth;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

static bool
is_blank(ag_str_t s)
{
    for (size_t i = 0; i < s.n; i++)
        if (strchr(" \t\r\n", s.p[i]) == NULL || s.p[i] == '\0')
            return false;
    return true;
}

static int
put_body(const struct ngx_agent_request *rq, uint64_t taken,
         struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    struct place at = {"", 0};

    if (is_blank(rq->body))
        return 0;
    if (!rq->has_body)
        return ag_err_set(err, AG_ERR_INVALID,
                          "body: this request takes none");
    if (!ag_str_is_utf8(rq->body))
        return ag_err_set(err, AG_ERR_INVALID, "body: must be UTF-8");
    if (depth_of(rq->body) > rq->depth_max)
        return ag_err_set(err, AG_ERR_INVALID,
                          "body: nested deeper than %zu levels",
                          rq->depth_max);
    j = ag_json_parse(rq->body, err);
    if (j == NULL) {
        err->kind = AG_ERR_INVALID;
        return ag_err_wrap(err, "body");
    }
    if (!json_is_object(j)) {
        place_enter(&at, ".", AG_STR("body"), 0);
        return wrong_type(&at, err, "an object", j);
    }
    return put_object(rq->desc, j, taken, &at, out, err);
}

int
ngx_agent_codec_encode(const struct ngx_agent_request *rq,
                       struct ag_arena *arena, struct ag_buf *out,
                       struct ag_err *err)
{
    uint64_t seen = 0, hidden = 0;

    ag_assert(rq->desc->n_fields <= 64);
    if (put_params(rq, &seen, &hidden, out, err) < 0)
        return -1;
    if (put_query(rq, &seen, hidden, arena, out, err) < 0)
        return -1;
    return put_body(rq, seen, out, err);
}
