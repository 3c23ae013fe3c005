/*
 * curl's multi interface on ag_loop: curl says which sockets to watch and when
 * to wake it. All on the loop.
 */
#include "lib/http_client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/secret.h"
#include "lib/str.h"

struct ag_http {
    struct ag_loop *loop;
    CURLM *multi;
    struct ag_timer timer;
    struct ag_timer done; /* finished transfers are reported from here */
};

struct ag_http_request {
    struct ag_http *http;
    CURL *easy;
    struct curl_slist *headers;
    char *body, *proxy_path;
    size_t body_n;
    char reason[CURL_ERROR_SIZE];
    ag_http_header *header;
    ag_http_data *data;
    ag_http_done *done;
    void *arg;
    bool is_refused;
};

struct watch {
    struct ag_io io;
    struct ag_http *http;
};

/* ---- driving curl ------------------------------------------------------ */

static void
request_free(struct ag_http_request *req)
{
    (void)curl_multi_remove_handle(req->http->multi, req->easy);
    curl_easy_cleanup(req->easy);
    curl_slist_free_all(req->headers);
    ag_wipe(req->body, req->body_n);
    free(req->body);
    free(req->proxy_path);
    free(req);
}

static void
set_error(const struct ag_http_request *req, CURLcode code, struct ag_err *err)
{
    const char *why =
        req->reason[0] != '\0' ? req->reason : curl_easy_strerror(code);

    if (req->is_refused)
        ag_err_set(err, AG_ERR_LIMIT, "the answer is too long");
    else if (code == CURLE_OPERATION_TIMEDOUT)
        ag_err_set(err, AG_ERR_TIMEOUT, "%s", why);
    else
        ag_err_set(err, AG_ERR_UNAVAILABLE, "%s", why);
}

static void
report(struct ag_http *http)
{
    struct ag_http_request *req;
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(http->multi, &left)) != NULL) {
        CURLcode code = msg->data.result;
        struct ag_err err;
        long status = 0;

        if (msg->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &req);
        (void)curl_easy_getinfo(req->easy, CURLINFO_RESPONSE_CODE, &status);
        if (code != CURLE_OK)
            set_error(req, code, &err);
        req->done(req->arg, (int)status, code == CURLE_OK ? NULL : &err);
        request_free(req);
    }
}

/* From a timer, never from inside curl's own callbacks. */
static void
report_later(struct ag_http *http)
{
    if (http->done.slot == 0)
        ag_timer_start(http->loop, &http->done, 0);
}

static void
report_now(struct ag_timer *timer)
{
    report((struct ag_http *)((char *)timer - offsetof(struct ag_http, done)));
}

static void
socket_ready(struct ag_io *io, uint32_t events)
{
    struct watch *w = (struct watch *)((char *)io - offsetof(struct watch, io));
    struct ag_http *http = w->http;
    int flags = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0)
                | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0)
                | (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    int running;

    (void)curl_multi_socket_action(http->multi, io->fd, flags, &running);
    report_later(http);
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socketp)
{
    struct ag_http *http = arg;
    struct watch *w = socketp;
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0)
                      | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    struct ag_err err;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL)
            ag_io_stop(http->loop, &w->io);
        free(w);
        (void)curl_multi_assign(http->multi, fd, NULL);
        return 0;
    }
    if (w == NULL) {
        w = ag_xcalloc(1, sizeof(*w));
        w->http = http;
        w->io.fd = fd;
        w->io.fn = socket_ready;
        (void)curl_multi_assign(http->multi, fd, w);
        return ag_io_start(http->loop, &w->io, events, &err);
    }
    return ag_io_change(http->loop, &w->io, events, &err);
}

static void
timer_due(struct ag_timer *timer)
{
    struct ag_http *http =
        (struct ag_http *)((char *)timer - offsetof(struct ag_http, timer));
    int running;

    (void)curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0,
                                   &running);
    report_later(http);
}

static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct ag_http *http = arg;

    (void)multi;
    if (timeout_ms < 0)
        ag_timer_stop(http->loop, &http->timer);
    else
        ag_timer_start(http->loop, &http->timer, timeout_ms);
    return 0;
}

/* ---- one request ------------------------------------------------------- */

