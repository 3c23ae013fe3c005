/*
 * The closed set of messages between sandbox_svc and sandbox_launcher: one
 * fixed-size struct a packet each way, over SOCK_SEQPACKET.
 *
 * The launcher is root and sandbox_svc is not, so a request is checked whole
 * before any of it is used. Strings are NUL-padded to their end, so that equal
 * messages are equal bytes and nothing unchecked travels along.
 */
#ifndef SANDBOX_SVC_LAUNCHER_MSG_H
#define SANDBOX_SVC_LAUNCHER_MSG_H

#include <stddef.h>
#include <stdint.h>

struct ag_err;

#define LAUNCHER_MAGIC 0x61676c31u
#define LAUNCHER_ID_MAX 40
#define LAUNCHER_IMAGE_MAX 64
#define LAUNCHER_ADDRESS_MAX 48
#define LAUNCHER_TEXT_MAX 160

enum launcher_type {
    /* Build a sandbox of `image` with `limits` under the name `sandbox_id`.
     * The reply carries LAUNCHER_CREATE_FDS descriptors. */
    LAUNCHER_CREATE = 1,
    /* Mount the workspace of `session_id` on the sandbox's /workspace; once
     * for a sandbox. The reply carries one descriptor: readable text with lines
     * "nr_periods N" and "nr_throttled N", or /dev/null without cgroups. */
    LAUNCHER_ATTACH = 2,
    /* Kill and remove it; the reply comes when nothing of it runs, and its
     * workspace is free. */
    LAUNCHER_DESTROY = 3,
    /* A LAUNCHER_ENTRY for each sandbox, then the reply. */
    LAUNCHER_LIST = 4,
    /* Remove the workspace of `session_id`; refused while it is attached. */
    LAUNCHER_WIPE = 5,
    /* How much the workspace of `session_id` holds: `bytes` and `inodes` of the
     * reply. */
    LAUNCHER_MEASURE = 6,
    /* ---- from the launcher ---- */
    LAUNCHER_REPLY = 65,
    LAUNCHER_ENTRY = 66,
};

/* Descriptors of a CREATE reply, in this order. */
enum launcher_create_fd {
    LAUNCHER_FD_PID,
    LAUNCHER_FD_INIT,
    /* Readable text with a line "oom_kill N"; /dev/null without cgroups. */
    LAUNCHER_FD_MEMORY_EVENTS,
    /* Readable text with a line "max N". */
    LAUNCHER_FD_PIDS_EVENTS,
    LAUNCHER_CREATE_FDS,
};

struct launcher_limits {
    int64_t memory_bytes;
    int64_t cpu_milli;
    int64_t pids;
    int64_t disk_bytes;
    int64_t disk_inodes;
    int64_t open_files;
};

struct launcher_request {
    uint32_t magic;
    uint32_t type;
    /* Comes back in the reply. */
    uint64_t tag;
    char sandbox_id[LAUNCHER_ID_MAX];
    char session_id[LAUNCHER_ID_MAX];
    char image[LAUNCHER_IMAGE_MAX];
    struct launcher_limits limits;
};

struct launcher_reply {
    uint32_t magic;
    uint32_t type;
    uint64_t tag;
    /* A kind of lib/err.h, 0 when it was done; with its errno and text. */
    int32_t error;
    int32_t sys;
    char sandbox_id[LAUNCHER_ID_MAX];
    /* fd00::/8 address that names the sandbox to egress. */
    char address[LAUNCHER_ADDRESS_MAX];
    char text[LAUNCHER_TEXT_MAX];
    int64_t bytes, inodes;
};

/*
 * Check a packet from sandbox_svc: size, magic, type, form of every name,
 * padding, limits within bounds, fields that the type does not use are zero.
 * Returns 0 and fills `out`, or -1 with AG_ERR_INVALID naming the field.
 */
int launcher_request_parse(const void *packet, size_t n,
                           struct launcher_request *out, struct ag_err *err);

/* The same for what the launcher answers. */
int launcher_reply_parse(const void *packet, size_t n,
                         struct launcher_reply *out, struct ag_err *err);

#endif
