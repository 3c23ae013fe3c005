/*
 * Fuzz target of configuration files: what is accepted lies within the table's
 * bounds, and what is refused says where.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct settings {
    char *name;
    int64_t count;
    bool is_on;
};

static const struct ag_conf_option options[] = {
    {.name = "name", .type = AG_CONF_STR, .unit = "", .def = "abc",
     .min = 3, .max = 5, .offset = offsetof(struct settings, name),
     .help = ""},
    {.name = "count_ms", .type = AG_CONF_INT, .unit = "ms", .def = "5",
     .min = -7, .max = 100, .offset = offsetof(struct settings, count),
     .help = ""},
    {.name = "is_on", .type = AG_CONF_BOOL, .unit = "", .def = "false",
     .offset = offsetof(struct settings, is_on), .help = ""},
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct ag_conf conf = {
        .program = "fuzz", .summary = "", .usage = "",
        .options = options, .n_options = 3,
    };
    struct settings s = {0};
    struct ag_err err = AG_ERR_INIT;
    char arg[64], *argv[] = {(char *)(uintptr_t) "fuzz", arg, NULL};
    int n_words = 0, fd = memfd_create("conf", MFD_CLOEXEC);

    ag_assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    (void)snprintf(arg, sizeof(arg), "--config=/proc/self/fd/%d", fd);
    if (ag_conf_load(&conf, 2, argv, &s, &n_words, &err) == 0) {
        ag_assert(strlen(s.name) <= 5 && s.count >= -7 && s.count <= 100);
    } else {
        ag_assert(err.kind != AG_ERR_NONE && err.msg[0] != '\0');
    }
    ag_conf_release(&conf, &s);
    (void)close(fd);
    return 0;
}
