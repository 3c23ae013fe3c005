/*
 * For test builds only (make escape WITHOUT=…): which defences are left out.
 */
#include "sandbox_svc/launcher_without.h"

#ifdef SANDBOX_TEST_WITHOUT

#include <stdlib.h>

#include "lib/str.h"

const char *
launcher_without_list(void)
{
    const char *text = getenv("SANDBOX_WITHOUT");

    return text == NULL ? "" : text;
}

bool
launcher_without(const char *defence)
{
    ag_str_t rest = ag_str(launcher_without_list()), word;

    while (ag_str_cut(&rest, ',', &word))
        if (ag_str_is(word, defence))
            return true;
    return false;
}

#endif
