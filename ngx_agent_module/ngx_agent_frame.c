/*
 * gRPC frames, server-sent events, and the one table between error kinds, gRPC
 * status and HTTP status. Called by nginx workers for every answer; pure.
 */
#include "ngx_agent_module/ngx_agent_frame.h"

void
ngx_agent_frames_init(struct ngx_agent_frames *f, size_t max)
{
    f->n_head = 0;
    f->want = 0;
    ag_buf_init(&f->message, max);
}

void
ngx_agent_frames_release(struct ngx_agent_frames *f)
{
    ag_buf_release(&f->message);
}

bool
ngx_agent_frames_is_idle(const struct ngx_agent_frames *f)
{
    return f->n_head == 0;
}

static int
head_done(struct ngx_agent_frames *f, struct ag_err *err)
{
    const unsigned char *h = f->head;

    ag_buf_clear(&f->message);
    f->want = (size_t)h[1] << 24 | (size_t)h[2] << 16 | (size_t)h[3] << 8
              | h[4];
    if (h[0] != 0)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "compressed messages are not understood here");
    if (f->want > f->message.max)
        return ag_err_set(err, AG_ERR_LIMIT, "message of %zu bytes", f->want);
    return 0;
}

int
ngx_agent_frames_next(struct ngx_agent_frames *f, ag_str_t *in,
                      struct ag_err *err)
{
    while (f->n_head < NGX_AGENT_FRAME_HEAD) {
        if (in->n == 0)
            return 0;
        f->head[f->n_head++] = (unsigned char)*in->p++;
        in->n--;
        if (f->n_head == NGX_AGENT_FRAME_HEAD && head_done(f, err) < 0)
            return -1;
    }

    size_t n = f->want - f->message.n;
    if (n > in->n)
        n = in->n;
    if (ag_buf_append(&f->message, ag_str_n(in->p, n), err) < 0)
        return -1;
    in->p += n;
    in->n -= n;
    if (f->message.n < f->want)
        return 0;
    f->n_head = 0;
    return 1;
}

ssize_t
ngx_agent_walk_next(struct ngx_agent_walk *w, const unsigned char *p, size_t n,
                    bool *is_end)
{
    size_t i = 0, body;

    *is_end = false;
    for (; i < n && w->n_head < NGX_AGENT_FRAME_HEAD; i++) {
        if (w->n_head == 0) {
            if (p[i] != 0)
                return -1;
            w->left = 0;
        } else {
            w->left = w->left << 8 | p[i];
        }
        w->n_head++;
    }
    if (w->n_head < NGX_AGENT_FRAME_HEAD)
        return (ssize_t)i;
    body = w->left < n - i ? w->left : n - i;
    w->left -= body;
    if (w->left == 0) {
        w->n_head = 0;
        *is_end = true;
    }
    return (ssize_t)(i + body);
}

void
ngx_agent_frame_head(unsigned char head[NGX_AGENT_FRAME_HEAD], size_t n)
{
    head[0] = 0;
    head[1] = (unsigned char)(n >> 24);
    head[2] = (unsigned char)(n >> 16);
    head[3] = (unsigned char)(n >> 8);
    head[4] = (unsigned char)n;
}

/* ---- server-sent events ----------------------------------------------- */

static bool
is_break(char c)
{
    return c == '\n' || c == '\r';
}

static ag_str_t
first_line(ag_str_t s)
{
    for (size_t i = 0; i < s.n; i++)
        if (is_break(s.p[i]))
            return ag_str_n(s.p, i);
    return s;
}

static int
sse_line(struct ag_buf *out, const char *name, ag_str_t value,
         struct ag_err *err)
{
    if (ag_buf_append(out, ag_str(name), err) < 0
        || ag_buf_append(out, value, err) < 0)
        return -1;
    return ag_buf_append(out, AG_STR("\n"), err);
}

int
ngx_agent_sse_add(struct ag_buf *out, ag_str_t type, ag_str_t id,
                  ag_str_t data, struct ag_err *err)
{
    if (sse_line(out, "event: ", first_line(type), err) < 0)
        return -1;
    if (id.n > 0 && sse_line(out, "id: ", first_line(id), err) < 0)
        return -1;
    for (;;) {
        ag_str_t line = first_line(data);
        if (sse_line(out, "data: ", line, err) < 0)
            return -1;
        if (line.n == data.n)
            break;
        data.p += line.n + 1;
        data.n -= line.n + 1;
    }
    return ag_buf_append(out, AG_STR("\n"), err);
}

