/* Arguments of the two tools. */
#include "brain_svc/brain_tool_input.h"

#include <stdlib.h>

static int
get_text(const json_t *input, const char *key, bool is_required, char **out,
         struct ag_err *err)
{
    ag_str_t v = {NULL, 0};

    if (ag_json_get_str(input, key, &v, err) < 0)
        return -1;
    if (is_required && v.n == 0)
        return ag_err_set(err, AG_ERR_INVALID, "%s: is required", key);
    if (v.n > 0 && memchr(v.p, '\0', v.n) != NULL)
        return ag_err_set(err, AG_ERR_INVALID, "%s: holds a NUL byte", key);
    free(*out);
    *out = ag_str_dup(v);
    return 0;
}

static int
check_keys(const json_t *input, const char *const *known, struct ag_err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)input, key, value) {
        size_t i = 0;

        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            return ag_err_set(err, AG_ERR_INVALID,
                              "%.64s: is no argument of this tool", key);
    }
    return 0;
}

static int
read_execute(struct brain_tool_input *in, const json_t *input,
             struct ag_err *err)
{
    static const char *const known[] = {"command", "sandbox_id",
                                        "timeout_seconds", "stdin", NULL};

    if (check_keys(input, known, err) < 0
        || get_text(input, "command", true, &in->command, err) < 0
        || get_text(input, "sandbox_id", false, &in->sandbox_id, err) < 0
        || get_text(input, "stdin", false, &in->stdin_text, err) < 0
        || ag_json_get_i64(input, "timeout_seconds", &in->timeout_seconds, err)
               < 0)
        return -1;
    if (in->timeout_seconds < 1
        || in->timeout_seconds > BRAIN_EXECUTE_SECONDS_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "timeout_seconds: must be 1 to %d",
                          BRAIN_EXECUTE_SECONDS_MAX);
    return 0;
}

static int
read_provision(struct brain_tool_input *in, const json_t *input,
               struct ag_err *err)
{
    static const char *const known[] = {"task_description", "environment",
                                        NULL};

    if (check_keys(input, known, err) < 0
        || get_text(input, "task_description", false, &in->task, err) < 0
        || get_text(input, "environment", false, &in->environment_id, err) < 0)
        return -1;
    return 0;
}

int
brain_tool_input_read(struct brain_tool_input *in,
                      const struct brain_event *event, int64_t timeout_seconds,
                      struct ag_err *err)
{
    ag_str_t name = ag_json_str(json_object_get(event->body, "name"));
    const json_t *input = json_object_get(event->body, "input");
    ag_str_t broken =
        ag_json_str(json_object_get(event->body, "brainbox.input_error"));

    if (broken.n > 0)
        return ag_err_set(err, AG_ERR_INVALID, "%.*s", AG_FMT(broken));
    if (!json_is_object(input))
        return ag_err_set(err, AG_ERR_INVALID,
                          "the arguments are not a JSON object");
    in->timeout_seconds = timeout_seconds;
    in->is_execute = ag_str_is(name, "sandbox_execute");
    if (in->is_execute)
        return read_execute(in, input, err);
    if (ag_str_is(name, "sandbox_provision"))
        return read_provision(in, input, err);
    return ag_err_set(err, AG_ERR_INVALID,
                      "unknown tool \"%.*s\": the tools are sandbox_provision "
                      "and sandbox_execute",
                      AG_FMT(name));
}

void
brain_tool_input_init(struct brain_tool_input *in)
{
    *in = (struct brain_tool_input){0};
    in->command = ag_str_dup(AG_STR(""));
    in->sandbox_id = ag_str_dup(AG_STR(""));
    in->stdin_text = ag_str_dup(AG_STR(""));
    in->task = ag_str_dup(AG_STR(""));
    in->environment_id = ag_str_dup(AG_STR(""));
}

void
brain_tool_input_release(struct brain_tool_input *in)
{
    free(in->command);
    free(in->sandbox_id);
    free(in->stdin_text);
    free(in->task);
    free(in->environment_id);
    *in = (struct brain_tool_input){0};
}
