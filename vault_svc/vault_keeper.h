/*
 * Client of the keeper. Requests are answered in order on one connection,
 * which is made again when it breaks.
 */
#ifndef VAULT_KEEPER_H
#define VAULT_KEEPER_H

#include "lib/loop.h"
#include "lib/secret.h"
#include "vault_svc/keeper_msg.h"

struct vault_keeper;

/* Does not connect yet. `path` is copied. */
struct vault_keeper *vault_keeper_new(struct ag_loop *loop, const char *path);
void vault_keeper_free(struct vault_keeper *k);

/* Exactly one of `reply` and `err` is not NULL; both live for the callback,
 * which is never called from inside vault_keeper_ask. */
typedef void vault_keeper_done(void *arg, const struct keeper_msg *reply,
                               const struct ag_err *err);

void vault_keeper_ask(struct vault_keeper *k, enum keeper_op op, ag_str_t a,
                      ag_str_t b, vault_keeper_done *done, void *arg);

/*
 * Ask and wait, for start-up only: no loop runs yet. Appends the two strings
 * of the reply (`b_out` may be NULL).
 *   AG_ERR_CORRUPT      the master key does not open what it was given
 *   AG_ERR_UNAVAILABLE  the keeper does not answer
 */
int vault_keeper_ask_now(const char *path, enum keeper_op op, ag_str_t a,
                         ag_str_t b, struct ag_buf *a_out, struct ag_buf *b_out,
                         struct ag_err *err);

#endif
