/*
 * sandbox_launcher: the privileged part of sandboxes. A binary of its own,
 * root, one thread, no gRPC.
 *
 * It takes a closed set of fixed-size messages (launcher_msg.h) from one
 * client, sandbox_svc, and reads nothing else that comes from outside. When the
 * client goes away, or at SIGTERM, every sandbox is destroyed; when it is
 * killed itself they die by their parent-death signal.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/daemon.h"
#include "lib/log.h"
#include "sandbox_svc/fdpass.h"
#include "sandbox_svc/launcher_bridge.h"
#include "sandbox_svc/launcher_cgroup.h"
#include "sandbox_svc/launcher_chore.h"
#include "sandbox_svc/launcher_host.h"

#define STOP_TIMEOUT_MS 5000
/* What is left of the dead goes together: after so long, or when there are so
 * many, or sooner when there is no client to be served meanwhile. */
#define SWEEP_MS 250
#define SWEEP_COUNT 64
#define SWEEP_SOON_MS 10

struct options {
    char *listen, *peer_user, *bridge, *image_dir, *work_dir, *output_dir;
    char *cgroup, *instance, *init, *log_level;
    int64_t max_sandboxes, notify_fd;
};

#define OPT(field) offsetof(struct options, field)

static const struct ag_conf_option option_table[] = {
    {"listen", AG_CONF_STR, "path", NULL, 1, 107, NULL, OPT(listen),
     "Socket on which sandbox_svc is served."},
    {"peer_user", AG_CONF_STR, "", "", 0, 64, NULL, OPT(peer_user),
     "User of sandbox_svc; connections of others are closed. Empty: any that "
     "the folder lets in."},
    {"bridge", AG_CONF_STR, "path", "", 0, 107, NULL, OPT(bridge),
     "Socket of the bridge. Empty: sandboxes reach nothing."},
    {"image_dir", AG_CONF_STR, "path", NULL, 1, 1024, NULL, OPT(image_dir),
     "Folder with one root file system for each image."},
    {"work_dir", AG_CONF_STR, "path", NULL, 1, 1024, NULL, OPT(work_dir),
     "Folder of workspaces, made with mode 0700."},
    {"output_dir", AG_CONF_STR, "path", "", 0, 1024, NULL, OPT(output_dir),
     "Folder of sandbox_svc with whole outputs, shown read-only in "
     "/workspace/.output."},
    {"cgroup", AG_CONF_STR, "", "auto", 1, 8, NULL, OPT(cgroup),
     "Groups that limit sandboxes: auto, v2, v1 or none. What is asked for and "
     "not there ends the launcher; none limits no memory, processes or "
     "processor."},
    {"instance", AG_CONF_STR, "", "main", 1, 32, NULL, OPT(instance),
     "Name of this installation, part of the names of its cgroups."},
    {"init", AG_CONF_STR, "path", "", 0, 1024, NULL, OPT(init),
     "Program that is pid 1 of a sandbox. Empty: sandbox_init beside this "
     "program."},
    {"max_sandboxes", AG_CONF_INT, "", "256", 1, 8192, NULL, OPT(max_sandboxes),
     "Most sandboxes at a time."},
    {"notify_fd", AG_CONF_INT, "", "-1", -1, 1024, NULL, OPT(notify_fd),
     "Descriptor that gets a newline when the launcher is ready."},
    {"log_level", AG_CONF_STR, "", "info", 1, 8, NULL, OPT(log_level),
     "debug, info, warn or error."},
};

static const struct ag_conf conf = {
    .program = "sandbox_launcher",
    .summary = "Builds sandboxes for sandbox_svc; runs as root.",
    .usage = "[options]",
    .options = option_table,
    .n_options = sizeof(option_table) / sizeof(option_table[0]),
};

struct launcher {
    struct options opt;
    struct launcher_host host;
    struct launcher_bridge bridge;
    uid_t peer_uid;
    int listen_fd, signal_fd, client;
    /* What the sandboxes say: the child of one that is built, the end of one
     * that is. */
    int sandboxes;
    int n_building;
    bool is_stopping;
    /* Dead and not swept, and when the last sweep was. */
    int n_dead;
    int64_t swept_ms;
    struct launcher_chore chores[LAUNCHER_CHORES_MAX];
};

/* ---- answers --------------------------------------------------------- */

static void drop_client(struct launcher *l);

