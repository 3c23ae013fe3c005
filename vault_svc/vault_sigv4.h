/* AWS Signature Version 4, as published. Pure. */
#ifndef VAULT_SIGV4_H
#define VAULT_SIGV4_H

#include "vault_svc/vault_sign.h"

struct vault_sigv4 {
    ag_str_t access_key_id, region, service;
};

/*
 * The value of `Authorization`. `headers` of `what` are signed, all of them,
 * with the host; they hold x-amz-date. Lives in `arena`.
 */
int vault_sigv4(const struct vault_sigv4 *with, ag_str_t secret,
                const struct vault_signable *what, ag_str_t amz_date,
                struct ag_arena *arena, ag_str_t *out, struct ag_err *err);

/* Append `s`, all but unreserved characters (RFC 3986, 2.3) as %XX. */
void vault_uri_encode(struct ag_buf *b, ag_str_t s, bool keep_slash);

#endif
