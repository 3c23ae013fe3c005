/*
 * The connection to the launcher: requests by tag, made again each second
 * after it broke. On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_LINK_H
#define SANDBOX_SVC_SANDBOX_LINK_H

#include "lib/loop.h"
#include "sandbox_svc/launcher_msg.h"

struct sandbox_link;

struct sandbox_link_events {
    void (*up)(void *arg);
    /* Every sandbox is gone, or about to be. Requests have failed already. */
    void (*down)(void *arg);
    void *arg;
};

struct sandbox_link *sandbox_link_new(struct ag_loop *loop, const char *path,
                                      const struct sandbox_link_events *events);
/* Fails what is in flight. The launcher then destroys every sandbox. */
void sandbox_link_free(struct sandbox_link *link);

bool sandbox_link_is_up(const struct sandbox_link *link);

/*
 * Exactly one of `reply` and `err` is not NULL. A CREATE reply comes with
 * LAUNCHER_CREATE_FDS descriptors, an ATTACH reply with one, which the callee
 * owns; otherwise `fds` is NULL.
 */
typedef void sandbox_link_done(void *arg, const struct launcher_reply *reply,
                               const int *fds, const struct ag_err *err);

/* Fills in magic and tag. -1 with AG_ERR_UNAVAILABLE when the launcher is not
 * there; `done` is then not called. */
int sandbox_link_send(struct sandbox_link *link, struct launcher_request *req,
                      sandbox_link_done *done, void *arg, struct ag_err *err);

#endif
