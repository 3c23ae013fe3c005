/*
 * vault_keeper: alone holds the master key, the root CA key and the key that
 * signs assertions. Wraps, unwraps, MACs and signs for vault_svc, and nothing
 * else: no network, no database, one thread, one poll loop, one datagram at a
 * time. The peer is checked by SO_PEERCRED beside the folder's mode.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/daemon.h"
#include "lib/log.h"
#include "vault_svc/keeper_op.h"

enum { PEERS_MAX = 8 };

struct options {
    char *listen, *peer_user, *user, *key_file, *assertion_pub, *ca_pem;
    char *log_level;
    int64_t notify_fd, clock_offset_seconds;
    bool init;
};

struct keeper {
    struct keeper_keys keys;
    uid_t peer_uid;
    int signals, listener;
    int peers[PEERS_MAX];
    int n_peers;
};

#define OPT(field) offsetof(struct options, field)

static const struct ag_conf_option options[] = {
    {"listen", AG_CONF_STR, "path",
     "/run/brainbox/keeper-vault/keeper-vault.sock", 1, 107, NULL, OPT(listen),
     "SEQPACKET socket that vault_svc connects to"},
    {"peer_user", AG_CONF_STR, "", "brainbox-vault", 0, 64, NULL,
     OPT(peer_user), "only this user may connect; empty: the keeper's own"},
    {"user", AG_CONF_STR, "", "brainbox-keeper", 0, 64, NULL, OPT(user),
     "user to become when started as root"},
    {"key_file", AG_CONF_STR, "path", "var/keeper/master.key", 1, 4000, NULL,
     OPT(key_file), "master key, 32 bytes, mode 0600; identity beside it"},
    {"assertion_pub", AG_CONF_STR, "path", "/run/brainbox/public/assertion.pub",
     0, 4000, NULL, OPT(assertion_pub),
     "where the assertions' public key is published; empty: nowhere"},
    {"ca_pem", AG_CONF_STR, "path", "/run/brainbox/public/ca.pem", 0, 4000,
     NULL, OPT(ca_pem), "where the root certificate is published"},
    {"log_level", AG_CONF_STR, "", "info", 1, 8, NULL, OPT(log_level),
     "debug, info, warn or error"},
    {"notify_fd", AG_CONF_INT, "fd", "-1", -1, 1024, NULL, OPT(notify_fd),
     "descriptor that gets a newline once the keeper answers"},
    {"clock_offset_seconds", AG_CONF_INT, "s", "0", -315360000, 315360000, NULL,
     OPT(clock_offset_seconds), "added to the machine's clock; for tests"},
    {"init", AG_CONF_BOOL, "", "false", 0, 0, NULL, OPT(init),
     "make the master key and identity, then exit"},
};

static const struct ag_conf conf = {
    "vault_keeper", "holds the master key and signs for vault_svc", "[options]",
    options, sizeof(options) / sizeof(options[0])};

static void
options_release(struct options *o)
{
    ag_conf_release(&conf, o);
}

static int
peer_uid_of(const char *name, uid_t *out, struct ag_err *err)
{
    if (*name == '\0') {
        *out = geteuid();
        return 0;
    }
    errno = 0;
    const struct passwd *pw = getpwnam(name);
    if (pw == NULL)
        return ag_err_set(err, AG_ERR_NOT_FOUND,
                          "peer_user \"%s\" does not exist", name);
    *out = pw->pw_uid;
    return 0;
}

/* The lock is kept for the life of the process: a second keeper must not take
 * the socket away. */
static int
take_lock(const char *path, struct ag_err *err)
{
    char lock[160];

    snprintf(lock, sizeof(lock), "%s.lock", path);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return ag_err_sys(err, "open %s", lock);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return ag_err_set(err, AG_ERR_EXISTS, "another keeper listens on %s",
                          path);
    }
    return 0;
}

static int
listen_on(const char *path, struct ag_err *err)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = strlen(path);

    if (n >= sizeof(to.sun_path))
        return ag_err_set(err, AG_ERR_INVALID,
                          "listen: %s is longer than 107 bytes", path);
    memcpy(to.sun_path, path, n);
    if (take_lock(path, err) < 0)
        return -1;
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ag_err_sys(err, "socket");
    /* The folder (0710, the caller's group) and SO_PEERCRED guard it. */
    if (bind(fd, (struct sockaddr *)&to, sizeof(to)) < 0
        || chmod(path, 0666) < 0 || listen(fd, PEERS_MAX) < 0) {
        close(fd);
        return ag_err_sys(err, "listen on %s", path);
    }
    return fd;
}

