/*
 * Sandboxes that are complete but for a session: built ahead, so that a claim
 * need not wait. On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_POOL_H
#define SANDBOX_SVC_SANDBOX_POOL_H

#include "sandbox_svc/sandbox_box.h"
#include "sandbox_svc/sandbox_svc.h"

struct sandbox_pool *sandbox_pool_new(struct sandbox_svc *svc);
void sandbox_pool_free(struct sandbox_pool *pool);

/* Exactly one is not NULL. The box is the callee's. */
typedef void
sandbox_pool_done(void *arg, struct sandbox_box *box, const struct ag_err *err);
/* `done` may be called at once. */
void sandbox_pool_claim(struct sandbox_pool *pool, sandbox_pool_done *done,
                        void *arg);

/* Sandboxes that nobody has yet. */
int sandbox_pool_ready(const struct sandbox_pool *pool);

/* The launcher came or went. */
void sandbox_pool_up(struct sandbox_pool *pool);
void sandbox_pool_down(struct sandbox_pool *pool);

/* Have the launcher destroy `box` and let go of it; nobody waits. */
void sandbox_pool_discard(struct sandbox_pool *pool, struct sandbox_box *box);

#endif