static void
answer(struct launcher *l, const struct launcher_reply *r, const int *fds,
       int n_fds)
{
    if (l->client >= 0 && fdpass_send(l->client, r, sizeof(*r), fds, n_fds) < 0)
        drop_client(l);
}

static void
answer_result(struct launcher *l, uint64_t tag, const struct ag_err *err)
{
    struct launcher_reply r = {
        .magic = LAUNCHER_MAGIC, .type = LAUNCHER_REPLY, .tag = tag};

    r.error = (int32_t)err->kind;
    r.sys = err->sys;
    snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, err->msg);
    answer(l, &r, NULL, 0);
}

static void
describe(const struct launcher_sandbox *sb, struct launcher_reply *r)
{
    memcpy(r->sandbox_id, sb->id, sizeof(r->sandbox_id));
    inet_ntop(AF_INET6, sb->address, r->address, sizeof(r->address));
}

/* ---- requests -------------------------------------------------------- */

static void
built(struct launcher *l, struct launcher_sandbox *sb, uint64_t tag,
      int64_t took_us, int *fds)
{
    struct launcher_reply r = {
        .magic = LAUNCHER_MAGIC, .type = LAUNCHER_REPLY, .tag = tag};

    launcher_bridge_add(&l->bridge, sb);
    describe(sb, &r);
    ag_log(AG_INFO, "sandbox.created", AG_S("sandbox", sb->id),
           AG_I("pid", sb->pid), AG_I("took_us", took_us));
    answer(l, &r, fds, LAUNCHER_CREATE_FDS);
    fdpass_close(fds, LAUNCHER_CREATE_FDS);
}

/* Be told when `fd` of the sandbox has something to say. */
static void
watch(struct launcher *l, int fd, struct launcher_sandbox *sb)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = sb};

    if (epoll_ctl(l->sandboxes, EPOLL_CTL_ADD, fd, &e) < 0)
        ag_log(AG_ERROR, "request.failed", AG_S("sandbox", sb->id),
               AG_S("message", "its end cannot be watched"));
}

/* Hear the child of a sandbox that is being built. */
static void
follow(struct launcher *l, struct launcher_sandbox *sb)
{
    uint64_t tag = launcher_sandbox_build_tag(sb);
    int64_t took_us = launcher_sandbox_build_us(sb);
    int fds[LAUNCHER_CREATE_FDS];
    struct ag_err err = AG_ERR_INIT;
    int rc = launcher_sandbox_follow(sb, fds, &err);

    if (rc == 0)
        return;
    l->n_building--;
    watch(l, sb->pidfd, sb);
    if (rc > 0) {
        built(l, sb, tag, took_us, fds);
    } else {
        ag_log(AG_WARN, "request.failed", AG_I("type", LAUNCHER_CREATE),
               AG_S("sandbox", sb->id), AG_E(&err));
        answer_result(l, tag, &err);
    }
}

static int
do_create(struct launcher *l, const struct launcher_request *req,
          struct ag_err *err)
{
    if (launcher_sandbox_create(&l->host, req, err) < 0)
        return -1;
    /* It is the first of the list. */
    watch(l, launcher_sandbox_setup_fd(l->host.list), l->host.list);
    l->n_building++;
    return 0;
}

static int
do_attach(struct launcher *l, const struct launcher_request *req,
          struct ag_err *err)
{
    struct launcher_sandbox *sb =
        launcher_sandbox_find(&l->host, req->sandbox_id);

    if (sb == NULL)
        return ag_err_set(err, AG_ERR_NOT_FOUND, "no sandbox %s",
                          req->sandbox_id);
    if (launcher_sandbox_of_session(&l->host, req->session_id) != NULL)
        return ag_err_set(err, AG_ERR_PRECONDITION,
                          "the workspace of %s is in use", req->session_id);
    AG_AUTO(ag_closep)
    int cpu = launcher_cgroup_open_cpu(l->host.cgroup, sb->id, err);
    if (cpu < 0
        || launcher_sandbox_attach(&l->host, sb, req->session_id, err) < 0)
        return -1;
    struct launcher_reply r = {
        .magic = LAUNCHER_MAGIC, .type = LAUNCHER_REPLY, .tag = req->tag};
    answer(l, &r, &cpu, 1);
    return 0;
}

static int
do_destroy(struct launcher *l, const struct launcher_request *req,
           struct ag_err *err)
{
    struct launcher_sandbox *sb =
        launcher_sandbox_find(&l->host, req->sandbox_id);

