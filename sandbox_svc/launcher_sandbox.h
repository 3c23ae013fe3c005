/*
 * The sandboxes of the launcher, from request to nothing left.
 */
#ifndef SANDBOX_SVC_LAUNCHER_SANDBOX_H
#define SANDBOX_SVC_LAUNCHER_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "sandbox_svc/launcher_msg.h"

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
    int tcp, udp;
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
    int max_sandboxes;
    struct launcher_cgroup *cgroup;
    struct launcher_seccomp *filter;
    /* User namespaces by slot, made when first needed; -1 before. */
    int *user_ns;
    bool *slot_used;
    struct launcher_sandbox *list;
    int count;
};

/*
 * Build what `req` asks for and put it on the list. fds[LAUNCHER_CREATE_FDS]
 * gets descriptors for the reply, which the caller closes.
 *   AG_ERR_EXISTS     the id is in use
 *   AG_ERR_LIMIT      max_sandboxes are there
 *   AG_ERR_NOT_FOUND  no such image
 */
struct launcher_sandbox *
launcher_sandbox_create(struct launcher_host *host,
                        const struct launcher_request *req, int *fds,
                        struct ag_err *err);

int launcher_sandbox_attach(struct launcher_host *host,
                            struct launcher_sandbox *sb,
                            const char *session_id, struct ag_err *err);

struct launcher_sandbox *launcher_sandbox_find(struct launcher_host *host,
                                               const char *id);
struct launcher_sandbox *
launcher_sandbox_of_session(struct launcher_host *host, const char *session);

void launcher_sandbox_kill(struct launcher_sandbox *sb);

/* Reap it if it is dead and remove its groups. True when nothing is left: the
 * caller then takes it off the list with launcher_sandbox_forget. */
bool launcher_sandbox_is_gone(struct launcher_host *host,
                              struct launcher_sandbox *sb);
void launcher_sandbox_forget(struct launcher_host *host,
                             struct launcher_sandbox *sb);

#endif
