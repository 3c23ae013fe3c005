/*
 * Builds and removes sandboxes, for launcher.c. A child builds each while the
 * launcher, which has one thread, serves on: it is followed when it says
 * something.
 *
 * All of a sandbox but its cgroups lives in its namespaces, and goes when its
 * init does; killing and reaping that one process is the whole removal.
 */
#include "sandbox_svc/launcher_sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/secret.h"
#include "lib/str.h"
#include "sandbox_svc/fdpass.h"
#include "sandbox_svc/init_proto.h"
#include "sandbox_svc/launcher_child.h"
#include "sandbox_svc/launcher_ns.h"
#include "sandbox_svc/launcher_without.h"

/* SO_PASSRIGHTS, newer than the header of some systems. */
#define PASSRIGHTS 83
/* A child that takes longer than this to build is given up. */
#define BUILD_TIMEOUT_US 10000000
/* Slots that keep their user namespace for the next sandbox. Descriptors are
 * few: a process has 20,000 on some machines. */
#define USER_NS_KEPT 1024

struct launcher_build {
    struct launcher_child child;
    char image[PATH_MAX];
    int init[2], setup[2], events[2], into;
    uint64_t tag;
    int64_t begun_us;
};

static void
build_free(struct launcher_build **b)
{
    if (*b == NULL)
        return;
    fdpass_close((*b)->init, 2);
    fdpass_close((*b)->setup, 2);
    fdpass_close((*b)->events, 2);
    fdpass_close((*b)->child.procs, LAUNCHER_PROCS);
    ag_closep(&(*b)->into);
    free(ag_take(b));
}

struct launcher_sandbox *
launcher_sandbox_find(struct launcher_host *host, const char *id)
{
    struct launcher_sandbox *sb = host->list;

    while (sb != NULL && strcmp(sb->id, id) != 0)
        sb = sb->next;
    return sb;
}

struct launcher_sandbox *
launcher_sandbox_of_session(struct launcher_host *host, const char *session)
{
    struct launcher_sandbox *sb = host->list;

    while (sb != NULL && strcmp(sb->session_id, session) != 0)
        sb = sb->next;
    return sb;
}

static void
free_sandbox(struct launcher_sandbox **sb)
{
    if (*sb == NULL)
        return;
    build_free(&(*sb)->build);
    ag_closep(&(*sb)->pidfd);
    ag_closep(&(*sb)->tcp);
    ag_closep(&(*sb)->udp);
    ag_freep(sb);
}

static int
take_slot(struct launcher_host *host, struct ag_err *err)
{
    for (int i = 0; i < host->max_sandboxes; i++) {
        if (host->slot_used[i])
            continue;
        if (host->user_ns[i] < 0)
            host->user_ns[i] = launcher_ns_user(i, err);
        if (host->user_ns[i] < 0)
            return -1;
        host->slot_used[i] = true;
        return i;
    }
    return ag_err_set(err, AG_ERR_LIMIT, "%d sandboxes run, none more may",
                      host->max_sandboxes);
}

static struct launcher_sandbox *
new_sandbox(struct launcher_host *host, const char *id, struct ag_err *err)
{
    if (launcher_sandbox_find(host, id) != NULL) {
        ag_err_set(err, AG_ERR_EXISTS, "sandbox %s exists", id);
        return NULL;
    }
    int slot = take_slot(host, err);
    if (slot < 0)
        return NULL;
    struct launcher_sandbox *sb = ag_xcalloc(1, sizeof(*sb));
    memcpy(sb->id, id, sizeof(sb->id));
    sb->slot = slot;
    sb->user_ns = &host->user_ns[slot];
    sb->pidfd = sb->tcp = sb->udp = -1;
    ag_random(sb->address, sizeof(sb->address));
    sb->address[0] = 0xfd;
    return sb;
}

/* Two pairs: init's protocol, and the launcher's with the child. */
static int
make_sockets(int init[2], int setup[2], struct ag_err *err)
{
    const int size = INIT_PACKET_MAX, none = 0;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, init) < 0
        || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, setup) < 0)
        return ag_err_sys(err, "socket pair");
    if (setsockopt(init[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size))
        < 0)
        return ag_err_sys(err, "socket options");
    /* Nobody inside sends a descriptor: closing it would be the receiver's, and
     * the last close of a socket may be made to take minutes. Where the kernel
     * cannot refuse it, before 6.16, that much is left to an init that was
     * taken over. */
    if (!launcher_without("pass_rights"))
        (void)setsockopt(init[0], SOL_SOCKET, PASSRIGHTS, &none, sizeof(none));
    return 0;
}

