/*
 * What the launcher does for its one client, and what it hears of the
 * sandboxes. For the loop of launcher.c.
 */
#include "sandbox_svc/launcher_serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "sandbox_svc/fdpass.h"
#include "sandbox_svc/launcher_cgroup.h"

/* ---- answers --------------------------------------------------------- */

static void
answer(struct launcher *l, const struct launcher_reply *r, const int *fds,
       int n_fds)
{
    if (l->client >= 0 && fdpass_send(l->client, r, sizeof(*r), fds, n_fds) < 0)
        launcher_serve_drop_client(l);
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
    /* The children of others have inherited the socket, so that closing it is
     * not enough. */
    (void)epoll_ctl(l->sandboxes, EPOLL_CTL_DEL, launcher_sandbox_setup_fd(sb),
                    NULL);
    launcher_sandbox_end_build(sb);
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

void
launcher_serve_chore(struct launcher *l, struct launcher_chore *c)
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

void
launcher_serve_sweep(struct launcher *l)
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
        launcher_serve_sweep(l);
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

void
launcher_serve_drop_client(struct launcher *l)
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

void
launcher_serve_accept(struct launcher *l)
{
    AG_AUTO(ag_closep)
    int fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer;
    socklen_t n = sizeof(peer);

    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
        return;
    if (l->checks_peer && peer.uid != l->peer_uid) {
        ag_log(AG_WARN, "client.refused", AG_I("uid", peer.uid));
        return;
    }
    ag_log(AG_INFO, "client.accepted", AG_I("pid", peer.pid));
    l->client = fd;
    fd = -1;
}

void
launcher_serve_read(struct launcher *l)
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
        launcher_serve_drop_client(l);
        return;
    }
    if (launcher_request_parse(packet, (size_t)n, &req, &err) < 0) {
        ag_log(AG_ERROR, "request.malformed", AG_E(&err));
        launcher_serve_drop_client(l);
        return;
    }
    serve(l, &req);
}

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

void
launcher_serve_hear(struct launcher *l)
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

void
launcher_serve_follow(struct launcher *l)
{
    for (struct launcher_sandbox *sb = l->host.list; sb; sb = sb->next)
        if (sb->build != NULL)
            follow(l, sb);
}
