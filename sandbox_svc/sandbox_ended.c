/*
 * A ring of the last sessions whose sandbox went without a word from the
 * caller, for sandbox_session.c and the error of sandbox_exec.c.
 */
#include "sandbox_svc/sandbox_ended.h"

#include <stdio.h>

#include "lib/str.h"
#include "sandbox_svc/launcher_msg.h"

#define KEPT 256

struct sandbox_ended {
    size_t next;
    struct {
        char session_id[LAUNCHER_ID_MAX];
        const char *why;
    } kept[KEPT];
};

struct sandbox_ended *
sandbox_ended_new(void)
{
    return ag_xcalloc(1, sizeof(struct sandbox_ended));
}

void
sandbox_ended_free(struct sandbox_ended *ended)
{
    ag_freep(&ended);
}

void
sandbox_ended_note(struct sandbox_ended *e, const char *session_id,
                   const char *why)
{
    for (size_t i = 0; i < KEPT; i++)
        if (strcmp(e->kept[i].session_id, session_id) == 0)
            e->kept[i].session_id[0] = 0;
    if (why == NULL)
        return;
    snprintf(e->kept[e->next].session_id, LAUNCHER_ID_MAX, "%s", session_id);
    e->kept[e->next].why = why;
    e->next = (e->next + 1) % KEPT;
}

const char *
sandbox_ended_why(const struct sandbox_ended *e, const char *session_id)
{
    for (size_t i = 0; i < KEPT; i++)
        if (strcmp(e->kept[i].session_id, session_id) == 0)
            return e->kept[i].why;
    return NULL;
}
