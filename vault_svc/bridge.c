/*
 * vault_bridge: the way out of vault_svc (OAuth refresh, OIDC). A binary of its
 * own with its own uid, in the machine's network namespace, since vault_svc has
 * none with a route. It takes CONNECT from vault_svc alone, to what root lists
 * in deployment.conf alone, and never sees inside TLS. One loop, and threads
 * for look-ups.
 */
#include <errno.h>
#include <pwd.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/conf.h"
#include "lib/daemon.h"
#include "lib/log.h"
#include "lib/unix.h"
#include "vault_svc/bridge_tunnel.h"

enum { LOOKUP_THREADS = 2, LOOKUPS_MAX = 64 };

struct options {
    char *listen, *peer_user, *user, *deployment, *log_level;
    int64_t begin_seconds, idle_seconds, max_tunnels, notify_fd;
};

#define OPT(field) offsetof(struct options, field)

static const struct ag_conf_option option_table[] = {
    {"listen", AG_CONF_STR, "path",
     "/run/brainbox/egress-vault/egress-vault.sock", 1, 107, NULL, OPT(listen),
     "Socket on which vault_svc is served."},
    {"peer_user", AG_CONF_STR, "", "brainbox-vault", 0, 64, NULL,
     OPT(peer_user), "Only this user may connect; empty: the bridge's own."},
    {"user", AG_CONF_STR, "", "brainbox-vaultbridge", 0, 64, NULL, OPT(user),
     "User to become when started as root."},
    {"deployment", AG_CONF_STR, "path", "var/deployment.conf", 1, 4000, NULL,
     OPT(deployment), "deployment.conf: what it lists may be reached."},
    {"begin_seconds", AG_CONF_INT, "s", "10", 1, 300, NULL, OPT(begin_seconds),
     "A tunnel that is not open after so long is refused."},
    {"idle_seconds", AG_CONF_INT, "s", "60", 1, 86400, NULL, OPT(idle_seconds),
     "A tunnel without traffic for so long is closed."},
    {"max_tunnels", AG_CONF_INT, "", "64", 1, 10000, NULL, OPT(max_tunnels),
     "Most tunnels at a time."},
    {"notify_fd", AG_CONF_INT, "", "-1", -1, 1024, NULL, OPT(notify_fd),
     "Descriptor that gets a newline when the bridge is ready."},
    {"log_level", AG_CONF_STR, "", "info", 1, 8, NULL, OPT(log_level),
     "debug, info, warn or error."},
};

static const struct ag_conf conf = {
    .program = "vault_bridge",
    .summary = "Carries connections of vault_svc to listed destinations.",
    .usage = "[options]",
    .options = option_table,
    .n_options = sizeof(option_table) / sizeof(option_table[0]),
};

struct server {
    struct bridge_tunnels tunnels;
    struct vault_deployment deployment;
    struct options opt;
    uid_t peer;
    struct ag_io listener;
};

static bool
is_peer(const struct server *s, int fd)
{
    struct ucred cred;
    socklen_t n = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
        return false;
    if (cred.uid == s->peer)
        return true;
    ag_log(AG_WARN, "tunnel.peer_refused", AG_I("uid", cred.uid));
    return false;
}

static void
on_listener(struct ag_io *io, uint32_t events)
{
    struct server *s =
        (struct server *)((char *)io - offsetof(struct server, listener));
    int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd >= 0 && !is_peer(s, fd))
        close(fd);
    else if (fd >= 0)
        bridge_tunnel_start(&s->tunnels, fd);
}

static void
on_term(void *arg)
{
    ag_loop_stop(arg);
}

/* Before it confines itself: users are looked up, the file is root's. */
static int
open_up(struct server *s, struct ag_err *err)
{
    const char *name = s->opt.peer_user;
    const struct passwd *pw = *name == '\0' ? NULL : getpwnam(name);

    if (*name != '\0' && pw == NULL)
        return ag_err_set(err, AG_ERR_NOT_FOUND,
                          "peer_user \"%s\" does not exist", name);
    s->peer = pw == NULL ? geteuid() : pw->pw_uid;
    if (vault_deployment_load(s->opt.deployment, &s->deployment, err) < 0)
        return -1;
    s->listener.fd = ag_unix_listen(s->opt.listen, SOCK_STREAM, err);
    return s->listener.fd < 0 ? -1 : 0;
}

static int
start(struct server *s, struct ag_err *err)
{
    struct bridge_tunnels *t = &s->tunnels;
    enum ag_log_level level;

    if (ag_log_level_parse(ag_str(s->opt.log_level), &level) < 0)
        return ag_err_set(err, AG_ERR_INVALID, "log_level: \"%s\"",
                          s->opt.log_level);
    ag_log_init("vault_bridge", level);
    if (open_up(s, err) < 0 || ag_daemon_confine(s->opt.user, err) < 0)
        return -1;
    t->loop = ag_loop_new(err);
    if (t->loop == NULL || ag_loop_on_term(t->loop, on_term, t->loop, err) < 0)
        return -1;
    t->lookups = ag_workq_new(t->loop, LOOKUP_THREADS, LOOKUPS_MAX, err);
    if (t->lookups == NULL)
        return -1;
    t->deployment = &s->deployment;
    t->begin_ms = s->opt.begin_seconds * 1000;
    t->idle_ms = s->opt.idle_seconds * 1000;
    t->n_max = s->opt.max_tunnels;
    return ag_io_start(t->loop, &s->listener, EPOLLIN, err);
}

int
main(int argc, char **argv)
{
    struct server s = {.listener = {.fn = on_listener, .fd = -1}};
    struct ag_err err = AG_ERR_INIT;
    int n_words = 0;

    ag_log_init("vault_bridge", AG_INFO);
    if (ag_conf_load(&conf, argc, argv, &s.opt, &n_words, &err) < 0
        || start(&s, &err) < 0) {
        ag_log(AG_ERROR, "vault_bridge.failed", AG_E(&err));
        vault_deployment_release(&s.deployment);
        ag_conf_release(&conf, &s.opt);
        return 1;
    }
    ag_log(AG_INFO, "vault_bridge.started", AG_S("listen", s.opt.listen),
           AG_I("destinations", (long long)s.deployment.n));
    ag_daemon_ready((int)s.opt.notify_fd);
    ag_loop_run(s.tunnels.loop);
    ag_io_stop(s.tunnels.loop, &s.listener);
    ag_closep(&s.listener.fd);
    bridge_tunnels_end(&s.tunnels);
    ag_workq_free(s.tunnels.lookups);
    ag_loop_free(s.tunnels.loop);
    ag_log(AG_INFO, "vault_bridge.stopped", AG_S("listen", s.opt.listen));
    vault_deployment_release(&s.deployment);
    ag_conf_release(&conf, &s.opt);
    return 0;
}
