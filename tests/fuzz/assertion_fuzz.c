/*
 * Fuzz target of principal assertions. An odd first byte: the rest is the text
 * as a caller sends it, and without the key it is never accepted. An even one:
 * the rest is signed with the key, so that what lies behind the check of the
 * signature is reached; what is accepted names a tenant and has not expired.
 */
#include <openssl/evp.h>
#include <stdint.h>

#include "lib/assertion.h"
#include "lib/buf.h"
#include "lib/clock.h"

#define SIGNED_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *pkey;
static struct ag_assertion_key *key;

static void
make_key(void)
{
    static const unsigned char seed[32] = {7};
    unsigned char pub[32];
    size_t n = sizeof(pub);

    pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    ag_assert(pkey != NULL);
    ag_assert(EVP_PKEY_get_raw_public_key(pkey, pub, &n) == 1 && n == 32);
    key = ag_assertion_key_new(pub);
}

static void
sign(ag_str_t raw, struct ag_buf *text)
{
    AG_AUTO(ag_buf_release) struct ag_buf msg = AG_BUF_INIT(SIGNED_MAX + 64);
    unsigned char sig[64];
    size_t n = sizeof(sig);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    ag_buf_add(&msg, ag_str_n(AG_ASSERTION_CONTEXT,
                              sizeof(AG_ASSERTION_CONTEXT)));
    ag_buf_add(&msg, raw);
    ag_assert(EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1);
    ag_assert(EVP_DigestSign(ctx, sig, &n, (unsigned char *)msg.p, msg.n)
              == 1);
    EVP_MD_CTX_free(ctx);
    ag_buf_add_b64url(text, raw);
    ag_buf_addc(text, '.');
    ag_buf_add_b64url(text, ag_str_n(sig, n));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(SIZE_MAX / 4);
    struct ag_err err = AG_ERR_INIT;
    struct ag_principal who;

    if (key == NULL)
        make_key();
    if (size == 0 || size > SIGNED_MAX)
        return 0;
    ag_str_t rest = ag_str_n(data + 1, size - 1);
    bool is_signed = data[0] % 2 == 0;

    if (is_signed)
        sign(rest, &text);
    else
        ag_buf_add(&text, rest);
    if (ag_assertion_check(key, ag_buf_str(&text), AG_STR("request"),
                           (data[0] & 2) != 0, arena, &who, &err) < 0) {
        ag_assert(err.kind == AG_ERR_UNAUTHENTICATED
                  || err.kind == AG_ERR_DENIED);
        return 0;
    }
    ag_assert(is_signed);
    ag_assert(who.tenant.n > 0 && who.expires_us > ag_now_us());
    ag_assert(who.is_bound || (data[0] & 2) == 0);
    return 0;
}
