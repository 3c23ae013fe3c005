/*
 * Signed heads of the audit chains: sequence and MAC of each tenant's last row,
 * signed by the keeper, in a file outside the database. Whoever cuts rows off,
 * or puts an older database in place, cannot bring the file along.
 *
 * One line a tenant: "head TENANT SEQ MAC TIME_US SIGNATURE" (hex).
 */
#ifndef VAULT_HEAD_H
#define VAULT_HEAD_H

#include "vault_svc/vault.h"

/* Before what is signed: "TENANT SEQ MAC TIME_US". */
#define VAULT_HEAD_CONTEXT "brainbox-audit-head-v1"

enum { VAULT_HEAD_FILE_MAX = 4 << 20, VAULT_HEADS_MAX = 10000 };

struct vault_head {
    char tenant[64];
    int64_t seq, signed_us;
    unsigned char mac[VAULT_MAC_BYTES];
    unsigned char signature[KEEPER_SIGNATURE_BYTES];
};

struct vault_heads {
    struct vault_head *v;
    size_t n;
};

/* The text that is signed. */
void vault_head_text(const struct vault_head *h, struct ag_buf *out);
/* Does the signature check under the keeper's Ed25519 public key? */
bool
vault_head_is_signed(const struct vault_head *h, const unsigned char pub[32]);

/* AG_ERR_INVALID names the line. Release in any case. */
int
vault_heads_parse(ag_str_t text, struct vault_heads *out, struct ag_err *err);
/* A file that is not there has no heads. */
int
vault_heads_load(const char *path, struct vault_heads *out, struct ag_err *err);
void vault_heads_write(const struct vault_heads *heads, struct ag_buf *out);
void vault_heads_release(struct vault_heads *heads);
struct vault_head *vault_heads_find(struct vault_heads *heads, ag_str_t tenant);

/*
 * Sign what has changed, every `audit_head_ms`. NULL without an error when no
 * file is configured. A tenant whose chain does not lead to its last signed
 * head is logged and keeps that head, for `audit verify` to find.
 */
struct vault_signer;
struct vault_signer *vault_signer_start(struct vault *v, struct ag_err *err);
/* Ask nobody any more; before keeper and database go. */
void vault_signer_stop(struct vault_signer *s);
void vault_signer_free(struct vault_signer *s);

#endif
