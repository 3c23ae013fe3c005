/*
 * HTTP requests on the loop: curl's multi interface, each through a unix
 * socket of the egress gateway. The brain has no route of its own.
 */
#ifndef BRAIN_HTTP_H
#define BRAIN_HTTP_H

#include "lib/err.h"
#include "lib/loop.h"

struct brain_http;
struct brain_http_request;

struct brain_http *brain_http_new(struct ag_loop *loop, struct ag_err *err);
/* Every request must have ended. */
void brain_http_free(struct brain_http *http);

struct brain_http_post {
    const char *url;
    const char *socket_path;
    const char *ca_file;        /* for https */
    const char *const *headers; /* "Name: value", NULL-terminated */
    ag_str_t body;              /* copied */
    int64_t timeout_ms;
};

/* One header line, without its end; body bytes as they come. A status comes
 * with the first. Returning -1 ends the request. */
typedef int brain_http_data(void *arg, int status, ag_str_t bytes);
typedef void brain_http_header(void *arg, ag_str_t name, ag_str_t value);
/*
 * The end. `err` is NULL when an answer came whole; else AG_ERR_UNAVAILABLE
 * (could not connect, or cut off), AG_ERR_TIMEOUT, or AG_ERR_LIMIT when
 * `data` refused. `status` is 0 when none came.
 */
typedef void brain_http_done(void *arg, int status, const struct ag_err *err);

struct brain_http_request *
brain_http_post(struct brain_http *http, const struct brain_http_post *post,
                brain_http_header *header, brain_http_data *data,
                brain_http_done *done, void *arg);

/* Drop it: no callback comes any more. */
void brain_http_cancel(struct brain_http_request *req);

#endif
