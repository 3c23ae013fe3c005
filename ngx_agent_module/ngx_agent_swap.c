/* Stubs in the slots of a request: searching, decoding, replacing. */
#include "ngx_agent_module/ngx_agent_swap.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>



#define CORE   36
#define CHUNK  4096


static bool
is_token_char(unsigned char c)
{
    return isalnum(c) || c == '_' || c == '-';
}


/* Does a stub's core begin at p? */
static bool
is_core(const char *p)
{
    for (int i = 4; i < CORE; i++) {
        if (!(p[i] >= 'a' && p[i] <= 'z') && !(p[i] >= '2' && p[i] <= '7')) {
            return false;
        }
    }

    return true;
}


static const char *
find_core(ag_str_t text, size_t from)
{
    while (from + CORE <= text.n) {
        const char *p = memmem(text.p + from, text.n - from, "bbxs", 4);

        if (p == NULL || (size_t) (p - text.p) + CORE > text.n) {
            return NULL;
        }

        if (is_core(p)) {
            return p;
        }

        from = (size_t) (p - text.p) + 1;
    }

    return NULL;
}


bool
ngx_agent_stub_next(ag_str_t text, size_t from, ag_str_t *token)
{
    const char  *p = find_core(text, from), *begin, *end;

    if (p == NULL) {
        return false;
    }

    begin = p;
    end = p + CORE;

    while (begin > text.p + from && is_token_char((unsigned char) begin[-1])) {
        begin--;
    }

    while (end < text.p + text.n && is_token_char((unsigned char) *end)) {
        end++;
    }

    *token = ag_str_n(begin, (size_t) (end - begin));

    return true;
}


static int
hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c = (char) (c | 0x20);

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


/* One escape at in[i]: its byte in *c and its length, or 0. */
static size_t
escape_at(ag_str_t in, size_t i, char *c)
{
    if (in.p[i] == '%' && i + 2 < in.n) {
        int hi = hex_value(in.p[i + 1]), lo = hex_value(in.p[i + 2]);

        if (hi >= 0 && lo >= 0) {
            *c = (char) (hi << 4 | lo);
            return 3;
        }
    }

    if (in.p[i] == '\\' && i + 5 < in.n && (in.p[i + 1] | 0x20) == 'u'
        && in.p[i + 2] == '0' && in.p[i + 3] == '0')
    {
        int hi = hex_value(in.p[i + 4]), lo = hex_value(in.p[i + 5]);

        if (hi >= 0 && lo >= 0) {
            *c = (char) (hi << 4 | lo);
            return 6;
        }
    }

    return 0;
}


/* Undo escapes in place of a copy; returns the new length. */
static size_t
unescape(char *p, size_t n)
{
    size_t  out = 0;

    for (size_t i = 0; i < n; /* void */) {
        char c;
        size_t len = escape_at(ag_str_n(p, n), i, &c);

        if (len == 0) {
            p[out++] = p[i++];
            continue;
        }

        p[out++] = c;
        i += len;
    }

    return out;
}


bool
ngx_agent_stub_hidden(ag_str_t text, char core[36])
{
    const char  *p = NULL;

    if (text.n < CORE || (memchr(text.p, '%', text.n) == NULL
                          && memchr(text.p, '\\', text.n) == NULL))
    {
        return false;
    }

    char *copy = ag_xmalloc(text.n);
    memcpy(copy, text.p, text.n);
    size_t n = text.n;

    for (int round = 0; round < 2 && p == NULL; round++) {
        n = unescape(copy, n);
        p = find_core(ag_str_n(copy, n), 0);
    }

    if (p != NULL) {
        memcpy(core, p, CORE);
    }

    free(copy);

    return p != NULL;
}


static void
scan_window(struct ngx_agent_stub_scan *s, ag_str_t window)
{
    const char  *p = find_core(window, 0);

    if (p != NULL) {
        memcpy(s->core, p, CORE);
        s->is_found = true;

    } else {
        s->is_found = ngx_agent_stub_hidden(window, s->core);
    }
}


void
ngx_agent_stub_scan_feed(struct ngx_agent_stub_scan *s, ag_str_t piece)
{
    char  window[sizeof(s->carry) + CHUNK];

    while (piece.n > 0 && !s->is_found) {
        size_t take = piece.n < CHUNK ? piece.n : CHUNK;
        size_t n = s->n + take;

        memcpy(window, s->carry, s->n);
        memcpy(window + s->n, piece.p, take);
        scan_window(s, ag_str_n(window, n));

        s->n = n < sizeof(s->carry) ? n : sizeof(s->carry);
        memcpy(s->carry, window + n - s->n, s->n);
        piece = ag_str_n(piece.p + take, piece.n - take);
    }
}


int
ngx_agent_swap_token(ag_str_t text, ag_str_t token, ag_str_t value,
                     struct ag_buf *out, struct ag_err *err)
{
    size_t  at = (size_t) (token.p - text.p);

