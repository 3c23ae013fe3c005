/*
 * The conversation with sandbox_init. What comes from there is checked by
 * init_event_parse; a box that says anything else is treated as dead.
 */
#include "sandbox_svc/sandbox_box.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/log.h"
#include "sandbox_svc/fdpass.h"
#include "sandbox_svc/launcher_without.h"

/* Each request has at most three answers: started, full, exited. */
#define EVENTS_A_REQUEST 3

static void
die(struct sandbox_box *box, const char *why)
{
    if (box->is_dead)
        return;
    box->is_dead = true;
    box->death = why;
    ag_io_stop(box->loop, &box->init);
    if (box->on_dead != NULL)
        box->on_dead(box->arg);
}

static void
on_readable(struct ag_io *io, uint32_t events)
{
    struct sandbox_box *box =
        (struct sandbox_box *)((char *)io - offsetof(struct sandbox_box, init));
    /* One byte more than a message, so that a longer one shows. */
    char packet[sizeof(struct init_head) + 1];
    struct init_head event;
    struct ag_err err = AG_ERR_INIT;
    int fds[FDPASS_MAX], n_fds = 0;
    ssize_t n =
        fdpass_recv(io->fd, packet, sizeof(packet), fds, &n_fds, MSG_DONTWAIT);

    (void)events;
    fdpass_close(fds, n_fds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 || (n < 0 && errno != EMSGSIZE)) {
        die(box, "its first process ended");
        return;
    }
    if (n < 0)
        ag_err_set(&err, AG_ERR_CORRUPT,
                   "init: a packet of too many bytes or descriptors");
    else if (n_fds > 0)
        ag_err_set(&err, AG_ERR_CORRUPT, "init: %d descriptors", n_fds);
    else if (++box->n_events > EVENTS_A_REQUEST * box->last_run_id
             && !launcher_without("event_budget"))
        ag_err_set(&err, AG_ERR_CORRUPT, "init: says more than was asked");
    else
        (void)init_event_parse(packet, (size_t)n, &event, &err);
    if (err.kind != AG_ERR_NONE) {
        ag_log(AG_WARN, "sandbox.misbehaved", AG_S("sandbox", box->id),
               AG_E(&err));
        die(box, "its first process said what it should not");
        return;
    }
    if (box->on_event != NULL)
        box->on_event(box->arg, &event);
}

struct sandbox_box *
sandbox_box_new(struct ag_loop *loop, const struct launcher_reply *reply,
                const int *fds, struct ag_err *err)
{
    struct sandbox_box *box = ag_xcalloc(1, sizeof(*box));

    memcpy(box->id, reply->sandbox_id, sizeof(box->id));
    memcpy(box->address, reply->address, sizeof(box->address));
    box->loop = loop;
    box->pidfd = fds[LAUNCHER_FD_PID];
    box->memory_events = fds[LAUNCHER_FD_MEMORY_EVENTS];
    box->pids_events = fds[LAUNCHER_FD_PIDS_EVENTS];
    box->cpu_stat = -1;
    box->init = (struct ag_io){.fn = on_readable, .fd = fds[LAUNCHER_FD_INIT]};
    if (ag_io_start(loop, &box->init, EPOLLIN, err) < 0) {
        box->is_dead = true;
        sandbox_box_free(box);
        return NULL;
    }
    return box;
}

void
sandbox_box_free(struct sandbox_box *box)
{
    if (box == NULL)
        return;
    if (!box->is_dead)
        ag_io_stop(box->loop, &box->init);
    if (box->shell.run_id != 0)
        sandbox_shell_release(&box->shell);
    ag_closep(&box->init.fd);
    ag_closep(&box->pidfd);
    ag_closep(&box->memory_events);
    ag_closep(&box->pids_events);
    ag_closep(&box->cpu_stat);
    ag_freep(&box);
}

static uint32_t
send_packet(struct sandbox_box *box, struct init_head *h, ag_str_t payload,
            const int *fds, int n_fds, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(INIT_PACKET_MAX);

    h->magic = INIT_MAGIC;
    h->run_id = ++box->last_run_id;
    if (ag_buf_append(&b, ag_str_n(h, sizeof(*h)), err) < 0
        || ag_buf_append(&b, payload, err) < 0)
        return 0;
    if (box->is_dead) {
        ag_err_set(err, AG_ERR_UNAVAILABLE, "sandbox %s has died", box->id);
        return 0;
    }
    if (fdpass_send(box->init.fd, b.p, b.n, fds, n_fds) < 0) {
        ag_err_sys(err, "command to %s", box->id);
        return 0;
    }
    return h->run_id;
}

uint32_t
sandbox_box_arm(struct sandbox_box *box, ag_str_t env, int n_env,
                const int fds[SANDBOX_SHELL_FDS], struct ag_err *err)
{
    struct init_head h = {.type = INIT_ARM, .a = n_env, .b = box->is_state_bad};

    return send_packet(box, &h, env, fds, SANDBOX_SHELL_FDS, err);
}

uint32_t
sandbox_box_kill_shell(struct sandbox_box *box, struct ag_err *err)
{
    struct init_head h = {.type = INIT_KILL, .a = 1};

    return send_packet(box, &h, ag_str(NULL), NULL, 0, err);
}

uint32_t
sandbox_box_kill(struct sandbox_box *box, struct ag_err *err)
{
    struct init_head h = {.type = INIT_KILL};

    return send_packet(box, &h, ag_str(NULL), NULL, 0, err);
}

uint32_t
sandbox_box_put(struct sandbox_box *box, const char *path, int mode,
                bool append, ag_str_t content, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(INIT_PACKET_MAX);
    struct init_head h = {.type = INIT_PUT, .a = mode, .b = append};

    if (ag_buf_append(&b, ag_str_n(path, strlen(path) + 1), err) < 0
        || ag_buf_append(&b, content, err) < 0)
        return 0;
    return send_packet(box, &h, ag_buf_str(&b), NULL, 0, err);
}
