/*
 * What sandbox_svc and sandbox_init say to each other, over the SOCK_SEQPACKET
 * pair that the launcher makes: one message a packet, a fixed head and, for
 * two types, a payload.
 *
 * sandbox_init runs inside the sandbox, so what it sends is hostile:
 * sandbox_svc reads it with init_event_parse only and matches it against what
 * it asked for.
 */
#ifndef SANDBOX_SVC_INIT_PROTO_H
#define SANDBOX_SVC_INIT_PROTO_H

#include <stddef.h>
#include <stdint.h>

#define INIT_MAGIC 0x74696e62u
/* Head and payload together; also the socket buffer that a packet needs. */
#define INIT_PACKET_MAX (512 * 1024)
#define INIT_ENV_MAX 512
/* The descriptor under which init finds its socket. */
#define INIT_SOCKET_FD 3
/* The one from which a shell reads its script (sandbox_script.h), and the file
 * in which a command leaves working directory and variables for the next. */
#define INIT_SCRIPT_FD 9
#define INIT_STATE_DIR "/run/brainbox"
#define INIT_STATE_PATH INIT_STATE_DIR "/state"

#define INIT_ARM_FDS 4

enum init_type {
    /* ---- to init ---- */
    /* Start a shell that waits for a script. a = number of variables, b = 1:
     * without what the last command left; payload = "NAME=value"s, each with
     * its NUL; INIT_ARM_FDS descriptors: standard input, output, error, and
     * the script's. */
    INIT_ARM = 1,
    /* SIGKILL to everything but init; with a = 1 only to the shell and what
     * stayed in its process group. */
    INIT_KILL = 2,
    /* a = mode, b = 1 appends; payload = path, NUL, content. */
    INIT_PUT = 3,
    /* ---- from init ---- */
    INIT_STARTED = 65,
    /* a = exit code and b = 0, or a = 0 and b = signal. */
    INIT_EXITED = 66,
    /* The shell was not started; a = errno. */
    INIT_FAILED = 67,
    INIT_KILLED = 68,
    /* a = errno, 0 when the file is written. */
    INIT_PUT_DONE = 69,
    /* Before INIT_EXITED of a command that failed: a file system that is the
     * sandbox's own has no room, or no inodes, left. */
    INIT_FULL = 70,
};

struct init_head {
    uint32_t magic;
    uint32_t type;
    /* Chosen by sandbox_svc, comes back with what it caused. */
    uint32_t run_id;
    int32_t a;
    int32_t b;
};

struct ag_err;

/*
 * Check a packet from init. Returns 0 and fills `out`, or -1 with
 * AG_ERR_CORRUPT for anything that init would not send.
 */
int init_event_parse(const void *packet, size_t n, struct init_head *out,
                     struct ag_err *err);

#endif
