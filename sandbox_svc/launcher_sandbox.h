/*
 * The sandboxes of the launcher, from request to nothing left.
 */
#ifndef SANDBOX_SVC_LAUNCHER_SANDBOX_H
#define SANDBOX_SVC_LAUNCHER_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "sandbox_svc/launcher_msg.h"

struct launcher_build;
struct launcher_cgroup;
struct launcher_seccomp;
struct ag_err;

struct launcher_sandbox {
    struct launcher_sandbox *next;
    char id[LAUNCHER_ID_MAX];
    /* Session whose workspace is attached; "" before. */
    char session_id[LAUNCHER_ID_MAX];
    unsigned char address[16];
    pid_t pid;
    int pidfd;
    int slot;
    /* The slot's, -1 while it has none. */
    int *user_ns;
    int tcp, udp;
    /* While it is built; NULL afterwards. */
    struct launcher_build *build;
    /* Killed, or reaped and waiting for its cgroup to empty. */
    bool is_dying, is_reaped;
    /* A DESTROY waits for the end. */
    bool has_waiter;
    uint64_t waiter_tag;
};

/* What all sandboxes share. */
struct launcher_host {
    const char *image_dir;
    int work_dir, output_dir;
    int init_exe;
    int own_mounts; /* the launcher's mount namespace */
    int max_sandboxes;
    struct launcher_cgroup *cgroup;
    struct launcher_seccomp *filter;
    int landlock_abi;
    /* User namespaces by slot, made when first needed; -1 before. */
    int *user_ns;
    bool *slot_used;
    struct launcher_sandbox *list;
    int count;
};

/*
 * Begin to build what `req` asks for and put it on the list, with the tag of
 * the request; launcher_sandbox_follow goes on.
 *   AG_ERR_EXISTS     the id is in use
 *   AG_ERR_LIMIT      max_sandboxes are there
 *   AG_ERR_NOT_FOUND  no such image
 */
int
launcher_sandbox_create(struct launcher_host *host,
                        const struct launcher_request *req, struct ag_err *err);

/* Readable when there is something to follow; the tag of the request; how long
 * it has been built. Only while `sb->build` is not NULL. */
int launcher_sandbox_setup_fd(const struct launcher_sandbox *sb);
uint64_t launcher_sandbox_build_tag(const struct launcher_sandbox *sb);
int64_t launcher_sandbox_build_us(const struct launcher_sandbox *sb);

/*
 * Hear what the child says, without waiting. Returns 0 while it builds; 1 when
 * it is complete, and fds[LAUNCHER_CREATE_FDS] gets descriptors for the reply,
 * which the caller closes; -1 when it failed or took too long: it is killed,
 * and goes as any that dies. launcher_sandbox_end_build comes after both.
 */
int launcher_sandbox_follow(struct launcher_sandbox *sb, int *fds,
                            struct ag_err *err);

/* Let go of what building needed. */
void launcher_sandbox_end_build(struct launcher_sandbox *sb);

int
launcher_sandbox_attach(struct launcher_host *host, struct launcher_sandbox *sb,
                        const char *session_id, struct ag_err *err);

struct launcher_sandbox *
launcher_sandbox_find(struct launcher_host *host, const char *id);
struct launcher_sandbox *
launcher_sandbox_of_session(struct launcher_host *host, const char *session);

void launcher_sandbox_kill(struct launcher_sandbox *sb);

/* True when it is dead and was not known to be: nothing of it runs, and its
 * workspace is free. What is left of it, its groups and its network, goes by
 * launcher_sandbox_forget. */
bool launcher_sandbox_reap(struct launcher_sandbox *sb);
/* Off the list, once it is reaped. False when its groups are not empty yet:
 * try again. */
bool launcher_sandbox_forget(struct launcher_host *host,
                             struct launcher_sandbox *sb);

#endif
