/*
 * Checks of input and conversions of cells. Called by the handlers on the loop.
 */
#include "brain_svc/brain_check.h"

#include "lib/id.h"

#define METADATA_PAIRS 16
#define METADATA_KEY_BYTES 64
#define METADATA_VALUE_BYTES 512
#define LIMIT_DEFAULT 20
#define LIMIT_MAX 100

int
brain_check_text(const char *field, const char *value, size_t max,
                 struct ag_err *err)
{
    size_t n = value == NULL ? 0 : strlen(value);

    if (n > max)
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: has %zu bytes, at most %zu are allowed", field,
                          n, max);
    return 0;
}

int
brain_check_name(const char *field, const char *value, struct ag_err *err)
{
    if (value[0] == '\0')
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: is required, 1 to 256 bytes", field);
    for (const char *p = value; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return ag_err_set(err, AG_ERR_INVALID,
                              "%s: must have no control characters", field);
    return brain_check_text(field, value, 256, err);
}

static int
check_json(const char *field, ProtobufCBinaryData bytes, const char *def,
           bool is_array, struct ag_arena *arena, ag_str_t *out,
           struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;

    if (bytes.len == 0) {
        *out = ag_str(def);
        return 0;
    }
    j = ag_json_parse(brain_bytes(bytes), err);
    if (j == NULL)
        return ag_err_wrap(err, "%s", field);
    if (is_array ? !json_is_array(j) : !json_is_object(j))
        return ag_err_set(err, AG_ERR_INVALID, "%s: must be %s", field,
                          is_array ? "an array" : "an object");
    *out = ag_arena_copy(arena, brain_bytes(bytes));
    return 0;
}

int
brain_check_object(const char *field, ProtobufCBinaryData bytes,
                   const char *def, struct ag_arena *arena, ag_str_t *out,
                   struct ag_err *err)
{
    return check_json(field, bytes, def, false, arena, out, err);
}

int
brain_check_array(const char *field, ProtobufCBinaryData bytes, const char *def,
                  struct ag_arena *arena, ag_str_t *out, struct ag_err *err)
{
    return check_json(field, bytes, def, true, arena, out, err);
}

static int
check_pair(const char *key, json_t *value, struct ag_err *err)
{
    if (strlen(key) > METADATA_KEY_BYTES)
        return ag_err_set(err, AG_ERR_INVALID,
                          "metadata: a key has more than %d bytes",
                          METADATA_KEY_BYTES);
    if (!json_is_string(value))
        return ag_err_set(err, AG_ERR_INVALID, "metadata.%s: must be a string",
                          key);
    if (json_string_length(value) > METADATA_VALUE_BYTES)
        return ag_err_set(err, AG_ERR_INVALID,
                          "metadata.%s: has more than %d bytes", key,
                          METADATA_VALUE_BYTES);
    return 0;
}

int
brain_check_metadata(ProtobufCBinaryData bytes, struct ag_arena *arena,
                     ag_str_t *out, json_t **parsed, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    const char *key;
    json_t *value;

    if (brain_check_object("metadata", bytes, "{}", arena, out, err) < 0)
        return -1;
    j = ag_json_parse(*out, err);
    ag_assert(j != NULL);
    if (json_object_size(j) > METADATA_PAIRS)
        return ag_err_set(err, AG_ERR_INVALID,
                          "metadata: has more than %d pairs", METADATA_PAIRS);
    json_object_foreach (j, key, value)
        if (check_pair(key, value, err) < 0)
            return -1;
    *parsed = ag_take(&j);
    return 0;
}

int
brain_check_id(const char *field, const char *value, const char *prefix,
               struct ag_err *err)
{
    if (!ag_id_is(ag_str(value), prefix))
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: \"%.64s\" is no identifier \"%s_…\"", field,
                          value, prefix);
    return 0;
}

int
brain_check_limit(int32_t limit, int *out, struct ag_err *err)
{
    if (limit < 0 || limit > LIMIT_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "limit: must be 1 to %d",
                          LIMIT_MAX);
    *out = limit == 0 ? LIMIT_DEFAULT : limit;
    return 0;
}

char *
brain_cell(const struct ag_db_result *res, int row, int col,
           struct ag_arena *arena)
{
    return ag_arena_cstr(arena, ag_db_get(res, row, col));
}

ProtobufCBinaryData
brain_cell_json(const struct ag_db_result *res, int row, int col,
                struct ag_arena *arena)
{
    return brain_data(ag_arena_copy(arena, ag_db_get(res, row, col)));
}

char **
brain_cell_list(const struct ag_db_result *res, int row, int col,
                struct ag_arena *arena, size_t *n)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    struct ag_err err;
    char **out;

    j = ag_json_parse(ag_db_get(res, row, col), &err);
    *n = json_array_size(j);
    out = ag_arena_alloc(arena, (*n + 1) * sizeof(*out));
    for (size_t i = 0; i < *n; i++)
        out[i] = ag_arena_cstr(arena, ag_json_str(json_array_get(j, i)));
    return out;
}

ag_str_t
brain_json_list(char **items, size_t n, struct ag_arena *arena)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(SIZE_MAX / 2);

    ag_buf_addc(&b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            ag_buf_addc(&b, ',');
        ag_buf_add_json(&b, ag_str(items[i]));
    }
    ag_buf_addc(&b, ']');
    return ag_arena_copy(arena, ag_buf_str(&b));
}
