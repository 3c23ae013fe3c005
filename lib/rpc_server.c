/*
 * gRPC server: sockets, dispatch table, stopping. All on the loop.
 */
#include "lib/rpc_call.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_security.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"

#define UNIX_PATH_MAX_BYTES 107
#define READ_BYTES 512  /* a connection keeps so much; it follows what comes */
#define CALLS_AWAITED 2 /* of each method; further ones wait within gRPC */

struct ag_rpc_server *
ag_rpc_server_new(struct ag_rpc *rpc, const char *name)
{
    struct ag_rpc_server *srv = ag_xcalloc(1, sizeof(*srv));
    grpc_arg list[] = {
        {GRPC_ARG_INTEGER,
         (char *)(uintptr_t)GRPC_ARG_ALLOW_REUSEPORT,
         {.integer = 0}},
        /* No PING beside the data to measure a line that is a unix socket. */
        {GRPC_ARG_INTEGER,
         (char *)(uintptr_t)GRPC_ARG_HTTP2_BDP_PROBE,
         {.integer = 0}},
        {GRPC_ARG_INTEGER,
         (char *)(uintptr_t)GRPC_ARG_TCP_READ_CHUNK_SIZE,
         {.integer = READ_BYTES}},
    };
    grpc_channel_args args = {sizeof(list) / sizeof(list[0]), list};

    srv->rpc = rpc;
    srv->name = name;
    srv->server = grpc_server_create(&args, NULL);
    grpc_server_register_completion_queue(srv->server, rpc->cq, NULL);
    ag_rpc_builtin_add(srv);
    return srv;
}

