/*
 * What a model wants of the two tools: its arguments, checked. Pure.
 */
#ifndef BRAIN_TOOL_INPUT_H
#define BRAIN_TOOL_INPUT_H

#include "brain_svc/brain_log.h"

#define BRAIN_EXECUTE_SECONDS_MAX 3600

/* Texts are owned and never NULL; "" where the model said nothing. */
struct brain_tool_input {
    bool is_execute; /* else it provisions */
    char *command, *sandbox_id, *stdin_text;
    int64_t timeout_seconds;     /* 1 to BRAIN_EXECUTE_SECONDS_MAX */
    char *task, *environment_id; /* provision */
};

void brain_tool_input_init(struct brain_tool_input *in);
void brain_tool_input_release(struct brain_tool_input *in);
/*
 * Read an agent.tool_use event; `timeout_seconds` is that of a command that
 * names none. Returns 0, or -1 with AG_ERR_INVALID in words for the model.
 */
int brain_tool_input_read(struct brain_tool_input *in,
                          const struct brain_event *event,
                          int64_t timeout_seconds, struct ag_err *err);

#endif