static struct launcher_build *
build_new(uint64_t tag)
{
    struct launcher_build *b = ag_xcalloc(1, sizeof(*b));

    b->tag = tag;
    b->begun_us = ag_mono_us();
    b->into = -1;
    for (int i = 0; i < 2; i++)
        b->init[i] = b->setup[i] = b->events[i] = -1;
    for (int i = 0; i < LAUNCHER_PROCS; i++)
        b->child.procs[i] = -1;
    return b;
}

static int
prepare(struct launcher_host *host, struct launcher_sandbox *sb,
        const struct launcher_request *req, struct ag_err *err)
{
    struct launcher_build *b = sb->build;

    if (snprintf(b->image, sizeof(b->image), "%s/%s", host->image_dir,
                 req->image)
            >= (int)sizeof(b->image)
        || access(b->image, X_OK) < 0)
        return ag_err_set(err, AG_ERR_NOT_FOUND, "no image %s", req->image);
    if (make_sockets(b->init, b->setup, err) < 0
        || launcher_cgroup_create(host->cgroup, sb->id, &req->limits, b->events,
                                  b->child.procs, &b->into, err)
               < 0)
        return -1;
    b->child.root = (struct launcher_root){
        .image = b->image,
        .user_ns = host->user_ns[sb->slot],
        .uid_base = LAUNCHER_UID_BASE + LAUNCHER_UID_COUNT * (uint32_t)sb->slot,
        .disk_bytes = req->limits.disk_bytes,
        .disk_inodes = req->limits.disk_inodes};
    b->child.limits = req->limits;
    b->child.filter = host->filter;
    b->child.landlock_abi = host->landlock_abi;
    b->child.init_exe = host->init_exe;
    b->child.init_socket = b->init[1];
    b->child.setup = b->setup[1];
    return 0;
}

static int
spawn(struct launcher_sandbox *sb, struct ag_err *err)
{
    struct launcher_build *b = sb->build;
    pid_t pid = launcher_ns_fork(b->into, &sb->pidfd, err);

    if (pid == 0) {
        /* Its own end only, or it would not see the launcher go. */
        ag_closep(&b->setup[0]);
        ag_closep(&b->init[0]);
        launcher_child_main(&b->child);
    }
    if (pid < 0)
        return -1;
    sb->pid = pid;
    fdpass_close(&b->setup[1], 1);
    fdpass_close(&b->init[1], 1);
    fdpass_close(b->child.procs, LAUNCHER_PROCS);
    if (write(b->setup[0], "", 1) != 1)
        return ag_err_sys(err, "start the child");
    return 0;
}

