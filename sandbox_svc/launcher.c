/*
 * sandbox_launcher: the privileged part of sandboxes. A binary of its own,
 * root, one thread, no gRPC.
 *
 * It takes a closed set of fixed-size messages (launcher_msg.h) from one
 * client, sandbox_svc, and reads nothing else that comes from outside. When the
 * client goes away, or at SIGTERM, every sandbox is destroyed; when it is
 * killed itself they die by their parent-death signal.
 */
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/daemon.h"
#include "lib/log.h"
#include "lib/unix.h"
#include "sandbox_svc/fdpass.h"
#include "sandbox_svc/launcher_cgroup.h"
#include "sandbox_svc/launcher_host.h"
#include "sandbox_svc/launcher_serve.h"

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

/* ---- the loop -------------------------------------------------------- */

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
        launcher_serve_drop_client(l);
    }
    if (p[POLL_SANDBOXES].revents != 0)
        launcher_serve_hear(l);
    else if (l->n_building > 0)
        launcher_serve_follow(l);
    for (int i = 0; i < LAUNCHER_CHORES_MAX; i++)
        if (p[POLL_CHORES + i].revents != 0)
            launcher_serve_chore(l, &l->chores[i]);
    if (p[POLL_BRIDGE].revents != 0)
        launcher_bridge_lost(&l->bridge);
    if (p[POLL_CLIENT].revents != 0 && l->client >= 0)
        launcher_serve_read(l);
    else if (p[POLL_CLIENT].revents != 0 && !l->is_stopping)
        launcher_serve_accept(l);
}

static void
run(struct launcher *l)
{
    int64_t stop_by = 0;

    for (;;) {
        if (l->n_dead > 0 && until_sweep(l) == 0)
            launcher_serve_sweep(l);
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
find_peer(struct launcher *l, const char *user, struct ag_err *err)
{
    if (*user == 0)
        return 0;
    struct passwd *pw = getpwnam(user);
    if (pw == NULL)
        return ag_err_set(err, AG_ERR_NOT_FOUND, "peer_user: no user \"%s\"",
                          user);
    l->checks_peer = true;
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
start(struct launcher *l, const struct options *opt, struct ag_err *err)
{
    enum ag_log_level level;

    if (ag_log_level_parse(ag_str(opt->log_level), &level) < 0)
        return ag_err_set(err, AG_ERR_INVALID, "log_level: \"%s\"",
                          opt->log_level);
    ag_log_init("launcher", level);
    umask(022);
    if (geteuid() != 0)
        return ag_err_set(err, AG_ERR_DENIED, "must be started as root");
    if (find_peer(l, opt->peer_user, err) < 0 || catch_signals(l, err) < 0)
        return -1;
    l->sandboxes = epoll_create1(EPOLL_CLOEXEC);
    if (l->sandboxes < 0)
        return ag_err_sys(err, "epoll");
    /* The lock of the socket keeps a second launcher from cleaning up what
     * the first one runs. */
    l->listen_fd = ag_unix_listen(opt->listen, SOCK_SEQPACKET, err);
    struct launcher_host_options host = {
        .image_dir = opt->image_dir,
        .work_dir = opt->work_dir,
        .output_dir = opt->output_dir,
        .output_owner = l->peer_uid,
        .cgroup = opt->cgroup,
        .instance = opt->instance,
        .init = opt->init,
        .max_sandboxes = (int)opt->max_sandboxes,
    };
    if (l->listen_fd < 0 || launcher_host_open(&l->host, &host, err) < 0)
        return -1;
    l->bridge.path = opt->bridge;
    return 0;
}

int
main(int argc, char **argv)
{
    struct launcher l = {.client = -1, .bridge = {.fd = -1}};
    struct options opt = {0};
    struct ag_err err = AG_ERR_INIT;
    int n_words = 0;

    ag_log_init("launcher", AG_INFO);
    if (ag_conf_load(&conf, argc, argv, &opt, &n_words, &err) < 0
        || start(&l, &opt, &err) < 0) {
        ag_log(AG_ERROR, "launcher.failed", AG_E(&err));
        launcher_host_close(&l.host);
        ag_conf_release(&conf, &opt);
        return 1;
    }
    ag_log(AG_INFO, "launcher.started", AG_S("listen", opt.listen));
    ag_daemon_ready((int)opt.notify_fd);
    run(&l);
    unlink(opt.listen);
    launcher_host_close(&l.host);
    ag_log(AG_INFO, "launcher.stopped", AG_I("left", l.host.count));
    ag_conf_release(&conf, &opt);
    return l.host.count == 0 ? 0 : 1;
}
