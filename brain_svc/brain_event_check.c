/*
 * What callers may say in a session. Called by EventService; pure.
 */
#include "brain_svc/brain_event_check.h"

#include "brain_svc/brain_content.h"
#include "brain_svc/brain_log.h"

static int
check_content(const json_t *in, const char *key, struct ag_err *err)
{
    return brain_content_check(json_object_get(in, key), err);
}

static int
check_optional_content(const json_t *in, const char *key, struct ag_err *err)
{
    const json_t *content = json_object_get(in, key);

    return content == NULL || json_array_size(content) == 0
               ? 0
               : check_content(in, key, err);
}

static int
check_id(const json_t *in, const char *key, struct ag_err *err)
{
    ag_str_t id = ag_json_str(json_object_get(in, key));

    if (!ag_id_is(id, "sevt"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: \"%.*s\" is no event's id \"sevt_…\"", key,
                          AG_FMT(id));
    return 0;
}

static int
check_bool(const json_t *in, const char *key, struct ag_err *err)
{
    bool ignored;

    return ag_json_get_bool(in, key, &ignored, err);
}

static int
check_result(const json_t *in, const char *key, struct ag_err *err)
{
    ag_str_t result = ag_json_str(json_object_get(in, key));

    if (!ag_str_is(result, "allow") && !ag_str_is(result, "deny"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "result: must be \"allow\" or \"deny\"");
    return 0;
}

static int
check_deny_message(const json_t *in, const char *key, struct ag_err *err)
{
    ag_str_t result = ag_json_str(json_object_get(in, "result"));
    ag_str_t message = {NULL, 0};

    if (ag_json_get_str(in, key, &message, err) < 0)
        return -1;
    if (message.n > 0 && !ag_str_is(result, "deny"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "deny_message: is for the result \"deny\" only");
    return 0;
}

typedef int check_fn(const json_t *in, const char *key, struct ag_err *err);

/* The fields of each type; all else is refused by name. */
static const struct {
    const char *type, *key;
    check_fn *check;
} fields[] = {
    {"user.message", "content", check_content},
    {"user.interrupt", NULL, NULL},
    {"user.custom_tool_result", "custom_tool_use_id", check_id},
    {"user.custom_tool_result", "content", check_optional_content},
    {"user.custom_tool_result", "is_error", check_bool},
    {"user.tool_confirmation", "tool_use_id", check_id},
    {"user.tool_confirmation", "result", check_result},
    {"user.tool_confirmation", "deny_message", check_deny_message},
};

#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))

static bool
is_known(ag_str_t type, const char *key)
{
    if (strcmp(key, "type") == 0 || strcmp(key, "session_thread_id") == 0)
        return true;
    for (size_t i = 0; i < N_FIELDS; i++)
        if (ag_str_is(type, fields[i].type) && fields[i].key != NULL
            && strcmp(key, fields[i].key) == 0)
            return true;
    return false;
}

static int
check_type(ag_str_t type, struct ag_err *err)
{
    for (size_t i = 0; i < N_FIELDS; i++)
        if (ag_str_is(type, fields[i].type))
            return 0;
    return ag_err_set(err, AG_ERR_INVALID,
                      "type: \"%.*s\" is none of user.message, "
                      "user.interrupt, user.custom_tool_result, "
                      "user.tool_confirmation",
                      AG_FMT(type));
}

int
brain_event_check(const json_t *in, json_t **out, struct ag_err *err)
{
    ag_str_t type = ag_json_str(json_object_get(in, "type"));
    const char *key;
    json_t *value, *e;

    if (!json_is_object(in))
        return ag_err_set(err, AG_ERR_INVALID, "must be an object");
    if (check_type(type, err) < 0)
        return -1;
    json_object_foreach ((json_t *)(uintptr_t)in, key, value)
        if (!is_known(type, key))
            return ag_err_set(err, AG_ERR_INVALID, "unknown field \"%.64s\"",
                              key);
    for (size_t i = 0; i < N_FIELDS; i++)
        if (ag_str_is(type, fields[i].type) && fields[i].key != NULL
            && fields[i].check(in, fields[i].key, err) < 0)
            return -1;
    e = brain_event_new(type.p);
    for (size_t i = 0; i < N_FIELDS; i++) {
        value =
            fields[i].key == NULL ? NULL : json_object_get(in, fields[i].key);
        if (ag_str_is(type, fields[i].type) && value != NULL)
            json_object_set(e, fields[i].key, value);
    }
    *out = e;
    return 0;
}
