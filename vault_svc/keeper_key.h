/*
 * What the keeper holds: the master key, the root CA and the Ed25519 key that
 * signs principal assertions.
 *
 * In the folder of the key file: master.key (32 bytes, 0600), identity.sealed
 * (root CA key and Ed25519 seed, sealed under the master key, so that a wrong
 * master key is seen at start) and root.pem (the root's certificate).
 */
#ifndef KEEPER_KEY_H
#define KEEPER_KEY_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "lib/secret.h"
#include "vault_svc/vault_seal.h"

struct keeper_keys {
    unsigned char wrap[VAULT_KEY_BYTES]; /* wraps data keys */
    unsigned char mac[VAULT_KEY_BYTES];  /* for KEEPER_MAC */
    EVP_PKEY *root_key;
    X509 *root_cert;
    EVP_PKEY *assertion_key;
    unsigned char assertion_pub[32];
};

/* Make all three files; AG_ERR_EXISTS when the key file is there already. */
int keeper_keys_create(const char *key_file, struct ag_err *err);
/* AG_ERR_CORRUPT when the master key does not open the identity. */
int keeper_keys_load(const char *key_file, struct keeper_keys *out,
                     struct ag_err *err);
void keeper_keys_release(struct keeper_keys *keys);

/*
 * Issue the intermediate that signs leaves: P-256 key `spki_der`, valid for 24
 * hours from now, path length 0. Appends DER.
 */
int keeper_keys_issue(const struct keeper_keys *keys, ag_str_t spki_der,
                      struct ag_buf *out, struct ag_err *err);

/* Write assertion.pub (64 hex digits) and ca.pem, world-readable, atomically;
 * an empty path is skipped. */
int keeper_keys_publish(const struct keeper_keys *keys, const char *pub_path,
                        const char *ca_path, struct ag_err *err);

#endif
