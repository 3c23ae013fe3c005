/*
 * Counters of cgroups. The launcher opened the files; reading them needs no
 * right and tells whether the kernel killed or refused something.
 */
#include "sandbox_svc/sandbox_limits.h"

#include <unistd.h>

int64_t
sandbox_limits_parse(ag_str_t text, const char *key)
{
    ag_str_t line, word;
    int64_t v;

    while (ag_str_cut(&text, '\n', &line))
        if (ag_str_cut(&line, ' ', &word) && ag_str_is(word, key)
            && ag_str_i64(line, &v) == 0)
            return v;
    return 0;
}

int64_t
sandbox_limits_count(int fd, const char *key)
{
    char text[1024];
    ssize_t n = pread(fd, text, sizeof(text), 0);

    return n <= 0 ? 0 : sandbox_limits_parse(ag_str_n(text, (size_t)n), key);
}
