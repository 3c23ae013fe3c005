/*
 * What a tool's result says, from what sandbox_svc answered. Called by
 * brain_tool.c; pure.
 */
#include "brain_svc/brain_tool_result.h"

static json_t *
string_list(char **items, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, ag_json_from_str(ag_str(items[i])));
    return list;
}

json_t *
brain_tool_provision_result(const Agent__Sandbox__V1__ProvisionResponse *m)
{
    const Agent__Sandbox__V1__Limits *l = m->limits;
    json_t *result =
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:s}", "sandbox_id", m->sandbox_id,
                  "image", m->image, "workdir", m->workdir, "env_names",
                  string_list(m->env_names, m->n_env_names), "allowed_hosts",
                  string_list(m->allowed_hosts, m->n_allowed_hosts),
                  "expires_at", m->expires_at);
    if (l != NULL)
        json_object_set_new(
            result, "limits",
            json_pack("{s:I, s:I, s:I, s:I, s:i}", "memory_bytes",
                      (json_int_t)l->memory_bytes, "cpu_milli",
                      (json_int_t)l->cpu_milli, "pids", (json_int_t)l->pids,
                      "disk_bytes", (json_int_t)l->disk_bytes,
                      "timeout_seconds", (int)l->timeout_seconds));
    return result;
}

static void
set_bytes(json_t *obj, const char *key, ProtobufCBinaryData b)
{
    json_object_set_new(obj, key, ag_json_from_str(ag_str_n(b.data, b.len)));
}

static const char *
outcome_name(int outcome)
{
    static const char *const names[] = {"unspecified", "exited",
                                        "timed_out",   "limit_reached",
                                        "unknown",     "cancelled"};

    return (size_t)outcome < sizeof(names) / sizeof(names[0]) ? names[outcome]
                                                              : "unspecified";
}

#define OUTCOME(x) AGENT__SANDBOX__V1__EXECUTE_RESULT__OUTCOME__##x

json_t *
brain_tool_execute_result(const Agent__Sandbox__V1__ExecuteResult *r,
                          bool is_replaced)
{
    json_t *j = json_pack("{s:i}", "exit_code", (int)r->exit_code);

    if (r->outcome != OUTCOME(EXITED))
        json_object_set_new(j, "outcome",
                            json_string(outcome_name((int)r->outcome)));
    if (r->outcome == OUTCOME(UNKNOWN))
        json_object_set_new(
            j, "note",
            json_string("the command was started before a crash and its end "
                        "was not seen: it may have had effects, and was not "
                        "run again"));
    if (r->limit[0] != '\0')
        json_object_set_new(j, "limit", json_string(r->limit));
    if (r->signal != 0)
        json_object_set_new(j, "signal", json_integer(r->signal));
    set_bytes(j, "stdout", r->stdout);
    set_bytes(j, "stderr", r->stderr);
    if (r->truncated) {
        json_object_set_new(j, "truncated", json_true());
        json_object_set_new(j, "output_file", json_string(r->output_file));
    }
    json_object_set_new(j, "wall_ms", json_integer(r->wall_ms));
    if (is_replaced)
        json_object_set_new(
            j, "sandbox",
            json_string("replaced: the one before was lost; /workspace is "
                        "kept, all else is new"));
    return j;
}
