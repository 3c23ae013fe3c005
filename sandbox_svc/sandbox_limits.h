/* Limits of sandboxes and of commands, and the counters that show when one was
 * reached. */
#ifndef SANDBOX_SVC_SANDBOX_LIMITS_H
#define SANDBOX_SVC_SANDBOX_LIMITS_H

#include "lib/str.h"
#include "sandbox_svc/launcher_msg.h"

struct sandbox_limits {
    struct launcher_limits box;
    int64_t timeout_s; /* when the caller names none */
    int64_t timeout_max_s;
    int64_t output_bytes;      /* of each stream, for the caller */
    int64_t output_file_bytes; /* of each stream, in all */
    int64_t workspace_bytes, workspace_inodes;
};

/* The number behind `key` in "key N\n…"; 0 when there is none. */
int64_t sandbox_limits_parse(ag_str_t text, const char *key);

/* The same for a counter file of the launcher (launcher_msg.h). */
int64_t sandbox_limits_count(int fd, const char *key);

/* Bytes of memory that the machine can give without swapping: MemAvailable of
 * proc(5). -1 when it does not say. */
int64_t sandbox_limits_memory_left(void);

#endif
