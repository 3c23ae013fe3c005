/*
 * How functions report failure.
 *
 * A function that can fail takes `struct ag_err *err` last (never NULL) and
 * returns 0 or -1, or a pointer or NULL. Callers branch on `kind`, never on
 * `msg`. `msg` is for people, names what was wrong and what would be right,
 * and holds no secret. An error is logged once, where it is handled.
 */
#ifndef LIB_ERR_H
#define LIB_ERR_H

#include <stdarg.h>

enum ag_err_kind {
    AG_ERR_NONE,
    AG_ERR_INVALID, /* the caller's input; msg names the field */
    AG_ERR_UNAUTHENTICATED,
    AG_ERR_DENIED, /* known, but not allowed */
    AG_ERR_NOT_FOUND,
    AG_ERR_EXISTS,
    AG_ERR_CONFLICT,     /* lost a race: read again, then try again */
    AG_ERR_PRECONDITION, /* right request, wrong state */
    AG_ERR_LIMIT,        /* a named limit is reached */
    AG_ERR_TIMEOUT,
    AG_ERR_CANCELLED,
    AG_ERR_UNAVAILABLE, /* try again later */
    AG_ERR_UNIMPLEMENTED,
    AG_ERR_CORRUPT, /* stored or received data does not check out */
    AG_ERR_IO,      /* a system call failed; `sys` is its errno */
    AG_ERR_INTERNAL,
};

struct ag_err {
    enum ag_err_kind kind;
    int sys;
    char msg[240];
};

#define AG_ERR_INIT        \
    {                      \
        AG_ERR_NONE, 0, "" \
    }

/* Set *err and return -1, so that `return ag_err_set(…)` works. */
int ag_err_set(struct ag_err *err, enum ag_err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As ag_err_set with AG_ERR_IO, `sys` = errno and ": <strerror>" appended. */
int ag_err_sys(struct ag_err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Put "context: " before the message; the kind stays. Returns -1. */
int ag_err_wrap(struct ag_err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* "not_found", …: stable, for logs and reasons. */
const char *ag_err_kind_name(enum ag_err_kind kind);

#endif
