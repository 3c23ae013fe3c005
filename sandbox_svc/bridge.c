/*
 * bridge: carries what sandboxes send out to egress, and answers their name
 * queries. A binary of its own, unprivileged, one loop, for all sandboxes.
 *
 * The launcher hands it, for each sandbox, two sockets that live in the
 * sandbox's network namespace. It holds no credential and no key: it knows
 * which name a connection asked for, and says so to egress.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/conf.h"
#include "lib/daemon.h"
#include "lib/log.h"
#include "lib/unix.h"
#include "sandbox_svc/bridge_msg.h"
#include "sandbox_svc/bridge_report.h"
#include "sandbox_svc/bridge_sandbox.h"
#include "sandbox_svc/fdpass.h"

struct options {
    char *listen, *egress_tls, *egress_plain, *egress_report, *user;
    char *log_level;
    int64_t idle_seconds, max_connections, notify_fd;
};

#define OPT(field) offsetof(struct options, field)

static const struct ag_conf_option option_table[] = {
    {"listen", AG_CONF_STR, "path", NULL, 1, 107, NULL, OPT(listen),
     "Socket on which the launcher is served."},
    {"egress_tls", AG_CONF_STR, "path", NULL, 1, 107, NULL, OPT(egress_tls),
     "Socket of egress for TLS connections."},
    {"egress_plain", AG_CONF_STR, "path", NULL, 1, 107, NULL, OPT(egress_plain),
     "Socket of egress for all other connections."},
    {"egress_report", AG_CONF_STR, "path", "", 0, 107, NULL, OPT(egress_report),
     "Socket of egress for what the bridge refuses; empty: only the log has it."},
    {"idle_seconds", AG_CONF_INT, "s", "600", 1, 86400, NULL, OPT(idle_seconds),
     "A connection without traffic for so long is reset."},
    {"max_connections", AG_CONF_INT, "", "2048", 1, 100000, NULL,
     OPT(max_connections), "Most connections of all sandboxes together."},
    {"user", AG_CONF_STR, "", "", 0, 64, NULL, OPT(user),
     "User to become when started as root."},
    {"notify_fd", AG_CONF_INT, "", "-1", -1, 1024, NULL, OPT(notify_fd),
     "Descriptor that gets a newline when the bridge is ready."},
    {"log_level", AG_CONF_STR, "", "info", 1, 8, NULL, OPT(log_level),
     "debug, info, warn or error."},
};

static const struct ag_conf conf = {
    .program = "bridge",
    .summary = "Carries connections of sandboxes to egress.",
    .usage = "[options]",
    .options = option_table,
    .n_options = sizeof(option_table) / sizeof(option_table[0]),
};

struct server {
    struct bridge bridge;
    struct options opt;
    struct ag_io listener, launcher;
};

#define OF(member, p) \
    ((struct server *)((char *)(p)-offsetof(struct server, member)))

static void
drop_launcher(struct server *s)
{
    ag_log(AG_INFO, "launcher.gone", AG_S("listen", s->opt.listen));
    ag_io_stop(s->bridge.loop, &s->launcher);
    ag_closep(&s->launcher.fd);
    s->launcher.fd = -1;
    while (s->bridge.sandboxes != NULL)
        bridge_sandbox_free(s->bridge.sandboxes);
}

static void
obey(struct server *s, const struct bridge_msg *m, int *fds, int *n_fds)
{
    struct ag_err err = AG_ERR_INIT;
    struct bridge_sandbox *old = bridge_sandbox_find(&s->bridge, m->sandbox_id);

    if (old != NULL)
        bridge_sandbox_free(old);
    if (m->type != BRIDGE_ADD)
        return;
    if (*n_fds != 2) {
        ag_log(AG_ERROR, "message.malformed", AG_I("descriptors", *n_fds));
        return;
    }
    *n_fds = 0;
    if (bridge_sandbox_new(&s->bridge, m->sandbox_id, m->address, fds[0],
                           fds[1], &err)
        == NULL)
        ag_log(AG_ERROR, "sandbox.failed", AG_S("sandbox", m->sandbox_id),
               AG_E(&err));
}

static bool
is_valid(const struct bridge_msg *m, ssize_t n)
{
    return n == (ssize_t)sizeof(*m) && m->magic == BRIDGE_MAGIC
           && (m->type == BRIDGE_ADD || m->type == BRIDGE_REMOVE)
           && memchr(m->sandbox_id, 0, sizeof(m->sandbox_id)) != NULL
           && m->address[0] == 0xfd;
}

static void
on_launcher(struct ag_io *io, uint32_t events)
{
    struct server *s = OF(launcher, io);
    struct bridge_msg m;
    int fds[FDPASS_MAX], n_fds = 0;
    ssize_t n = fdpass_recv(io->fd, &m, sizeof(m), fds, &n_fds, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || !is_valid(&m, n)) {
        fdpass_close(fds, n_fds);
        drop_launcher(s);
        return;
    }
    obey(s, &m, fds, &n_fds);
    fdpass_close(fds, n_fds);
}

/* A launcher that connects anew replaces the one before it. */
static void
on_listener(struct ag_io *io, uint32_t events)
{
    struct server *s = OF(listener, io);
    struct ag_err err = AG_ERR_INIT;
    int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    if (s->launcher.fd >= 0)
        drop_launcher(s);
    s->launcher = (struct ag_io){.fn = on_launcher, .fd = fd};
    if (ag_io_start(s->bridge.loop, &s->launcher, EPOLLIN, &err) < 0) {
        ag_log(AG_ERROR, "launcher.failed", AG_E(&err));
        ag_closep(&s->launcher.fd);
        s->launcher.fd = -1;
        return;
    }
    ag_log(AG_INFO, "launcher.accepted", AG_S("listen", s->opt.listen));
}

