/*
 * What a waiting shell of a sandbox is told to do. Pure functions.
 *
 * Starting a shell takes longer than most commands, so one always waits,
 * started but told nothing: it reads a script from descriptor
 * INIT_SCRIPT_FD (init_proto.h) when a command comes. At its end it writes the
 * working directory and the exported variables to a file of the sandbox, which
 * the next shell reads before it waits: commands of a turn go on where the one
 * before stopped, as in one shell.
 */
#ifndef SANDBOX_SVC_SANDBOX_SCRIPT_H
#define SANDBOX_SVC_SANDBOX_SCRIPT_H

#include "lib/buf.h"

/* Longest script of a command and an environment of together `n` bytes: a quote
 * becomes four bytes, the shortest variable of 3 bytes gains 9. */
#define SANDBOX_SCRIPT_MAX(n) (4 * (n) + 1024)

/*
 * Append the script that runs `command`, which holds no NUL. `env` is
 * "NAME=value" with a NUL each, to be exported before: for a shell that was
 * started before they were known, and begins in /workspace. For others it is
 * empty.
 */
void sandbox_script_add(struct ag_buf *out, ag_str_t command, ag_str_t env);

#endif