static void
accept_peer(struct keeper *k)
{
    struct ucred cred;
    socklen_t n = sizeof(cred);
    int fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0
        || cred.uid != k->peer_uid || k->n_peers == PEERS_MAX) {
        ag_log(AG_WARN, "keeper.peer_refused", AG_I("uid", cred.uid),
               AG_I("pid", cred.pid), AG_I("open", k->n_peers));
        close(fd);
        return;
    }
    k->peers[k->n_peers++] = fd;
}

/* One datagram in, one out. Returns false when the peer is gone or broke the
 * protocol. */
static bool
serve_peer(struct keeper *k, int fd)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf out = AG_BUF_INIT(KEEPER_MSG_MAX);
    struct ag_err err = AG_ERR_INIT;
    char raw[KEEPER_MSG_MAX + 1];
    ssize_t n = recv(fd, raw, sizeof(raw), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    int rc = keeper_op_run(&k->keys, ag_str_n(raw, (size_t)n), &out, &err);
    explicit_bzero(raw, sizeof(raw));
    if (rc < 0) {
        ag_log(AG_WARN, "keeper.message_refused", AG_E(&err));
        return false;
    }
    return send(fd, out.p, out.n, MSG_NOSIGNAL) == (ssize_t)out.n;
}

static void
serve(struct keeper *k)
{
    for (;;) {
        struct pollfd p[2 + PEERS_MAX] = {{k->signals, POLLIN, 0},
                                          {k->listener, POLLIN, 0}};
        int n = k->n_peers;
        for (int i = 0; i < n; i++)
            p[2 + i] = (struct pollfd){k->peers[i], POLLIN, 0};
        if (poll(p, (nfds_t)(2 + n), -1) < 0)
            continue;
        if (p[0].revents != 0)
            return;
        for (int i = n - 1; i >= 0; i--) {
            if (p[2 + i].revents == 0 || serve_peer(k, k->peers[i]))
                continue;
            close(k->peers[i]);
            k->peers[i] = k->peers[--k->n_peers];
        }
        if (p[1].revents != 0)
            accept_peer(k);
    }
}

static int
bring_up(const struct options *o, struct keeper *k, struct ag_err *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    k->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (peer_uid_of(o->peer_user, &k->peer_uid, err) < 0
        || keeper_keys_load(o->key_file, &k->keys, err) < 0
        || keeper_keys_publish(&k->keys, o->assertion_pub, o->ca_pem, err) < 0)
        return -1;
    k->listener = listen_on(o->listen, err);
    return k->listener < 0 ? -1 : 0;
}

static int
run(int argc, char **argv, struct ag_err *err)
{
    AG_AUTO(options_release) struct options o = {0};
    static struct keeper k;
    enum ag_log_level level = AG_INFO;
    int n_words;

    if (ag_conf_load(&conf, argc, argv, &o, &n_words, err) < 0)
        return -1;
    ag_clock_shift(o.clock_offset_seconds * 1000000);
    if (n_words != 0)
        return ag_err_set(err, AG_ERR_INVALID, "unexpected word \"%s\"",
                          argv[0]);
    if (ag_log_level_parse(ag_str(o.log_level), &level) < 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "log_level: \"%s\" is none of debug, info, warn, "
                          "error",
                          o.log_level);
    ag_log_init("keeper", level);
    if (ag_daemon_confine(o.user, err) < 0)
        return -1;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        ag_log(AG_WARN, "keeper.memory_not_locked", AG_I("errno", errno));
    if (o.init) {
        if (keeper_keys_create(o.key_file, err) < 0)
            return -1;
        ag_log(AG_INFO, "keeper.key_created", AG_S("path", o.key_file));
        return 0;
    }
    if (bring_up(&o, &k, err) < 0)
        return -1;
    ag_log(AG_INFO, "keeper.started", AG_S("listen", o.listen));
    ag_daemon_ready((int)o.notify_fd);
    serve(&k);
    ag_log(AG_INFO, "keeper.stopped", AG_I("peers", k.n_peers));
    unlink(o.listen);
    keeper_keys_release(&k.keys);
    return 0;
}

int
main(int argc, char **argv)
{
    struct ag_err err = AG_ERR_INIT;

    ag_log_init("keeper", AG_INFO);
    if (run(argc, argv, &err) == 0)
        return 0;
    ag_log(AG_ERROR, "keeper.failed", AG_E(&err));
    return 1;
}
