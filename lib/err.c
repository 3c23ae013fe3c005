/*
 * Errors: filling in, adding context, names. See err.h for the contract.
 * Any thread; nothing here allocates.
 */
#include "lib/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/str.h"

int
ag_err_set(struct ag_err *err, enum ag_err_kind kind, const char *fmt, ...)
{
    va_list ap;

    err->kind = kind;
    err->sys = 0;
    va_start(ap, fmt);
    (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    return -1;
}

int
ag_err_sys(struct ag_err *err, const char *fmt, ...)
{
    int sys = errno;
    va_list ap;
    int n;

    err->kind = AG_ERR_IO;
    err->sys = sys;
    va_start(ap, fmt);
    n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->msg))
        (void)snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s",
                       strerror(sys));
    return -1;
}

int
ag_err_wrap(struct ag_err *err, const char *fmt, ...)
{
    char old[sizeof(err->msg)];
    va_list ap;
    int n;

    memcpy(old, err->msg, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->msg))
        (void)snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s", old);
    return -1;
}

const char *
ag_err_kind_name(enum ag_err_kind kind)
{
    static const char *const names[] = {
        [AG_ERR_NONE] = "none",
        [AG_ERR_INVALID] = "invalid",
        [AG_ERR_UNAUTHENTICATED] = "unauthenticated",
        [AG_ERR_DENIED] = "denied",
        [AG_ERR_NOT_FOUND] = "not_found",
        [AG_ERR_EXISTS] = "exists",
        [AG_ERR_CONFLICT] = "conflict",
        [AG_ERR_PRECONDITION] = "precondition",
        [AG_ERR_LIMIT] = "limit",
        [AG_ERR_TIMEOUT] = "timeout",
        [AG_ERR_CANCELLED] = "cancelled",
        [AG_ERR_UNAVAILABLE] = "unavailable",
        [AG_ERR_UNIMPLEMENTED] = "unimplemented",
        [AG_ERR_CORRUPT] = "corrupt",
        [AG_ERR_IO] = "io",
        [AG_ERR_INTERNAL] = "internal",
    };

    if ((size_t)kind >= sizeof(names) / sizeof(names[0]))
        return "unknown";
    return names[kind];
}
