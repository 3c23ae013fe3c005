/*
 * JSON on jansson. The depth bound is checked before parsing, since jansson's
 * own (2048) is a build option.
 */
#include "lib/json.h"

void
ag_json_decref(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

/* Deepest nesting of brackets outside strings. */
static size_t
depth_of(ag_str_t text)
{
    size_t depth = 0, most = 0;
    bool in_string = false;

    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > most)
                most = depth;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return most;
}

json_t *
ag_json_parse(ag_str_t text, struct ag_err *err)
{
    json_error_t where;
    json_t *j;

    if (text.n == 0) {
        ag_err_set(err, AG_ERR_INVALID, "empty where JSON was expected");
        return NULL;
    }
    if (depth_of(text) > AG_JSON_DEPTH_MAX) {
        ag_err_set(err, AG_ERR_INVALID, "JSON is nested deeper than %d",
                   AG_JSON_DEPTH_MAX);
        return NULL;
    }
    j = json_loadb(text.p, text.n,
                   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL,
                   &where);
    if (j == NULL)
        ag_err_set(err, AG_ERR_INVALID, "JSON, line %d, column %d: %s",
                   where.line, where.column, where.text);
    return j;
}

struct sink {
    struct ag_buf *out;
    struct ag_err *err;
};

static int
sink_write(const char *p, size_t n, void *arg)
{
    struct sink *s = arg;

    return ag_buf_append(s->out, ag_str_n(p, n), s->err);
}

static int
dump(const json_t *j, struct ag_buf *out, size_t flags, struct ag_err *err)
{
    struct sink s = {out, err};
    size_t start = out->n;

    err->kind = AG_ERR_NONE;
    if (json_dump_callback(j, sink_write, &s,
                           JSON_COMPACT | JSON_ENCODE_ANY | flags)
        == 0)
        return 0;
    out->n = start;
    if (err->kind == AG_ERR_NONE)
        ag_err_set(err, AG_ERR_INTERNAL, "value cannot be written as JSON");
    return -1;
}

int
ag_json_dump(const json_t *j, struct ag_buf *out, struct ag_err *err)
{
    return dump(j, out, 0, err);
}

int
ag_json_dump_sorted(const json_t *j, struct ag_buf *out, struct ag_err *err)
{
    return dump(j, out, JSON_SORT_KEYS, err);
}

int
ag_json_get_str(const json_t *obj, const char *key, ag_str_t *out,
                struct ag_err *err)
{
    const json_t *v = json_object_get(obj, key);

    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return ag_err_set(err, AG_ERR_INVALID, "%s: must be a string", key);
    *out = ag_json_str(v);
    return 0;
}

int
ag_json_get_i64(const json_t *obj, const char *key, int64_t *out,
                struct ag_err *err)
{
    const json_t *v = json_object_get(obj, key);

    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_integer(v))
        return ag_err_set(err, AG_ERR_INVALID, "%s: must be an integer", key);
    *out = json_integer_value(v);
    return 0;
}

int
ag_json_get_bool(const json_t *obj, const char *key, bool *out,
                 struct ag_err *err)
{
    const json_t *v = json_object_get(obj, key);

    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_boolean(v))
        return ag_err_set(err, AG_ERR_INVALID, "%s: must be true or false",
                          key);
    *out = json_is_true(v);
    return 0;
}

ag_str_t
ag_json_str(const json_t *j)
{
    if (!json_is_string(j))
        return (ag_str_t){NULL, 0};
    return ag_str_n(json_string_value(j), json_string_length(j));
}

ag_str_t
ag_json_member(const json_t *obj, const char *key)
{
    return ag_json_str(json_object_get(obj, key));
}

/* Append `s` with every malformed byte replaced by U+FFFD. */
static void
add_clean(struct ag_buf *b, ag_str_t s)
{
    while (s.n > 0) {
        unsigned char c = (unsigned char)s.p[0];
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

        if (len > s.n || !ag_str_is_utf8(ag_str_n(s.p, len))) {
            ag_buf_add(b, AG_STR("\xef\xbf\xbd"));
            len = 1;
        } else {
            ag_buf_add(b, ag_str_n(s.p, len));
        }
        s.p += len;
        s.n -= len;
    }
}

json_t *
ag_json_from_str(ag_str_t s)
{
    json_t *j;

    if (ag_str_is_utf8(s)) {
        j = json_stringn_nocheck(s.p == NULL ? "" : s.p, s.n);
    } else {
        AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(s.n * 3);

        add_clean(&b, s);
        j = json_stringn_nocheck(b.p, b.n);
    }
    ag_assert(j != NULL);
    return j;
}
