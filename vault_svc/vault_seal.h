/*
 * Envelope encryption and message authentication: pure functions, any thread.
 *
 * An envelope is nonce (12), ciphertext, tag (16) of AES-256-GCM. What it is
 * bound to (tenant, credential, version, binding) is authenticated, not
 * stored, so a ciphertext that is moved to another row does not open.
 */
#ifndef VAULT_SEAL_H
#define VAULT_SEAL_H

#include "lib/secret.h"

enum {
    VAULT_KEY_BYTES = 32,
    VAULT_MAC_BYTES = 32,
    VAULT_SEAL_OVERHEAD = 12 + 16,
    VAULT_PLAIN_MAX = 64 * 1024,
};

/* The keys of one tenant, all made from its data key. */
struct vault_keyring {
    unsigned char seal[VAULT_KEY_BYTES];
    unsigned char mac[VAULT_KEY_BYTES];
    unsigned char stub[VAULT_KEY_BYTES];
    unsigned char find[VAULT_KEY_BYTES]; /* of fingerprints */
};

/* What a credential's envelope is bound to. */
struct vault_record_id {
    ag_str_t tenant, credential_id;
    int64_t version;
    ag_str_t binding; /* canonical JSON */
};

void vault_keyring_init(struct vault_keyring *ring,
                        const unsigned char data_key[VAULT_KEY_BYTES]);

void vault_hmac(const unsigned char key[VAULT_KEY_BYTES], ag_str_t msg,
                unsigned char out[VAULT_MAC_BYTES]);

/*
 * Fields of a message to authenticate, each with its length before it, so
 * that no two lists of fields give the same bytes.
 */
void vault_field(struct ag_buf *b, ag_str_t field);
void vault_field_int(struct ag_buf *b, int64_t v);

enum { VAULT_NONCE_LEN = 12 };

/*
 * Encrypt `plain` under `key` with `aad` and append the envelope to `out`.
 * AG_ERR_LIMIT when plain is longer than VAULT_PLAIN_MAX. The nonce is random;
 * the second form takes one, for published vectors alone.
 */
int vault_aead_seal(const unsigned char key[VAULT_KEY_BYTES], ag_str_t aad,
                    ag_str_t plain, struct ag_buf *out, struct ag_err *err);
int
vault_aead_seal_nonce(const unsigned char key[VAULT_KEY_BYTES],
                      const unsigned char nonce[VAULT_NONCE_LEN], ag_str_t aad,
                      ag_str_t plain, struct ag_buf *out, struct ag_err *err);
/* The reverse. AG_ERR_CORRUPT when it does not check. */
int vault_aead_open(const unsigned char key[VAULT_KEY_BYTES], ag_str_t aad,
                    ag_str_t envelope, ag_secret_t *out, struct ag_err *err);

/* The same for a credential's value. */
int vault_seal(const unsigned char key[VAULT_KEY_BYTES],
               const struct vault_record_id *id, ag_str_t plain,
               struct ag_buf *out, struct ag_err *err);
int vault_open(const unsigned char key[VAULT_KEY_BYTES],
               const struct vault_record_id *id, ag_str_t envelope,
               ag_secret_t *out, struct ag_err *err);

#endif