    if (sb == NULL || sb->has_waiter || sb->is_reaped)
        return ag_err_set(err, AG_ERR_NOT_FOUND, "no sandbox %s",
                          req->sandbox_id);
    sb->has_waiter = true;
    sb->waiter_tag = req->tag;
    launcher_sandbox_kill(sb);
    return 0;
}

static void
do_list(struct launcher *l, uint64_t tag)
{
    struct ag_err ok = AG_ERR_INIT;

    for (struct launcher_sandbox *sb = l->host.list; sb != NULL;
         sb = sb->next) {
        if (sb->build != NULL || sb->is_reaped)
            continue;
        struct launcher_reply r = {
            .magic = LAUNCHER_MAGIC, .type = LAUNCHER_ENTRY, .tag = tag};
        describe(sb, &r);
        answer(l, &r, NULL, 0);
    }
    answer_result(l, tag, &ok);
}

static int
do_chore(struct launcher *l, const struct launcher_request *req,
         struct ag_err *err)
{
    bool is_wipe = req->type == LAUNCHER_WIPE;

    if (is_wipe
        && launcher_sandbox_of_session(&l->host, req->session_id) != NULL)
        return ag_err_set(err, AG_ERR_PRECONDITION,
                          "the workspace of %s is in use", req->session_id);
    return launcher_chore_begin(l->chores, is_wipe, l->host.work_dir,
                                req->session_id, req->tag, err);
}

static void
end_chore(struct launcher *l, struct launcher_chore *c)
{
    struct launcher_reply r = {
        .magic = LAUNCHER_MAGIC, .type = LAUNCHER_REPLY, .tag = c->tag};
    struct ag_err err = AG_ERR_INIT;

    if (!launcher_chore_is_done(c, &r.bytes, &r.inodes, &err))
        return;
    if (err.kind != AG_ERR_NONE)
        answer_result(l, r.tag, &err);
    else
        answer(l, &r, NULL, 0);
}

/*
 * Let go of what is left of the dead. The kernel takes 37 ms to destroy a
 * network namespace, and hardly longer for many that go together; until then
 * the two sockets of a sandbox keep its own.
 */
static void
sweep(struct launcher *l)
{
    struct launcher_sandbox *sb = l->host.list, *next;

    l->swept_ms = ag_mono_ms();
    for (; sb != NULL; sb = next) {
        next = sb->next;
        if (!sb->is_reaped)
            continue;
        launcher_bridge_remove(&l->bridge, sb);
        if (launcher_sandbox_forget(&l->host, sb))
            l->n_dead--;
    }
}

static void
serve(struct launcher *l, const struct launcher_request *req)
{
    struct ag_err err = AG_ERR_INIT;
    int rc = 0;

    if (req->type == LAUNCHER_CREATE && l->host.count == l->host.max_sandboxes
        && l->n_dead > 0)
        sweep(l);
    if (req->type == LAUNCHER_CREATE)
        rc = do_create(l, req, &err);
    else if (req->type == LAUNCHER_ATTACH)
        rc = do_attach(l, req, &err);
    else if (req->type == LAUNCHER_DESTROY)
        rc = do_destroy(l, req, &err);
    else if (req->type == LAUNCHER_WIPE || req->type == LAUNCHER_MEASURE)
        rc = do_chore(l, req, &err);
    else
        do_list(l, req->tag);
    if (rc < 0) {
        ag_log(AG_WARN, "request.failed", AG_I("type", req->type),
               AG_S("sandbox", req->sandbox_id), AG_E(&err));
        answer_result(l, req->tag, &err);
    }
}

/* ---- the client ------------------------------------------------------ */

static void
drop_client(struct launcher *l)
{
    if (l->client < 0)
        return;
    ag_log(AG_INFO, "client.gone", AG_I("sandboxes", l->host.count));
    ag_closep(&l->client);
    l->client = -1;
    for (struct launcher_sandbox *sb = l->host.list; sb; sb = sb->next) {
        sb->has_waiter = false;
        launcher_sandbox_kill(sb);
    }
}

static void
accept_client(struct launcher *l)
{
    AG_AUTO(ag_closep)
    int fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer;
    socklen_t n = sizeof(peer);

    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
        return;
    if (*l->opt.peer_user != 0 && peer.uid != l->peer_uid) {
        ag_log(AG_WARN, "client.refused", AG_I("uid", peer.uid));
        return;
    }
    ag_log(AG_INFO, "client.accepted", AG_I("pid", peer.pid));
    l->client = fd;
    fd = -1;
}

