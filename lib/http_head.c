/*
 * Reads request lines and Host. Strict: what two readers could read differently
 * is malformed here.
 */
#include "lib/http_head.h"

#include <string.h>
#include <strings.h>

#include "lib/str.h"

/* "name" or "name:port". */
static bool
read_authority(ag_str_t in, struct ag_http_head *out)
{
    ag_str_t name;
    int64_t port = 0;
    bool has_port = ag_str_chr(in, ':') >= 0;

    if (!ag_str_cut(&in, ':', &name) || name.n >= AG_HOST_MAX)
        return false;
    if (has_port
        && (in.n == 0 || in.n > 5 || in.p[0] < '1' || in.p[0] > '9'
            || ag_str_i64(in, &port) < 0 || port > 65535))
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        out->name[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    out->name[name.n] = '\0';
    out->port = (uint16_t)port;
    return ag_host_is_valid(out->name, name.n);
}

/* The next line without its end; false when it is not whole. */
static bool
next_line(ag_str_t *rest, ag_str_t *line)
{
    ptrdiff_t end = ag_str_chr(*rest, '\n');

    if (end < 0)
        return false;
    *line = ag_str_n(rest->p, (size_t)end);
    *rest = ag_str_n(rest->p + end + 1, rest->n - (size_t)end - 1);
    if (line->n > 0 && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

/* No program that speaks something else waits for an answer for long. */
static bool
is_text(ag_str_t s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < 0x20 && c != '\r' && c != '\n' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool
split_request_line(ag_str_t line, ag_str_t *method, ag_str_t *target)
{
    ag_str_t rest = line;

    return ag_str_cut(&rest, ' ', method) && method->n > 0
           && ag_str_cut(&rest, ' ', target) && target->n > 0
           && (ag_str_is(rest, "HTTP/1.1") || ag_str_is(rest, "HTTP/1.0"));
}

struct head {
    ag_str_t method, target, headers; /* with the empty line */
    size_t n;
};

static enum ag_http_head_rc
split_head(const void *data, size_t n, struct head *out)
{
    ag_str_t all = ag_str_n(data, n), rest = all, line;
    bool is_long = n > AG_HTTP_HEAD_MAX;

    if (!next_line(&rest, &line))
        return is_long || !is_text(all) ? AG_HTTP_HEAD_BAD : AG_HTTP_HEAD_MORE;
    if (!is_text(line) || !split_request_line(line, &out->method, &out->target))
        return AG_HTTP_HEAD_BAD;
    out->headers = rest;
    while (next_line(&rest, &line)) {
        if (!is_text(line))
            return AG_HTTP_HEAD_BAD;
        if (line.n > 0)
            continue;
        out->n = (size_t)(rest.p - all.p);
        out->headers.n -= rest.n;
        return out->n > AG_HTTP_HEAD_MAX ? AG_HTTP_HEAD_BAD : AG_HTTP_HEAD_OK;
    }
    return is_long ? AG_HTTP_HEAD_BAD : AG_HTTP_HEAD_MORE;
}

static bool
is_host_line(ag_str_t line, ag_str_t *value)
{
    *value = line;
    if (line.n < 5 || strncasecmp(line.p, "host:", 5) != 0)
        return false;
    *value = ag_str_trim(ag_str_n(line.p + 5, line.n - 5));
    return true;
}

enum ag_http_head_rc
ag_http_head_host(const void *data, size_t n, struct ag_http_head *out)
{
    struct ag_http_head other = {0};
    struct head h = {0};
    ag_str_t line, value;
    enum ag_http_head_rc rc = split_head(data, n, &h);
    bool has_host = false;

    if (rc != AG_HTTP_HEAD_OK)
        return rc;
    memset(out, 0, sizeof(*out));
    while (next_line(&h.headers, &line)) {
        if (!is_host_line(line, &value))
            continue;
        if (!read_authority(value, &other)
            || (has_host
                && (strcmp(out->name, other.name) != 0
                    || out->port != other.port)))
            return AG_HTTP_HEAD_BAD;
        *out = other;
        has_host = true;
    }
    out->n = h.n;
    return has_host ? AG_HTTP_HEAD_OK : AG_HTTP_HEAD_BAD;
}

enum ag_http_head_rc
ag_http_head_proxy(const void *data, size_t n, struct ag_http_head *out)
{
    static const char scheme[] = "http://";
    struct head h = {0};
    enum ag_http_head_rc rc = split_head(data, n, &h);
    ag_str_t authority;

    if (rc != AG_HTTP_HEAD_OK)
        return rc;
    memset(out, 0, sizeof(*out));
    out->n = h.n;
    out->is_connect = ag_str_is(h.method, "CONNECT");
    if (out->is_connect)
        return read_authority(h.target, out) && out->port != 0
                   ? AG_HTTP_HEAD_OK
                   : AG_HTTP_HEAD_BAD;
    if (h.target.n < sizeof(scheme)
        || strncasecmp(h.target.p, scheme, sizeof(scheme) - 1) != 0)
        return AG_HTTP_HEAD_BAD;
    h.target = ag_str_n(h.target.p + sizeof(scheme) - 1,
                        h.target.n - (sizeof(scheme) - 1));
    size_t end = 0;
    while (end < h.target.n && strchr("/?#", h.target.p[end]) == NULL)
        end++;
    authority = ag_str_n(h.target.p, end);
    if (!read_authority(authority, out))
        return AG_HTTP_HEAD_BAD;
    if (out->port == 0)
        out->port = 80;
    return AG_HTTP_HEAD_OK;
}
