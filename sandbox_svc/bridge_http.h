/*
 * The little of HTTP/1 that the bridge reads: whom a request is for. Pure
 * functions over bytes from the sandbox; what they accept is read again, and
 * decided, by egress.
 */
#ifndef SANDBOX_SVC_BRIDGE_HTTP_H
#define SANDBOX_SVC_BRIDGE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandbox_svc/bridge_dns.h"

/* Longest head that is looked into. */
#define BRIDGE_HTTP_MAX 16384

enum bridge_http {
    BRIDGE_HTTP_MORE, /* not whole yet */
    BRIDGE_HTTP_BAD,  /* no request, malformed, too long, or not for a host */
    BRIDGE_HTTP_OK,
};

struct bridge_http_head {
    bool is_connect;
    char name[BRIDGE_NAME_MAX]; /* lower case */
    uint16_t port;              /* 0: none is written */
    size_t n;                   /* of the head, with its empty line */
};

/* A request to a host: `name` and `port` are those of Host, which all lines of
 * that name agree on. */
enum bridge_http
bridge_http_host(const void *data, size_t n, struct bridge_http_head *out);

/* A request to a proxy: CONNECT, or the absolute form of http://. `name` and
 * `port` are those of the request line. */
enum bridge_http
bridge_http_proxy(const void *data, size_t n, struct bridge_http_head *out);

#endif