static void
read_client(struct launcher *l)
{
    /* One byte more than a message, so that a longer one shows. */
    char packet[sizeof(struct launcher_request) + 1];
    struct launcher_request req;
    struct ag_err err = AG_ERR_INIT;
    int fds[FDPASS_MAX], n_fds = 0;
    ssize_t n = fdpass_recv(l->client, packet, sizeof(packet), fds, &n_fds,
                            MSG_DONTWAIT);

    fdpass_close(fds, n_fds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop_client(l);
        return;
    }
    if (launcher_request_parse(packet, (size_t)n, &req, &err) < 0) {
        ag_log(AG_ERROR, "request.malformed", AG_E(&err));
        drop_client(l);
        return;
    }
    serve(l, &req);
}

/* ---- the loop -------------------------------------------------------- */

/* It has died: answer who waits for that. */
static void
bury(struct launcher *l, struct launcher_sandbox *sb)
{
    struct ag_err ok = AG_ERR_INIT;

    if (!launcher_sandbox_reap(sb))
        return;
    /* sandbox_svc has this descriptor too, so closing ours is not enough. */
    (void)epoll_ctl(l->sandboxes, EPOLL_CTL_DEL, sb->pidfd, NULL);
    if (sb->has_waiter)
        answer_result(l, sb->waiter_tag, &ok);
    if (l->n_dead++ == 0)
        l->swept_ms = ag_mono_ms();
}

static void
hear_sandboxes(struct launcher *l)
{
    struct epoll_event events[64];
    int n = epoll_wait(l->sandboxes, events, 64, 0);

    for (int i = 0; i < n; i++) {
        struct launcher_sandbox *sb = events[i].data.ptr;
        if (sb->build != NULL)
            follow(l, sb);
        else
            bury(l, sb);
    }
}

/* A child that says nothing is given up after a while. */
static void
follow_all(struct launcher *l)
{
    for (struct launcher_sandbox *sb = l->host.list; sb; sb = sb->next)
        if (sb->build != NULL)
            follow(l, sb);
}

static int
until_sweep(const struct launcher *l)
{
    int64_t left = l->swept_ms + SWEEP_MS - ag_mono_ms();

    if (l->client < 0 || l->n_dead >= SWEEP_COUNT)
        left = l->swept_ms + SWEEP_SOON_MS - ag_mono_ms();
    return left > 0 ? (int)left : 0;
}

static int
wait_time(const struct launcher *l)
{
    bool is_looking = l->bridge.fd < 0 && *l->bridge.path != 0;
    int wait = is_looking || l->n_building > 0 ? 1000 : -1;

    if (l->n_dead > 0 && (wait < 0 || wait > until_sweep(l)))
        wait = until_sweep(l);
    return l->is_stopping && (wait < 0 || wait > SWEEP_SOON_MS) ? SWEEP_SOON_MS
                                                                : wait;
}

enum {
    POLL_SIGNAL,
    POLL_CLIENT,
    POLL_BRIDGE,
    POLL_SANDBOXES,
    POLL_CHORES,
    POLL_COUNT = POLL_CHORES + LAUNCHER_CHORES_MAX,
};

/* Wait until somebody has something to say. */
static void
wait_for_words(struct launcher *l, struct pollfd p[POLL_COUNT])
{
    /* A second client waits in the queue until the first is gone with all its
     * sandboxes. */
    int accept_fd = l->host.count == 0 && !l->is_stopping ? l->listen_fd : -1;

    p[POLL_SIGNAL] = (struct pollfd){l->signal_fd, POLLIN, 0};
    p[POLL_CLIENT] =
        (struct pollfd){l->client >= 0 ? l->client : accept_fd, POLLIN, 0};
    p[POLL_BRIDGE] = (struct pollfd){l->bridge.fd, POLLIN, 0};
    p[POLL_SANDBOXES] = (struct pollfd){l->sandboxes, POLLIN, 0};
    for (int i = 0; i < LAUNCHER_CHORES_MAX; i++)
        p[POLL_CHORES + i] = (struct pollfd){
            l->chores[i].pid != 0 ? l->chores[i].pidfd : -1, POLLIN, 0};
    if (poll(p, POLL_COUNT, wait_time(l)) < 0)
        memset(p, 0, sizeof(*p) * POLL_COUNT);
}

