/*
 * Counters of cgroups. The launcher opened the files; reading them needs no
 * right and tells whether the kernel killed or refused something.
 */
#include "sandbox_svc/sandbox_limits.h"

#include <fcntl.h>
#include <stdlib.h>
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

int64_t
sandbox_limits_memory_left(void)
{
    static const char key[] = "MemAvailable:";
    AG_AUTO(ag_closep) int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    char text[1024];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (n <= 0)
        return -1;
    text[n] = 0;
    const char *at = strstr(text, key);
    return at == NULL ? -1 : strtoll(at + strlen(key), NULL, 10) << 10;
}
