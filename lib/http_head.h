/*
 * The little of HTTP/1 that bridges read: whom a request is for. Pure functions
 * over bytes from outside.
 */
#ifndef LIB_HTTP_HEAD_H
#define LIB_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/net.h"

/* Longest head that is looked into. */
#define AG_HTTP_HEAD_MAX 16384

enum ag_http_head_rc {
    AG_HTTP_HEAD_MORE, /* not whole yet */
    AG_HTTP_HEAD_BAD,  /* no request, malformed, too long, or not for a host */
    AG_HTTP_HEAD_OK,
};

struct ag_http_head {
    bool is_connect;
    char name[AG_HOST_MAX]; /* lower case */
    uint16_t port;          /* 0: none is written */
    size_t n;               /* of the head, with its empty line */
};

/* A request to a host: `name` and `port` are those of Host, which all lines of
 * that name agree on. */
enum ag_http_head_rc
ag_http_head_host(const void *data, size_t n, struct ag_http_head *out);

/* A request to a proxy: CONNECT, or the absolute form of http://. `name` and
 * `port` are those of the request line. */
enum ag_http_head_rc
ag_http_head_proxy(const void *data, size_t n, struct ag_http_head *out);

#endif