static void
on_term(void *arg)
{
    ag_loop_stop(arg);
}

/* Two descriptors a sandbox and two a connection. */
static void
raise_descriptors(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static int
start(struct server *s, struct ag_err *err)
{
    enum ag_log_level level;

    if (ag_log_level_parse(ag_str(s->opt.log_level), &level) < 0)
        return ag_err_set(err, AG_ERR_INVALID, "log_level: \"%s\"",
                          s->opt.log_level);
    ag_log_init("bridge", level);
    raise_descriptors();
    s->listener = (struct ag_io){
        .fn = on_listener,
        .fd = ag_unix_listen(s->opt.listen, SOCK_SEQPACKET, err)};
    if (s->listener.fd < 0 || ag_daemon_confine(s->opt.user, err) < 0)
        return -1;
    s->bridge.loop = ag_loop_new(err);
    if (s->bridge.loop == NULL
        || ag_loop_on_term(s->bridge.loop, on_term, s->bridge.loop, err) < 0)
        return -1;
    s->bridge.egress_tls = s->opt.egress_tls;
    s->bridge.egress_plain = s->opt.egress_plain;
    s->bridge.egress_report = s->opt.egress_report;
    s->bridge.idle_ms = s->opt.idle_seconds * 1000;
    s->bridge.max_connections = s->opt.max_connections;
    return ag_io_start(s->bridge.loop, &s->listener, EPOLLIN, err);
}

int
main(int argc, char **argv)
{
    struct server s = {.launcher = {.fd = -1}};
    struct ag_err err = AG_ERR_INIT;
    int n_words = 0;

    ag_log_init("bridge", AG_INFO);
    if (ag_conf_load(&conf, argc, argv, &s.opt, &n_words, &err) < 0
        || start(&s, &err) < 0) {
        ag_log(AG_ERROR, "bridge.failed", AG_E(&err));
        ag_conf_release(&conf, &s.opt);
        return 1;
    }
    ag_log(AG_INFO, "bridge.started", AG_S("listen", s.opt.listen));
    ag_daemon_ready((int)s.opt.notify_fd);
    ag_loop_run(s.bridge.loop);
    if (s.launcher.fd >= 0)
        drop_launcher(&s);
    bridge_reports_end(&s.bridge);
    ag_io_stop(s.bridge.loop, &s.listener);
    ag_closep(&s.listener.fd);
    ag_loop_free(s.bridge.loop);
    ag_log(AG_INFO, "bridge.stopped", AG_S("listen", s.opt.listen));
    ag_conf_release(&conf, &s.opt);
    return 0;
}
