/*
 * Name queries of sandboxes. Anything but one plain question of class IN is
 * refused: a resolver library sends nothing else, and what is not parsed cannot
 * be parsed wrongly.
 */
#include "sandbox_svc/bridge_dns.h"

#include <string.h>

#define HEADER 12
#define TTL 60
#define TYPE_OPT 41
#define CLASS_IN 1

static unsigned
get16(const unsigned char *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void
put16(unsigned char *p, unsigned v)
{
    p[0] = (unsigned char)(v >> 8);
    p[1] = (unsigned char)v;
}

/* The name at p[*at] as text; no compression, which a question never needs. */
static int
read_name(const unsigned char *p, size_t n, size_t *at, char *out)
{
    size_t len = 0;

    for (;;) {
        if (*at >= n)
            return -1;
        unsigned label = p[(*at)++];
        if (label == 0)
            break;
        if (label > 63 || *at + label > n || len + label + 2 > AG_HOST_MAX)
            return -1;
        if (len > 0)
            out[len++] = '.';
        for (unsigned i = 0; i < label; i++) {
            char c = (char)p[*at + i];
            /* A dot inside a label must not look like a border. */
            if (c == '.' || c == 0)
                return -1;
            out[len++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        *at += label;
    }
    out[len] = 0;
    return 0;
}

/* Nothing, or one EDNS option record (root name, type OPT, its data). */
static bool
is_valid_rest(const unsigned char *p, size_t n, unsigned additional)
{
    if (additional == 0)
        return n == 0;
    return additional == 1 && n >= 11 && p[0] == 0 && get16(p + 1) == TYPE_OPT
           && n == 11 + get16(p + 9);
}

int
bridge_dns_parse(const void *packet, size_t n, struct bridge_dns_query *out)
{
    const unsigned char *p = packet;
    struct bridge_dns_query q = {.id = 0};
    size_t at = HEADER;

    if (n < HEADER || n > BRIDGE_DNS_MAX || (p[2] & 0x80) != 0)
        return -1;
    q.id = (uint16_t)get16(p);
    q.wants_recursion = (p[2] & 1) != 0;
    *out = q;
    if ((p[2] & 0x78) != 0)
        return BRIDGE_DNS_NOTIMP;
    /* One question, no records but perhaps an option. */
    if (get16(p + 4) != 1 || get16(p + 6) != 0 || get16(p + 8) != 0)
        return BRIDGE_DNS_FORMERR;
    if (read_name(p, n, &at, q.name) < 0 || at + 4 > n
        || !is_valid_rest(p + at + 4, n - at - 4, get16(p + 10)))
        return BRIDGE_DNS_FORMERR;
    q.type = (uint16_t)get16(p + at);
    q.question_n = at + 4 - HEADER;
    *out = q;
    if (get16(p + at + 2) != CLASS_IN)
        return BRIDGE_DNS_NOTIMP;
    if (q.type != BRIDGE_DNS_A && q.type != BRIDGE_DNS_AAAA)
        return BRIDGE_DNS_NOTIMP;
    if (!ag_host_is_valid(q.name, strlen(q.name)))
        return BRIDGE_DNS_NXDOMAIN;
    return BRIDGE_DNS_OK;
}

size_t
bridge_dns_answer(const void *packet, const struct bridge_dns_query *q,
                  enum bridge_dns_code code, uint32_t address,
                  unsigned char *out)
{
    bool has_address = code == BRIDGE_DNS_OK && address != 0;
    size_t n = HEADER + q->question_n;

    memset(out, 0, HEADER);
    put16(out, q->id);
    /* An answer, authoritative, recursion as asked and available. */
    out[2] = (unsigned char)(0x84 | (q->wants_recursion ? 1 : 0));
    out[3] = (unsigned char)(0x80 | code);
    put16(out + 4, q->question_n > 0);
    put16(out + 6, has_address);
    memcpy(out + HEADER, (const unsigned char *)packet + HEADER, q->question_n);
    /* The question is at most 12 + 254 + 1 + 4 bytes: the record fits. */
    if (has_address) {
        unsigned char *r = out + n;
        put16(r, 0xc000 | HEADER);
        put16(r + 2, BRIDGE_DNS_A);
        put16(r + 4, CLASS_IN);
        put16(r + 6, 0);
        put16(r + 8, TTL);
        put16(r + 10, 4);
        put16(r + 12, address >> 16);
        put16(r + 14, address & 0xffff);
        n += 16;
    }
    return n;
}
