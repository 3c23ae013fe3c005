/* For test builds only (make attack WITHOUT=…): which defences are left out. */
#include "lib/without.h"

#ifdef AG_TEST_WITHOUT

#include <stdio.h>
#include <string.h>

#include "lib/str.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static const char *
words(void)
{
    static char text[512];
    static bool is_read;
    FILE *f;

    if (is_read)
        return text;
    is_read = true;
    f = fopen(TEXT(AG_TEST_WITHOUT), "re");
    if (f == NULL)
        return text;
    if (fgets(text, sizeof(text), f) == NULL)
        text[0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    (void)fclose(f);
    return text;
}

bool
ag_without(const char *defence)
{
    ag_str_t rest = ag_str(words()), word;

    while (ag_str_cut(&rest, ',', &word))
        if (ag_str_is(word, defence))
            return true;
    return false;
}

#endif