void
ag_rpc_server_add(struct ag_rpc_server *srv, const struct ag_rpc_method *method,
                  ag_rpc_handler *fn, void *arg)
{
    srv->entries =
        ag_xrealloc(srv->entries, (srv->n_entries + 1) * sizeof(*srv->entries));
    struct ag_rpc_entry *e = &srv->entries[srv->n_entries++];
    *e = (struct ag_rpc_entry){method, fn, arg, NULL};
    if (!method->client_streams)
        e->registered = grpc_server_register_method(
            srv->server, method->path, NULL,
            GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
}

const struct ag_rpc_entry *
ag_rpc_server_find(const struct ag_rpc_server *srv, ag_str_t path)
{
    for (size_t i = 0; i < srv->n_entries; i++)
        if (ag_str_is(path, srv->entries[i].method->path))
            return &srv->entries[i];
    return NULL;
}

/*
 * gRPC would silently take a unix socket over from a live server: hold a lock
 * beside it for as long as the process lives.
 */
static int
take_lock(struct ag_rpc_server *srv, const char *path, struct ag_err *err)
{
    char lock_path[UNIX_PATH_MAX_BYTES + 8];
    int fd;

    (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
    fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ag_err_sys(err, "%s", lock_path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            ag_err_set(err, AG_ERR_EXISTS,
                       "%s: another process serves this socket", path);
        else
            ag_err_sys(err, "lock %s", lock_path);
        (void)close(fd);
        return -1;
    }
    ag_assert(srv->n_locks < sizeof(srv->lock_fd) / sizeof(srv->lock_fd[0]));
    srv->lock_fd[srv->n_locks++] = fd;
    return 0;
}

int
ag_rpc_server_listen_unix(struct ag_rpc_server *srv, const char *path,
                          struct ag_err *err)
{
    char target[UNIX_PATH_MAX_BYTES + 8];
    grpc_server_credentials *creds;
    int bound;

    if (strlen(path) > UNIX_PATH_MAX_BYTES)
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: a unix socket's path has at most %d bytes", path,
                          UNIX_PATH_MAX_BYTES);
    if (take_lock(srv, path, err) < 0)
        return -1;
    if (unlink(path) < 0 && errno != ENOENT)
        return ag_err_sys(err, "remove stale %s", path);
    (void)snprintf(target, sizeof(target), "unix:%s", path);
    creds = grpc_insecure_server_credentials_create();
    bound = grpc_server_add_http2_port(srv->server, target, creds);
    grpc_server_credentials_release(creds);
    if (bound == 0)
        return ag_err_set(err, AG_ERR_IO, "cannot listen on %s", path);
    if (chmod(path, 0666) < 0)
        return ag_err_sys(err, "chmod %s", path);
    return 0;
}

int
ag_rpc_server_listen_tls(struct ag_rpc_server *srv, const char *address,
                         const struct ag_rpc_tls *tls, int *port,
                         struct ag_err *err)
{
    AG_AUTO(ag_freep) char *ca = ag_rpc_read_pem(tls->client_ca_file, err);
    AG_AUTO(ag_freep) char *cert = NULL;
    AG_AUTO(ag_freep) char *key = NULL;
    grpc_ssl_pem_key_cert_pair pair;
    grpc_server_credentials *creds;
    int bound;

    if (ca == NULL || (cert = ag_rpc_read_pem(tls->cert_file, err)) == NULL
        || (key = ag_rpc_read_pem(tls->key_file, err)) == NULL)
        return -1;
    pair = (grpc_ssl_pem_key_cert_pair){key, cert};
    creds = grpc_ssl_server_credentials_create_ex(
        ca, &pair, 1,
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, NULL);
    bound = grpc_server_add_http2_port(srv->server, address, creds);
    grpc_server_credentials_release(creds);
    if (bound == 0)
        return ag_err_set(err, AG_ERR_IO, "cannot listen on %s", address);
    *port = bound;
    return 0;
}

int
ag_rpc_server_start(struct ag_rpc_server *srv, struct ag_err *err)
{
    (void)err;
    grpc_server_start(srv->server);
    srv->is_serving = true;
    for (int i = 0; i < CALLS_AWAITED; i++) {
        ag_rpc_call_await(srv, NULL);
        for (size_t k = 0; k < srv->n_entries; k++)
            if (srv->entries[k].registered != NULL)
                ag_rpc_call_await(srv, &srv->entries[k]);
    }
    return 0;
}

void
ag_rpc_server_set_serving(struct ag_rpc_server *srv, bool is_serving)
{
    if (srv->is_serving == is_serving)
        return;
    srv->is_serving = is_serving;
    ag_rpc_builtin_changed(srv);
}

/* ---- stopping ---------------------------------------------------------- */

static void
maybe_stopped(struct ag_rpc_server *srv)
{
    void (*fn)(void *arg) = srv->stopped;

    if (!srv->is_shut || srv->calls != NULL || fn == NULL)
        return;
    srv->stopped = NULL;
    fn(srv->stopped_arg);
}

void
ag_rpc_server_call_gone(struct ag_rpc_server *srv)
{
    maybe_stopped(srv);
}

static void
shut(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_server *srv =
        AG_CONTAINER(tag, struct ag_rpc_server, shut_tag);

    (void)is_ok;
    ag_timer_stop(srv->rpc->loop, &srv->grace);
    srv->is_shut = true;
    maybe_stopped(srv);
}

static void
grace_over(struct ag_timer *timer)
{
    struct ag_rpc_server *srv =
        AG_CONTAINER(timer, struct ag_rpc_server, grace);

    grpc_server_cancel_all_calls(srv->server);
}

void
ag_rpc_server_stop(struct ag_rpc_server *srv, int64_t grace_ms,
                   void (*done)(void *arg), void *arg)
{
    ag_assert(!srv->is_stopping);
    srv->is_stopping = true;
    srv->is_serving = false;
    ag_rpc_builtin_stop(srv);
    srv->stopped = done;
    srv->stopped_arg = arg;
    srv->shut_tag.done = shut;
    srv->grace.fn = grace_over;
    ag_timer_start(srv->rpc->loop, &srv->grace, grace_ms);
    AG_RPC_TAG_GIVE(&srv->shut_tag);
    grpc_server_shutdown_and_notify(srv->server, srv->rpc->cq, &srv->shut_tag);
}

void
ag_rpc_server_free(struct ag_rpc_server *srv)
{
    if (srv == NULL)
        return;
    grpc_server_destroy(srv->server);
    for (size_t i = 0; i < srv->n_locks; i++)
        (void)close(srv->lock_fd[i]);
    free(srv->entries);
    free(srv);
}
