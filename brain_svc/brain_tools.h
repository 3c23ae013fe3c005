/*
 * The tools that a model sees: the two of every agent, and those that the agent
 * declares. Sorted by name, the same bytes for the same agent. Pure.
 */
#ifndef BRAIN_TOOLS_H
#define BRAIN_TOOLS_H

#include "lib/json.h"

struct brain_tools;

/*
 * From an agent's `tools`. AG_ERR_INVALID names what is wrong. Of a toolset
 * "agent_toolset_…" the permission_policy counts: that of `default_config` for
 * sandbox_execute (whose other name is "bash"), that of a config for the tool
 * it names. Kinds that are not known here are left out.
 */
struct brain_tools *brain_tools_new(ag_str_t agent_tools, struct ag_err *err);
void brain_tools_free(struct brain_tools *tools);
void brain_tools_freep(struct brain_tools **tools);

/* [{name, description, input_schema}]. */
const json_t *brain_tools_list(const struct brain_tools *tools);
/*
 * The event of a call, with a new id: agent.custom_tool_use for a tool that the
 * client runs, else agent.tool_use, with evaluated_permission "ask" when a
 * client must allow it first.
 */
json_t *
brain_tools_call(const struct brain_tools *tools, ag_str_t name, json_t *input);

#endif
