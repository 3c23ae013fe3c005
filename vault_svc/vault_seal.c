/*
 * AES-256-GCM envelopes and HMAC-SHA256. Used by vault_svc for credentials and
 * rows, and by the keeper for data keys. Nonces are random: a tenant's data key
 * seals far fewer than 2^32 values.
 */
#include "vault_svc/vault_seal.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>

enum { NONCE = VAULT_NONCE_LEN, TAG = 16 };

static void
ctx_freep(EVP_CIPHER_CTX **ctx)
{
    EVP_CIPHER_CTX_free(*ctx);
}

static void
credential_aad(const struct vault_record_id *id, struct ag_buf *aad)
{
    vault_field(aad, AG_STR("brainbox-credential-v1"));
    vault_field(aad, id->tenant);
    vault_field(aad, id->credential_id);
    vault_field_int(aad, id->version);
    vault_field(aad, id->binding);
}

void
vault_keyring_init(struct vault_keyring *ring,
                   const unsigned char data_key[VAULT_KEY_BYTES])
{
    vault_hmac(data_key, AG_STR("brainbox-seal-v1"), ring->seal);
    vault_hmac(data_key, AG_STR("brainbox-mac-v1"), ring->mac);
    vault_hmac(data_key, AG_STR("brainbox-stub-v1"), ring->stub);
    vault_hmac(data_key, AG_STR("brainbox-find-v1"), ring->find);
}

static void
mac_freep(EVP_MAC_CTX **ctx)
{
    EVP_MAC_CTX_free(*ctx);
}

/* Without a key, to be copied: by the name of an algorithm OpenSSL looks for it
 * each time. */
static EVP_MAC_CTX *hmac_sha256;

static void
fetch_hmac(void)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

    hmac_sha256 = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    ag_assert(hmac_sha256 != NULL
              && EVP_MAC_CTX_set_params(hmac_sha256, params) == 1);
}

void
vault_hmac(const unsigned char key[VAULT_KEY_BYTES], ag_str_t msg,
           unsigned char out[VAULT_MAC_BYTES])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    size_t n = 0;

    (void)pthread_once(&once, fetch_hmac);
    AG_AUTO(mac_freep) EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(hmac_sha256);
    ag_assert(ctx != NULL && EVP_MAC_init(ctx, key, VAULT_KEY_BYTES, NULL) == 1
              && EVP_MAC_update(ctx, (const unsigned char *)msg.p, msg.n) == 1
              && EVP_MAC_final(ctx, out, &n, VAULT_MAC_BYTES) == 1
              && n == VAULT_MAC_BYTES);
}

void
vault_field(struct ag_buf *b, ag_str_t field)
{
    unsigned char len[4] = {field.n >> 24, field.n >> 16, field.n >> 8,
                            field.n};
    ag_assert(field.n <= UINT32_MAX);
    ag_buf_add(b, ag_str_n(len, sizeof(len)));
    ag_buf_add(b, field);
}

void
vault_field_int(struct ag_buf *b, int64_t v)
{
    unsigned char raw[8];
    for (int i = 0; i < 8; i++)
        raw[i] = (uint64_t)v >> (56 - 8 * i);
    vault_field(b, ag_str_n(raw, sizeof(raw)));
}

int
vault_aead_seal(const unsigned char key[VAULT_KEY_BYTES], ag_str_t aad,
                ag_str_t plain, struct ag_buf *out, struct ag_err *err)
{
    unsigned char nonce[VAULT_NONCE_LEN];

    ag_random(nonce, sizeof(nonce));
    return vault_aead_seal_nonce(key, nonce, aad, plain, out, err);
}

int
vault_aead_seal_nonce(const unsigned char key[VAULT_KEY_BYTES],
                      const unsigned char nonce[VAULT_NONCE_LEN], ag_str_t aad,
                      ag_str_t plain, struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ctx_freep) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, rest = 0;

    if (plain.n > VAULT_PLAIN_MAX)
        return ag_err_set(err, AG_ERR_LIMIT, "a value has at most %d bytes",
                          VAULT_PLAIN_MAX);
    char *dst = ag_buf_reserve(out, plain.n + VAULT_SEAL_OVERHEAD, err);
    if (dst == NULL)
        return -1;
    memcpy(dst, nonce, NONCE);
    unsigned char *body = (unsigned char *)dst + NONCE;
    if (ctx == NULL
        || EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce) != 1
        || EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)aad.p,
                             (int)aad.n)
               != 1
        || EVP_EncryptUpdate(ctx, body, &n, (const unsigned char *)plain.p,
                             (int)plain.n)
               != 1
        || EVP_EncryptFinal_ex(ctx, body + n, &rest) != 1
        || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, body + plain.n)
               != 1)
        return ag_err_set(err, AG_ERR_INTERNAL, "cannot seal");
    out->n += plain.n + VAULT_SEAL_OVERHEAD;
    out->p[out->n] = '\0';
    return 0;
}

int
vault_aead_open(const unsigned char key[VAULT_KEY_BYTES], ag_str_t aad,
                ag_str_t envelope, ag_secret_t *out, struct ag_err *err)
{
    AG_AUTO(ctx_freep) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    const unsigned char *p = (const unsigned char *)envelope.p;
    unsigned char tag[TAG];
    int n = 0, rest = 0;

    if (envelope.n < VAULT_SEAL_OVERHEAD
        || envelope.n > VAULT_PLAIN_MAX + VAULT_SEAL_OVERHEAD)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "an envelope has a wrong length");
    size_t len = envelope.n - VAULT_SEAL_OVERHEAD;
    memcpy(tag, p + NONCE + len, TAG);
    ag_secret_t plain = ag_secret_new(len == 0 ? 1 : len);
    plain.n = len;
    if (ctx == NULL
        || EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, p) != 1
        || EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)aad.p,
                             (int)aad.n)
               != 1
        || EVP_DecryptUpdate(ctx, plain.p, &n, p + NONCE, (int)len) != 1
        || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) != 1
        || EVP_DecryptFinal_ex(ctx, plain.p + n, &rest) != 1) {
        ag_secret_release(&plain);
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "an envelope does not open: wrong key, or the row "
                          "was changed");
    }
    *out = plain;
    return 0;
}

int
vault_seal(const unsigned char key[VAULT_KEY_BYTES],
           const struct vault_record_id *id, ag_str_t plain, struct ag_buf *out,
           struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf aad = AG_BUF_INIT(1 << 20);
    credential_aad(id, &aad);
    return vault_aead_seal(key, ag_buf_str(&aad), plain, out, err);
}

int
vault_open(const unsigned char key[VAULT_KEY_BYTES],
           const struct vault_record_id *id, ag_str_t envelope,
           ag_secret_t *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf aad = AG_BUF_INIT(1 << 20);
    credential_aad(id, &aad);
    return vault_aead_open(key, ag_buf_str(&aad), envelope, out, err);
}
