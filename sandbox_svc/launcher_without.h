/*
 * Defences that a test build leaves out when it is told to, so that tests can
 * show which of them decides. In any other build the answer is a constant and
 * nothing of this is in the program.
 */
#ifndef SANDBOX_SVC_LAUNCHER_WITHOUT_H
#define SANDBOX_SVC_LAUNCHER_WITHOUT_H

#include <stdbool.h>
#include <stddef.h>

#ifdef SANDBOX_TEST_WITHOUT
/* Is `defence` among the names, separated by commas, in SANDBOX_WITHOUT? */
bool launcher_without(const char *defence);
/* All of them, "" for none; NULL in any other build. */
const char *launcher_without_list(void);
#else
static inline const char *
launcher_without_list(void)
{
    return NULL;
}
static inline bool
launcher_without(const char *defence)
{
    (void)defence;
    return false;
}
#endif

#endif
