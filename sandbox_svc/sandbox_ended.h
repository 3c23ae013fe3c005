/*
 * Why the last sandboxes ended by themselves: who comes back to one is told.
 * Bounded; the oldest is forgotten. On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_ENDED_H
#define SANDBOX_SVC_SANDBOX_ENDED_H

#include "sandbox_svc/sandbox_svc.h"

struct sandbox_ended;

struct sandbox_ended *sandbox_ended_new(void);
void sandbox_ended_free(struct sandbox_ended *ended);

/* `why` is kept, and must be a constant; NULL forgets. */
void sandbox_ended_note(struct sandbox_ended *ended, const char *session_id,
                        const char *why);
/* NULL when nothing is known of it. */
const char *
sandbox_ended_why(const struct sandbox_ended *ended, const char *session_id);

#endif
