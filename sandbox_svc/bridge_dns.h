/*
 * The little of DNS that a sandbox needs: queries are parsed strictly, answers
 * have one address or none. Pure functions over bytes from the sandbox.
 */
#ifndef SANDBOX_SVC_BRIDGE_DNS_H
#define SANDBOX_SVC_BRIDGE_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/net.h"

/* A query without options fits, and so does the answer to it. */
#define BRIDGE_DNS_MAX 512

enum bridge_dns_code {
    BRIDGE_DNS_OK = 0,
    BRIDGE_DNS_FORMERR = 1,
    BRIDGE_DNS_SERVFAIL = 2,
    BRIDGE_DNS_NXDOMAIN = 3,
    BRIDGE_DNS_NOTIMP = 4,
};

enum { BRIDGE_DNS_A = 1, BRIDGE_DNS_AAAA = 28 };

struct bridge_dns_query {
    uint16_t id;
    bool wants_recursion;
    uint16_t type;
    /* Lower case, no dot at the end. */
    char name[AG_HOST_MAX];
    /* Length of the question section. */
    size_t question_n;
};

/*
 * Parse a query. Returns BRIDGE_DNS_OK; another code that is the answer
 * (`id` is set, question_n may be 0); or -1 for what is not answered at all.
 */
int
bridge_dns_parse(const void *packet, size_t n, struct bridge_dns_query *out);

/*
 * Write the answer to `out` (BRIDGE_DNS_MAX bytes): the question of `packet`
 * again, and with BRIDGE_DNS_OK and `address` (host order) not 0 one A record.
 * Returns its length.
 */
size_t bridge_dns_answer(const void *packet, const struct bridge_dns_query *q,
                         enum bridge_dns_code code, uint32_t address,
                         unsigned char *out);

#endif