/* ---- statuses --------------------------------------------------------- */

/* The first row with a number is the one that is found by it. */
static const struct ngx_agent_status statuses[] = {
    {AG_ERR_INTERNAL, 13, 500, "api_error"},
    {AG_ERR_INVALID, 3, 400, "invalid_request_error"},
    {AG_ERR_UNAUTHENTICATED, 16, 401, "authentication_error"},
    {AG_ERR_DENIED, 7, 403, "permission_error"},
    {AG_ERR_NOT_FOUND, 5, 404, "not_found_error"},
    {AG_ERR_EXISTS, 6, 409, "conflict_error"},
    {AG_ERR_CONFLICT, 10, 409, "conflict_error"},
    {AG_ERR_PRECONDITION, 9, 400, "invalid_request_error"},
    {AG_ERR_LIMIT, 8, 429, "rate_limit_error"},
    {AG_ERR_TIMEOUT, 4, 504, "timeout_error"},
    {AG_ERR_CANCELLED, 1, 499, "api_error"},
    {AG_ERR_UNAVAILABLE, 14, 503, "overloaded_error"},
    {AG_ERR_UNIMPLEMENTED, 12, 501, "api_error"},
    {AG_ERR_CORRUPT, 15, 500, "api_error"},
    {AG_ERR_IO, 2, 500, "api_error"},
    /* Out of range is the caller's number. */
    {AG_ERR_INVALID, 11, 400, "invalid_request_error"},
    /* What only HTTP has a number for. */
    {AG_ERR_INVALID, 3, 405, "invalid_request_error"},
    {AG_ERR_TIMEOUT, 4, 408, "timeout_error"},
    {AG_ERR_LIMIT, 8, 413, "request_too_large"},
    {AG_ERR_INVALID, 3, 414, "request_too_large"},
    {AG_ERR_UNAVAILABLE, 14, 502, "api_error"},
    {AG_ERR_UNAVAILABLE, 14, 529, "overloaded_error"},
};

#define N_STATUSES (sizeof(statuses) / sizeof(statuses[0]))

const struct ngx_agent_status *
ngx_agent_status_of_kind(enum ag_err_kind kind)
{
    for (size_t i = 0; i < N_STATUSES; i++)
        if (statuses[i].kind == kind)
            return &statuses[i];
    return &statuses[0];
}

const struct ngx_agent_status *
ngx_agent_status_of_grpc(int grpc)
{
    for (size_t i = 0; i < N_STATUSES; i++)
        if (statuses[i].grpc == grpc)
            return &statuses[i];
    return &statuses[0];
}

const struct ngx_agent_status *
ngx_agent_status_of_http(int http)
{
    for (size_t i = 0; i < N_STATUSES; i++)
        if (statuses[i].http == http)
            return &statuses[i];
    return http >= 400 && http < 500 ? &statuses[1] : &statuses[0];
}

void
ngx_agent_envelope_add(struct ag_buf *out, const char *type, ag_str_t message,
                       ag_str_t request_id)
{
    ag_buf_addf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\","
                     "\"message\":", type);
    ag_buf_add_json(out, message);
    ag_buf_add(out, AG_STR("},\"request_id\":"));
    ag_buf_add_json(out, request_id);
    ag_buf_addc(out, '}');
}

static int
hex_value(char c)
{
    const char *digits = "0123456789abcdef", *at;

    if (c >= 'A' && c <= 'F')
        c = (char)(c - 'A' + 'a');
    at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

void
ngx_agent_grpc_message_decode(struct ag_buf *out, ag_str_t raw)
{
    for (size_t i = 0; i < raw.n; i++) {
        int hi = -1, lo = -1;
        if (raw.p[i] == '%' && raw.n - i >= 3) {
            hi = hex_value(raw.p[i + 1]);
            lo = hex_value(raw.p[i + 2]);
        }
        if (hi < 0 || lo < 0) {
            ag_buf_addc(out, raw.p[i]);
            continue;
        }
        ag_buf_addc(out, (char)(hi << 4 | lo));
        i += 2;
    }
}

void
ngx_agent_grpc_message_encode(struct ag_buf *out, ag_str_t text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c < 0x20 || c > 0x7e || c == '%')
            ag_buf_addf(out, "%%%02X", c);
        else
            ag_buf_addc(out, (char)c);
    }
}