/* One round: those that are heard first are the ones who wait for nothing. */
static void
turn(struct launcher *l)
{
    struct pollfd p[POLL_COUNT];

    wait_for_words(l, p);
    if (p[POLL_SIGNAL].revents != 0) {
        l->is_stopping = true;
        drop_client(l);
    }
    if (p[POLL_SANDBOXES].revents != 0)
        hear_sandboxes(l);
    else if (l->n_building > 0)
        follow_all(l);
    for (int i = 0; i < LAUNCHER_CHORES_MAX; i++)
        if (p[POLL_CHORES + i].revents != 0)
            end_chore(l, &l->chores[i]);
    if (p[POLL_BRIDGE].revents != 0)
        launcher_bridge_lost(&l->bridge);
    if (p[POLL_CLIENT].revents != 0 && l->client >= 0)
        read_client(l);
    else if (p[POLL_CLIENT].revents != 0 && !l->is_stopping)
        accept_client(l);
}

static void
run(struct launcher *l)
{
    int64_t stop_by = 0;

    for (;;) {
        if (l->n_dead > 0 && until_sweep(l) == 0)
            sweep(l);
        if (l->is_stopping) {
            if (stop_by == 0)
                stop_by = ag_mono_ms() + STOP_TIMEOUT_MS;
            if (l->host.count == 0 || ag_mono_ms() > stop_by)
                break;
        }
        launcher_bridge_tick(&l->bridge, l->host.list);
        turn(l);
    }
}

/* ---- start ----------------------------------------------------------- */

static int
find_peer(struct launcher *l, struct ag_err *err)
{
    if (*l->opt.peer_user == 0)
        return 0;
    struct passwd *pw = getpwnam(l->opt.peer_user);
    if (pw == NULL)
        return ag_err_set(err, AG_ERR_NOT_FOUND, "peer_user: no user \"%s\"",
                          l->opt.peer_user);
    l->peer_uid = pw->pw_uid;
    return 0;
}

static int
catch_signals(struct launcher *l, struct ag_err *err)
{
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    l->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
    return l->signal_fd < 0 ? ag_err_sys(err, "signalfd") : 0;
}

static int
start(struct launcher *l, struct ag_err *err)
{
    enum ag_log_level level;

    if (ag_log_level_parse(ag_str(l->opt.log_level), &level) < 0)
        return ag_err_set(err, AG_ERR_INVALID, "log_level: \"%s\"",
                          l->opt.log_level);
    ag_log_init("launcher", level);
    umask(022);
    if (geteuid() != 0)
        return ag_err_set(err, AG_ERR_DENIED, "must be started as root");
    if (find_peer(l, err) < 0 || catch_signals(l, err) < 0)
        return -1;
    l->sandboxes = epoll_create1(EPOLL_CLOEXEC);
    if (l->sandboxes < 0)
        return ag_err_sys(err, "epoll");
    /* The lock of the socket keeps a second launcher from cleaning up what
     * the first one runs. */
    l->listen_fd = fdpass_listen(l->opt.listen, err);
    struct launcher_host_options host = {
        .image_dir = l->opt.image_dir,
        .work_dir = l->opt.work_dir,
        .output_dir = l->opt.output_dir,
        .output_owner = l->peer_uid,
        .cgroup = l->opt.cgroup,
        .instance = l->opt.instance,
        .init = l->opt.init,
        .max_sandboxes = (int)l->opt.max_sandboxes,
    };
    if (l->listen_fd < 0 || launcher_host_open(&l->host, &host, err) < 0)
        return -1;
    l->bridge.path = l->opt.bridge;
    return 0;
}

int
main(int argc, char **argv)
{
    struct launcher l = {.client = -1, .bridge = {.fd = -1}};
    struct ag_err err = AG_ERR_INIT;
    int n_words = 0;

    ag_log_init("launcher", AG_INFO);
    if (ag_conf_load(&conf, argc, argv, &l.opt, &n_words, &err) < 0
        || start(&l, &err) < 0) {
        ag_log(AG_ERROR, "launcher.failed", AG_E(&err));
        launcher_host_close(&l.host);
        ag_conf_release(&conf, &l.opt);
        return 1;
    }
    ag_log(AG_INFO, "launcher.started", AG_S("listen", l.opt.listen));
    ag_daemon_ready((int)l.opt.notify_fd);
    run(&l);
    unlink(l.opt.listen);
    launcher_host_close(&l.host);
    ag_log(AG_INFO, "launcher.stopped", AG_I("left", l.host.count));
    ag_conf_release(&conf, &l.opt);
    return l.host.count == 0 ? 0 : 1;
}