    if (ag_buf_append(out, ag_str_n(text.p, at), err) < 0
        || ag_buf_append(out, value, err) < 0)
    {
        return -1;
    }

    at += token.n;

    return ag_buf_append(out, ag_str_n(text.p + at, text.n - at), err);
}


static int
escape_byte(enum ngx_agent_escape how, unsigned char c, struct ag_buf *out,
            struct ag_err *err)
{
    static const char  digits[] = "0123456789ABCDEF";
    char               hex[6] = {'\\', 'u', '0', '0', digits[c >> 4],
                                 digits[c & 15]};

    if (how == NGX_AGENT_ESCAPE_JSON) {
        if (c == '"' || c == '\\') {
            return ag_buf_append(out, ag_str_n((char[]){'\\', (char) c}, 2),
                                 err);
        }

        return c < 0x20 || c == 0x7f
               ? ag_buf_append(out, ag_str_n(hex, 6), err)
               : ag_buf_append(out, ag_str_n(&c, 1), err);
    }

    if (how == NGX_AGENT_ESCAPE_FORM && c == ' ') {
        return ag_buf_append(out, AG_STR("+"), err);
    }

    if (isalnum(c) || (c != '\0' && strchr("-._~", c) != NULL)) {
        return ag_buf_append(out, ag_str_n(&c, 1), err);
    }

    hex[3] = '%';

    return ag_buf_append(out, ag_str_n(hex + 3, 3), err);
}


int
ngx_agent_swap_escape(enum ngx_agent_escape how, ag_str_t value,
                      struct ag_buf *out, struct ag_err *err)
{
    if (how == NGX_AGENT_ESCAPE_NONE) {
        return ag_buf_append(out, value, err);
    }

    for (size_t i = 0; i < value.n; i++) {
        if (escape_byte(how, (unsigned char) value.p[i], out, err) < 0) {
            return -1;
        }
    }

    return 0;
}


bool
ngx_agent_param_next(ag_str_t *rest, ag_str_t *name, ag_str_t *value)
{
    if (rest->n > 0 && rest->p[0] == '?') {
        *rest = ag_str_n(rest->p + 1, rest->n - 1);
    }

    if (rest->n == 0) {
        return false;
    }

    (void) ag_str_cut(rest, '&', value);
    (void) ag_str_cut(value, '=', name);

    return true;
}


/* The next byte of a name as a reader sees it, in lower case; -1 at the end. */
static int
param_byte(ag_str_t *s)
{
    char    c;
    size_t  len;

    if (s->n == 0) {
        return -1;
    }

    len = escape_at(*s, 0, &c);

    if (len == 0) {
        c = s->p[0] == '+' ? ' ' : s->p[0];
        len = 1;
    }

    *s = ag_str_n(s->p + len, s->n - len);

    return tolower((unsigned char) c);
}


bool
ngx_agent_param_same(ag_str_t a, ag_str_t b)
{
    int  x, y;

    do {
        x = param_byte(&a);
        y = param_byte(&b);
    } while (x == y && x != -1);

    return x == y;
}


int
ngx_agent_base64_decode(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    static const char  chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned  bits = 0, n_bits = 0;

    while (in.n > 0 && in.p[in.n - 1] == '=') {
        in.n--;
    }

    for (size_t i = 0; i < in.n; i++) {
        const char *p = in.p[i] == '\0' ? NULL : strchr(chars, in.p[i]);

        if (p == NULL) {
            return ag_err_set(err, AG_ERR_INVALID, "not base64");
        }

        bits = (bits << 6 | (unsigned) (p - chars)) & 0xffff;
        n_bits += 6;

        if (n_bits >= 8) {
            n_bits -= 8;
            char c = (char) (bits >> n_bits & 0xff);

            if (ag_buf_append(out, ag_str_n(&c, 1), err) < 0) {
                return -1;
            }
        }
    }

    return 0;
}


int
ngx_agent_base64_encode(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    static const char  chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char  *p = (const unsigned char *) in.p;

    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i;
        unsigned v = (unsigned) p[i] << 16
                     | (left > 1 ? (unsigned) p[i + 1] << 8 : 0)
                     | (left > 2 ? p[i + 2] : 0);
        char quad[4] = {chars[v >> 18], chars[v >> 12 & 63],
                        left > 1 ? chars[v >> 6 & 63] : '=',
                        left > 2 ? chars[v & 63] : '='};

        if (ag_buf_append(out, ag_str_n(quad, 4), err) < 0) {
            return -1;
        }
    }

    return 0;
}


bool
ngx_agent_is_basic(ag_str_t value, ag_str_t *credentials)
{
    if (value.n < 6 || strncasecmp(value.p, "basic", 5) != 0
        || (value.p[5] != ' ' && value.p[5] != '\t'))
    {
        return false;
    }

    *credentials = ag_str_trim(ag_str_n(value.p + 5, value.n - 5));

    return true;
}
