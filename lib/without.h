/*
 * Defences that a test build leaves out when it is told to, so that `make
 * attack WITHOUT=…` can show which of them decides. In any other build the
 * answer is a constant and nothing of this is in the program.
 */
#ifndef LIB_WITHOUT_H
#define LIB_WITHOUT_H

#include <stdbool.h>

#ifdef AG_TEST_WITHOUT
/* Is `defence` among the words, separated by commas, in the file that
 * the macro names? Read once. */
bool ag_without(const char *defence);
#else
static inline bool
ag_without(const char *defence)
{
    (void)defence;
    return false;
}
#endif

#endif