static size_t
on_header(char *p, size_t size, size_t n, void *arg)
{
    struct ag_http_request *req = arg;
    ag_str_t line = ag_str_n(p, size * n), name;

    while (line.n > 0
           && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    if (req->header != NULL && ag_str_chr(line, ':') > 0
        && ag_str_cut(&line, ':', &name))
        req->header(req->arg, name, ag_str_trim(line));
    return size * n;
}

static size_t
on_data(char *p, size_t size, size_t n, void *arg)
{
    struct ag_http_request *req = arg;
    long status = 0;

    (void)curl_easy_getinfo(req->easy, CURLINFO_RESPONSE_CODE, &status);
    if (req->data(req->arg, (int)status, ag_str_n(p, size * n)) < 0) {
        req->is_refused = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return size * n;
}

/* curl dials what the callback leaves in `address`, whose memory has room for
 * any family: the proxy's socket in place of its address. */
static curl_socket_t
open_proxy(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    const struct ag_http_request *req = arg;
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    ag_str_t path = ag_str(req->proxy_path);

    (void)purpose;
    if (path.n >= sizeof(sun.sun_path))
        return CURL_SOCKET_BAD;
    memcpy(sun.sun_path, path.p, path.n);
    address->family = AF_UNIX;
    address->addrlen = sizeof(sun);
    memcpy((char *)address + offsetof(struct curl_sockaddr, addr), &sun,
           sizeof(sun));
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void
set_proxy(struct ag_http_request *req)
{
    CURL *e = req->easy;

    (void)curl_easy_setopt(e, CURLOPT_PROXY, "http://127.0.0.1:1");
    (void)curl_easy_setopt(e, CURLOPT_HTTPPROXYTUNNEL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    (void)curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_proxy);
    (void)curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, req);
    (void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
}

static void
set_options(struct ag_http_request *req, const struct ag_http_post *post)
{
    CURL *e = req->easy;

    (void)curl_easy_setopt(e, CURLOPT_PRIVATE, req);
    (void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, req->reason);
    (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(e, CURLOPT_URL, post->url);
    (void)curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, post->socket_path);
    if (post->ca_file != NULL)
        (void)curl_easy_setopt(e, CURLOPT_CAINFO, post->ca_file);
    (void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                           (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(e, CURLOPT_HTTPHEADER, req->headers);
    (void)curl_easy_setopt(e, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(e, CURLOPT_POSTFIELDS, req->body);
    (void)curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
                           (curl_off_t)post->body.n);
    (void)curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)post->timeout_ms);
    (void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    (void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(e, CURLOPT_HEADERDATA, req);
    (void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(e, CURLOPT_WRITEDATA, req);
    if (req->proxy_path != NULL)
        set_proxy(req);
}

struct ag_http_request *
ag_http_post(struct ag_http *http, const struct ag_http_post *post,
             ag_http_header *header, ag_http_data *data, ag_http_done *done,
             void *arg)
{
    struct ag_http_request *req = ag_xcalloc(1, sizeof(*req));

    req->http = http;
    req->header = header;
    req->data = data;
    req->done = done;
    req->arg = arg;
    req->body = ag_str_dup(post->body);
    req->body_n = post->body.n;
    if (post->proxy_path != NULL)
        req->proxy_path = ag_str_dup(ag_str(post->proxy_path));
    for (size_t i = 0; post->headers[i] != NULL; i++)
        req->headers = curl_slist_append(req->headers, post->headers[i]);
    req->easy = curl_easy_init();
    ag_assert(req->easy != NULL);
    set_options(req, post);
    (void)curl_multi_add_handle(http->multi, req->easy);
    return req;
}

void
ag_http_cancel(struct ag_http_request *req)
{
    if (req != NULL)
        request_free(req);
}

struct ag_http *
ag_http_new(struct ag_loop *loop, struct ag_err *err)
{
    struct ag_http *http = ag_xcalloc(1, sizeof(*http));

    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    http->loop = loop;
    http->timer.fn = timer_due;
    http->done.fn = report_now;
    http->multi = curl_multi_init();
    if (http->multi == NULL) {
        ag_err_set(err, AG_ERR_INTERNAL, "curl_multi_init failed");
        free(http);
        return NULL;
    }
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    return http;
}

void
ag_http_free(struct ag_http *http)
{
    if (http == NULL)
        return;
    ag_timer_stop(http->loop, &http->done);
    (void)curl_multi_cleanup(http->multi);
    ag_timer_stop(http->loop, &http->timer);
    free(http);
    curl_global_cleanup();
}
