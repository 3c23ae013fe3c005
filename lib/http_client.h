/*
 * HTTP requests on the loop: curl's multi interface, each through a unix
 * socket. Services have no route of their own: the brain's socket is a server
 * of the egress gateway, the vault's a proxy that takes CONNECT.
 */
#ifndef LIB_HTTP_CLIENT_H
#define LIB_HTTP_CLIENT_H

#include "lib/err.h"
#include "lib/loop.h"

struct ag_http;
struct ag_http_request;

struct ag_http *ag_http_new(struct ag_loop *loop, struct ag_err *err);
/* Every request must have ended. */
void ag_http_free(struct ag_http *http);

struct ag_http_post {
    const char *url;
    const char *socket_path;    /* whom it is sent to, or NULL and */
    const char *proxy_path;     /* whom CONNECT is sent to; https alone */
    const char *ca_file;        /* for https; NULL: the system's roots */
    const char *const *headers; /* "Name: value", NULL-terminated */
    ag_str_t body;              /* copied, and wiped in the end */
    int64_t timeout_ms;
};

/* One header line, without its end; body bytes as they come. A status comes
 * with the first. Returning -1 ends the request. */
typedef int ag_http_data(void *arg, int status, ag_str_t bytes);
/* May be NULL. */
typedef void ag_http_header(void *arg, ag_str_t name, ag_str_t value);
/*
 * The end. `err` is NULL when an answer came whole; else AG_ERR_UNAVAILABLE
 * (could not connect, or cut off), AG_ERR_TIMEOUT, or AG_ERR_LIMIT when
 * `data` refused. `status` is 0 when none came.
 */
typedef void ag_http_done(void *arg, int status, const struct ag_err *err);

struct ag_http_request *
ag_http_post(struct ag_http *http, const struct ag_http_post *post,
             ag_http_header *header, ag_http_data *data, ag_http_done *done,
             void *arg);

/* Drop it: no callback comes any more. */
void ag_http_cancel(struct ag_http_request *req);

#endif
