/*
 * Reads the server name out of a ClientHello (RFC 8446 4.1.2, RFC 6066 3),
 * which may be spread over several records. Only the outer name counts: what
 * egress terminates is the outer handshake.
 */
#include "sandbox_svc/bridge_hello.h"

#include <stdbool.h>
#include <string.h>

#include "sandbox_svc/bridge_dns.h"

#define RECORD_HANDSHAKE 22
#define RECORD_HEADER 5
#define RECORD_MAX 16384
#define CLIENT_HELLO 1
#define EXT_SERVER_NAME 0

/* What is left of a message. */
struct cursor {
    const unsigned char *p;
    size_t n;
};

static bool
skip(struct cursor *c, size_t n)
{
    if (c->n < n)
        return false;
    c->p += n;
    c->n -= n;
    return true;
}

/* Take a vector whose length is in `width` bytes before it. */
static bool
take(struct cursor *c, int width, struct cursor *out)
{
    size_t len = 0;

    if (c->n < (size_t)width)
        return false;
    for (int i = 0; i < width; i++)
        len = len << 8 | c->p[i];
    c->p += width;
    c->n -= (size_t)width;
    out->p = c->p;
    out->n = len;
    return skip(c, len);
}

static enum bridge_hello
copy_name(struct cursor host, char *name)
{
    if (host.n == 0 || host.n >= AG_HOST_MAX)
        return BRIDGE_HELLO_BAD;
    for (size_t i = 0; i < host.n; i++) {
        char c = (char)host.p[i];
        name[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    name[host.n] = 0;
    return ag_host_is_valid(name, host.n) ? BRIDGE_HELLO_NAME
                                          : BRIDGE_HELLO_BAD;
}

/* The server_name extension: a list of exactly one host name. */
static enum bridge_hello
parse_server_name(struct cursor ext, char *name)
{
    struct cursor list, host;

    if (!take(&ext, 2, &list) || ext.n != 0 || list.n < 1 || list.p[0] != 0
        || !skip(&list, 1) || !take(&list, 2, &host) || list.n != 0)
        return BRIDGE_HELLO_BAD;
    return copy_name(host, name);
}

static enum bridge_hello
parse_body(struct cursor c, char *name)
{
    struct cursor part, exts, ext;
    enum bridge_hello found = BRIDGE_HELLO_BAD;
    bool has_name = false;

    /* version, random, session id, ciphers, compression */
    if (!skip(&c, 2 + 32) || !take(&c, 1, &part) || !take(&c, 2, &part)
        || !take(&c, 1, &part) || !take(&c, 2, &exts) || c.n != 0)
        return BRIDGE_HELLO_BAD;
    while (exts.n > 0) {
        if (exts.n < 4)
            return BRIDGE_HELLO_BAD;
        unsigned type = (unsigned)exts.p[0] << 8 | exts.p[1];
        if (!skip(&exts, 2) || !take(&exts, 2, &ext))
            return BRIDGE_HELLO_BAD;
        if (type != EXT_SERVER_NAME)
            continue;
        if (has_name)
            return BRIDGE_HELLO_BAD;
        has_name = true;
        found = parse_server_name(ext, name);
    }
    return found;
}

/* Put the payloads of the records together. Returns what is there of the
 * message in *n, or BRIDGE_HELLO_BAD. */
static enum bridge_hello
join_records(const unsigned char *p, size_t n, unsigned char *out,
             size_t *out_n)
{
    size_t at = 0;

    *out_n = 0;
    while (n - at >= RECORD_HEADER) {
        size_t len = (size_t)p[at + 3] << 8 | p[at + 4];
        if (p[at] != RECORD_HANDSHAKE || p[at + 1] != 3 || len == 0
            || len > RECORD_MAX)
            return BRIDGE_HELLO_BAD;
        at += RECORD_HEADER;
        size_t have = n - at < len ? n - at : len;
        memcpy(out + *out_n, p + at, have);
        *out_n += have;
        at += have;
        if (have < len)
            break;
        /* Whole already: what follows is none of ours. */
        if (*out_n >= 4) {
            size_t want = (size_t)out[1] << 16 | (size_t)out[2] << 8 | out[3];
            if (*out_n >= want + 4)
                break;
        }
    }
    return BRIDGE_HELLO_MORE;
}

enum bridge_hello
bridge_hello_parse(const void *data, size_t n, char *name)
{
    unsigned char message[BRIDGE_HELLO_MAX];
    size_t have;

    if (n == 0)
        return BRIDGE_HELLO_MORE;
    if (((const unsigned char *)data)[0] != RECORD_HANDSHAKE)
        return BRIDGE_HELLO_PLAIN;
    if (n > BRIDGE_HELLO_MAX)
        n = BRIDGE_HELLO_MAX;
    if (join_records(data, n, message, &have) == BRIDGE_HELLO_BAD
        || (have > 0 && message[0] != CLIENT_HELLO))
        return BRIDGE_HELLO_BAD;
    if (have >= 4) {
        size_t want =
            (size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3];
        if (have >= want + 4)
            return parse_body((struct cursor){message + 4, want}, name);
        if (want > BRIDGE_HELLO_MAX - 4)
            return BRIDGE_HELLO_BAD;
    }
    return n >= BRIDGE_HELLO_MAX ? BRIDGE_HELLO_BAD : BRIDGE_HELLO_MORE;
}