/* A sandbox that was not begun: wait for its end here. */
static void
abandon(struct launcher_host *host, struct launcher_sandbox *sb)
{
    if (sb->pid > 0) {
        kill(sb->pid, SIGKILL);
        while (waitpid(sb->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    for (int i = 0; i < 100; i++) {
        if (launcher_cgroup_remove(host->cgroup, sb->id) == 0)
            break;
        usleep(2000);
    }
    host->slot_used[sb->slot] = false;
    free_sandbox(&sb);
}

int
launcher_sandbox_create(struct launcher_host *host,
                        const struct launcher_request *req, struct ag_err *err)
{
    struct launcher_sandbox *sb = new_sandbox(host, req->sandbox_id, err);

    if (sb == NULL)
        return -1;
    sb->build = build_new(req->tag);
    if (prepare(host, sb, req, err) < 0 || spawn(sb, err) < 0) {
        abandon(host, sb);
        return -1;
    }
    sb->next = host->list;
    host->list = sb;
    host->count++;
    return 0;
}

/* ---- following the child ---------------------------------------------- */

int
launcher_sandbox_setup_fd(const struct launcher_sandbox *sb)
{
    return sb->build->setup[0];
}

uint64_t
launcher_sandbox_build_tag(const struct launcher_sandbox *sb)
{
    return sb->build->tag;
}

int64_t
launcher_sandbox_build_us(const struct launcher_sandbox *sb)
{
    return ag_mono_us() - sb->build->begun_us;
}

/* The child's first word brings the network sockets; its end, without another
 * one, is that of exec. Returns 1 at the end, 0 before. */
static int
hear(struct launcher_sandbox *sb, struct ag_err *err)
{
    struct ag_err said = AG_ERR_INIT;
    int fds[FDPASS_MAX], n_fds = 0;
    ssize_t n = fdpass_recv(sb->build->setup[0], &said, sizeof(said), fds,
                            &n_fds, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return launcher_sandbox_build_us(sb) < BUILD_TIMEOUT_US
                   ? 0
                   : ag_err_set(err, AG_ERR_TIMEOUT,
                                "a sandbox takes too long to build");
    if (n == sizeof(said) && said.kind == AG_ERR_NONE && n_fds == 2
        && sb->tcp < 0) {
        sb->tcp = fds[0];
        sb->udp = fds[1];
        return 0;
    }
    fdpass_close(fds, n_fds);
    if (n == 0 && sb->tcp >= 0)
        return 1;
    if (n == sizeof(said) && said.kind != AG_ERR_NONE) {
        *err = said;
        return -1;
    }
    return ag_err_set(err, AG_ERR_INTERNAL,
                      "the child died while it was built");
}

int
launcher_sandbox_follow(struct launcher_sandbox *sb, int *fds,
                        struct ag_err *err)
{
    struct launcher_build *b = sb->build;
    int rc = hear(sb, err);

    if (rc == 0)
        return 0;
    if (rc > 0) {
        fds[LAUNCHER_FD_PID] = fcntl(sb->pidfd, F_DUPFD_CLOEXEC, 3);
        fds[LAUNCHER_FD_INIT] = b->init[0];
        fds[LAUNCHER_FD_MEMORY_EVENTS] = b->events[0];
        fds[LAUNCHER_FD_PIDS_EVENTS] = b->events[1];
        b->init[0] = b->events[0] = b->events[1] = -1;
    } else {
        launcher_sandbox_kill(sb);
    }
    return rc;
}

void
launcher_sandbox_end_build(struct launcher_sandbox *sb)
{
    build_free(&sb->build);
    if (sb->slot >= USER_NS_KEPT)
        ag_closep(sb->user_ns);
}

/* Its init, which is not reaped yet, is in it. */
static int
open_user_ns(const struct launcher_sandbox *sb, struct ag_err *err)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/user", sb->pid);
    int fd = *sb->user_ns >= 0 ? fcntl(*sb->user_ns, F_DUPFD_CLOEXEC, 3)
                               : open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? ag_err_sys(err, "user namespace of %s", sb->id) : fd;
}

int
launcher_sandbox_attach(struct launcher_host *host, struct launcher_sandbox *sb,
                        const char *session_id, struct ag_err *err)
{
    AG_AUTO(ag_closep) int user_ns = open_user_ns(sb, err);
    struct launcher_workspace ws = {
        .pidfd = sb->pidfd,
        .own_mounts = host->own_mounts,
        .user_ns = user_ns,
        .work_dir = host->work_dir,
        .output_dir = host->output_dir,
        .session_id = session_id,
    };

    if (sb->is_dying || sb->build != NULL || sb->session_id[0] != 0)
        return ag_err_set(err, AG_ERR_PRECONDITION, "%s is in use or ending",
                          sb->id);
    if (user_ns < 0 || launcher_mount_workspace(&ws, err) < 0)
        return -1;
    snprintf(sb->session_id, sizeof(sb->session_id), "%s", session_id);
    return 0;
}

void
launcher_sandbox_kill(struct launcher_sandbox *sb)
{
    if (!sb->is_reaped)
        syscall(SYS_pidfd_send_signal, sb->pidfd, SIGKILL, NULL, 0);
    sb->is_dying = true;
}

bool
launcher_sandbox_reap(struct launcher_sandbox *sb)
{
    siginfo_t info = {.si_pid = 0};

    if (sb->is_reaped
        || waitid(P_PIDFD, (id_t)sb->pidfd, &info, WEXITED | WNOHANG) < 0
        || info.si_pid == 0)
        return false;
    sb->is_reaped = sb->is_dying = true;
    sb->session_id[0] = 0;
    ag_log(AG_INFO, "sandbox.ended", AG_S("sandbox", sb->id),
           AG_I("status", info.si_status),
           AG_B("by_signal", info.si_code != CLD_EXITED));
    return true;
}

bool
launcher_sandbox_forget(struct launcher_host *host, struct launcher_sandbox *sb)
{
    struct launcher_sandbox **at = &host->list;

    if (launcher_cgroup_remove(host->cgroup, sb->id) < 0)
        return false;
    while (*at != sb)
        at = &(*at)->next;
    *at = sb->next;
    host->count--;
    host->slot_used[sb->slot] = false;
    free_sandbox(&sb);
    return true;
}
