/*
 * Which tools an agent has. Read when an agent is made and when a run begins;
 * pure.
 */
#include "brain_svc/brain_tools.h"

#include <stdlib.h>

#include "brain_svc/brain_log.h"

#define CUSTOM_MAX 64
#define NAME_MAX_BYTES 128

struct brain_tools {
    json_t *list;   /* sorted by name */
    json_t *custom; /* object: name -> true */
    bool asks[2];   /* OWN_…: a client must allow each call */
};

enum { OWN_EXECUTE, OWN_PROVISION, OWN_NONE };

static const char own_tools[] =
    "[{\"name\":\"sandbox_execute\",\"description\":\"Run a shell command in "
    "the sandbox, in /workspace. Returns exit_code, stdout and stderr. "
    "Environment variables with credentials work only towards the hosts "
    "they are bound to.\",\"input_schema\":{\"type\":\"object\","
    "\"properties\":{\"command\":{\"type\":\"string\",\"description\":"
    "\"Run by /bin/sh.\"},\"timeout_seconds\":{\"type\":\"integer\","
    "\"minimum\":1,\"maximum\":3600},\"stdin\":{\"type\":\"string\"},"
    "\"sandbox_id\":{\"type\":\"string\"}},\"required\":[\"command\"],"
    "\"additionalProperties\":false}},"
    "{\"name\":\"sandbox_provision\",\"description\":\"Get a Linux sandbox "
    "for this turn. Files in /workspace stay for later turns; all else is "
    "gone at the end of the turn. Call it before sandbox_execute.\","
    "\"input_schema\":{\"type\":\"object\",\"properties\":{"
    "\"task_description\":{\"type\":\"string\",\"description\":\"What the "
    "sandbox is for.\"},\"environment\":{\"type\":\"string\",\"description\":"
    "\"Another environment of the session; usually left out.\"}},"
    "\"required\":[\"task_description\"],\"additionalProperties\":false}}]";

static ag_str_t
name_of(const json_t *tool)
{
    return ag_json_str(json_object_get(tool, "name"));
}

static bool
is_name(ag_str_t name)
{
    if (name.n == 0 || name.n > NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z')
            && !(c >= '0' && c <= '9') && c != '_' && c != '-')
            return false;
    }
    return true;
}

/* In its place; -1 when the name is taken. */
static int
insert(json_t *list, json_t *tool)
{
    size_t at = 0;

    while (at < json_array_size(list)) {
        int order =
            strcmp(name_of(json_array_get(list, at)).p, name_of(tool).p);

        if (order == 0)
            return -1;
        if (order > 0)
            break;
        at++;
    }
    return json_array_insert(list, at, tool);
}

static int
add_custom(struct brain_tools *tools, const json_t *tool, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *one = NULL;
    const json_t *schema = json_object_get(tool, "input_schema");
    const json_t *description = json_object_get(tool, "description");
    ag_str_t name = name_of(tool);

    if (!is_name(name))
        return ag_err_set(err, AG_ERR_INVALID,
                          "name: must be 1 to %d letters, digits, _ or -",
                          NAME_MAX_BYTES);
    if (!json_is_object(schema))
        return ag_err_set(err, AG_ERR_INVALID,
                          "input_schema: must be an "
                          "object");
    if (description != NULL && !json_is_string(description))
        return ag_err_set(err, AG_ERR_INVALID, "description: must be a string");
    if (json_object_size(tools->custom) == CUSTOM_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "more than %d custom tools",
                          CUSTOM_MAX);
    one = json_pack("{s:o, s:o, s:O}", "name", ag_json_from_str(name),
                    "description", ag_json_from_str(ag_json_str(description)),
                    "input_schema", schema);
    if (insert(tools->list, one) < 0)
        return ag_err_set(err, AG_ERR_INVALID, "name: \"%.*s\" is taken",
                          AG_FMT(name));
    json_object_set_new(tools->custom, name.p, json_true());
    return 0;
}

static int
own_tool(ag_str_t name)
{
    return ag_str_is(name, "sandbox_execute") || ag_str_is(name, "bash")
               ? OWN_EXECUTE
           : ag_str_is(name, "sandbox_provision") ? OWN_PROVISION
                                                  : OWN_NONE;
}

static int
take_policy(const json_t *config, bool *asks, struct ag_err *err)
{
    const json_t *policy = json_object_get(config, "permission_policy");
    ag_str_t type = ag_json_str(json_object_get(policy, "type"));

    if (policy == NULL || json_is_null(policy))
        return 0;
    *asks = ag_str_is(type, "always_ask");
    if (!*asks && !ag_str_is(type, "always_allow"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "permission_policy.type: \"%.*s\" is none of "
                          "always_allow, always_ask",
                          AG_FMT(type));
    return 0;
}

static int
add_toolset(struct brain_tools *tools, const json_t *set, struct ag_err *err)
{
    const json_t *def = json_object_get(set, "default_config");
    json_t *config;
    size_t i;

    if (take_policy(def, &tools->asks[OWN_EXECUTE], err) < 0)
        return ag_err_wrap(err, "default_config");
    json_array_foreach (json_object_get(set, "configs"), i, config) {
        int own = own_tool(name_of(config));

        if (own != OWN_NONE && take_policy(config, &tools->asks[own], err) < 0)
            return ag_err_wrap(err, "configs[%zu]", i);
    }
    return 0;
}

static int
add_tool(struct brain_tools *tools, const json_t *tool, struct ag_err *err)
{
    ag_str_t type = ag_json_str(json_object_get(tool, "type"));

    if (ag_str_is(type, "custom"))
        return add_custom(tools, tool, err);
    if (ag_str_starts(type, AG_STR("agent_toolset_")))
        return add_toolset(tools, tool, err);
    return 0;
}

struct brain_tools *
brain_tools_new(ag_str_t agent_tools, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *in = ag_json_parse(agent_tools, err);
    AG_AUTO(brain_tools_freep)
    struct brain_tools *tools = ag_xcalloc(1, sizeof(*tools));
    json_t *tool;
    size_t i;

    tools->custom = json_object();
    tools->list = ag_json_parse(ag_str(own_tools), err);
    ag_assert(json_array_size(tools->list) == 2);
    if (!json_is_array(in)) {
        ag_err_set(err, AG_ERR_INVALID, "tools: must be an array");
        return NULL;
    }
    json_array_foreach (in, i, tool)
        if (add_tool(tools, tool, err) < 0) {
            (void)ag_err_wrap(err, "tools[%zu]", i);
            return NULL;
        }
    return ag_take(&tools);
}

void
brain_tools_free(struct brain_tools *tools)
{
    if (tools == NULL)
        return;
    json_decref(tools->list);
    json_decref(tools->custom);
    free(tools);
}

void
brain_tools_freep(struct brain_tools **tools)
{
    brain_tools_free(*tools);
}

const json_t *
brain_tools_list(const struct brain_tools *tools)
{
    return tools->list;
}

json_t *
brain_tools_call(const struct brain_tools *tools, ag_str_t name, json_t *input)
{
    bool is_custom = json_object_getn(tools->custom, name.p, name.n) != NULL;
    int own = own_tool(name);
    json_t *e =
        brain_event_new(is_custom ? "agent.custom_tool_use" : "agent.tool_use");

    json_object_set_new(e, "name", ag_json_from_str(name));
    json_object_set(e, "input", input);
    if (own != OWN_NONE && tools->asks[own])
        json_object_set_new(e, "evaluated_permission", json_string("ask"));
    return e;
}
