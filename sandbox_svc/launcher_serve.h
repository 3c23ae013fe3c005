/*
 * The launcher's one client, its requests, and the sandboxes it has asked for.
 * Included by launcher.c, which runs the loop, and launcher_serve.c.
 */
#ifndef SANDBOX_SVC_LAUNCHER_SERVE_H
#define SANDBOX_SVC_LAUNCHER_SERVE_H

#include "sandbox_svc/launcher_bridge.h"
#include "sandbox_svc/launcher_chore.h"
#include "sandbox_svc/launcher_sandbox.h"

struct launcher {
    struct launcher_host host;
    struct launcher_bridge bridge;
    /* Whose connections are taken; others' are closed. */
    bool checks_peer;
    uid_t peer_uid;
    int listen_fd, signal_fd, client;
    /* What the sandboxes say: the child of one that is built, the end of one
     * that is. An epoll descriptor. */
    int sandboxes;
    int n_building;
    bool is_stopping;
    /* Dead and not swept, and when the last sweep was. */
    int n_dead;
    int64_t swept_ms;
    struct launcher_chore chores[LAUNCHER_CHORES_MAX];
};

/* A connection waits: take it, if it may come. */
void launcher_serve_accept(struct launcher *l);
/* The client has something to say: one request. */
void launcher_serve_read(struct launcher *l);
/* It is gone: kill all of its sandboxes. */
void launcher_serve_drop_client(struct launcher *l);

/* Some of the sandboxes have something to say. */
void launcher_serve_hear(struct launcher *l);
/* Look after every child that is building: one that says nothing is given up
 * after a while. */
void launcher_serve_follow(struct launcher *l);
/* A workspace may have been removed or measured. */
void launcher_serve_chore(struct launcher *l, struct launcher_chore *chore);

/*
 * Let go of what is left of the dead. The kernel takes 37 ms to destroy a
 * network namespace, and hardly longer for many that go together; until then
 * the two sockets of a sandbox keep its own.
 */
void launcher_serve_sweep(struct launcher *l);

#endif
