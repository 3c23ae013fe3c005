/*
 * The JSON of a tool's result: what the model reads.
 */
#ifndef BRAIN_TOOL_RESULT_H
#define BRAIN_TOOL_RESULT_H

#include "lib/json.h"
#include "sandbox.pb-c.h"

/* A new object each, never NULL; the caller owns it. Of a sandbox: */
json_t *
brain_tool_provision_result(const Agent__Sandbox__V1__ProvisionResponse *m);
/* Of a command; it ran in a sandbox that replaced a lost one. */
json_t *brain_tool_execute_result(const Agent__Sandbox__V1__ExecuteResult *r,
                                  bool is_replaced);

#endif
