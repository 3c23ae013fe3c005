/*
 * Rows of the audit for connections that the bridge refuses itself: egress is
 * told, which tells the vault. Best effort, bounded, never waited for.
 */
#ifndef SANDBOX_SVC_BRIDGE_REPORT_H
#define SANDBOX_SVC_BRIDGE_REPORT_H

#include "sandbox_svc/bridge_sandbox.h"

/* `reason` is a word of the audit; `name` may be "". */
void bridge_report(struct bridge_sandbox *sb, const char *reason,
                   const char *name, uint16_t source_port, uint16_t port);

/* Give up those under way. */
void bridge_reports_end(struct bridge *bridge);

#endif
