/*
 * Checks what the keeper signed: base64url(Assertion) "." base64url(Ed25519
 * signature over AG_ASSERTION_CONTEXT "\0" and the serialized Assertion).
 *
 * Called by every service for each request, on its loop. A signature
 * costs about 100 us to check, and ingress sends the same text for a minute,
 * so digests of texts whose signature held are remembered; times and bounds
 * are checked each time.
 */
#include "lib/assertion.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/scope.h"
#include "lib/secret.h"
#include "vault.pb-c.h"

enum { TEXT_MAX = 4096, CACHE_SLOTS = 256, SKEW_US = 5 * 1000000 };

struct ag_assertion_key {
    EVP_PKEY *pkey;
    unsigned char seen[CACHE_SLOTS][32];
};

static void
pb_freep(Agent__Vault__V1__Assertion **msg)
{
    if (*msg != NULL)
        agent__vault__v1__assertion__free_unpacked(*msg, NULL);
}

static bool
signature_holds(const struct ag_assertion_key *key, ag_str_t body, ag_str_t sig)
{
    AG_AUTO(ag_buf_release) struct ag_buf msg = AG_BUF_INIT(TEXT_MAX * 2);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    ag_assert(ctx != NULL);
    ag_buf_add(&msg,
               ag_str_n(AG_ASSERTION_CONTEXT, sizeof(AG_ASSERTION_CONTEXT)));
    ag_buf_add(&msg, body);
    bool ok = sig.n == 64
              && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key->pkey) == 1
              && EVP_DigestVerify(ctx, (const unsigned char *)sig.p, sig.n,
                                  (const unsigned char *)msg.p, msg.n)
                     == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* Split `text`, decode it into `body`, and check the signature. */
static int
open_text(struct ag_assertion_key *key, ag_str_t text, struct ag_buf *body,
          struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf sig = AG_BUF_INIT(64);
    struct ag_err ignored = AG_ERR_INIT;
    ag_str_t rest = text, head;
    unsigned char digest[32];

    if (text.n == 0)
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED,
                          "metadata " AG_ASSERTION_METADATA " is missing");
    if (text.n > TEXT_MAX || !ag_str_cut(&rest, '.', &head)
        || ag_buf_append_b64url(body, head, &ignored) < 0
        || ag_buf_append_b64url(&sig, rest, &ignored) < 0)
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED,
                          "the assertion is malformed");

    ag_sha256(text, digest);
    unsigned char *slot = key->seen[digest[0]];
    if (memcmp(slot, digest, sizeof(digest)) == 0)
        return 0;
    if (!signature_holds(key, ag_buf_str(body), ag_buf_str(&sig)))
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED,
                          "the assertion's signature does not check");
    memcpy(slot, digest, sizeof(digest));
    return 0;
}

static int
check_bound(const Agent__Vault__V1__Assertion *msg, ag_str_t request,
            bool must_be_bound, struct ag_principal *p, struct ag_err *err)
{
    unsigned char digest[32];

    p->is_bound = msg->request_sha256.len == sizeof(digest);
    if (msg->request_sha256.len != 0 && !p->is_bound)
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED,
                          "the assertion's request_sha256 has not 32 bytes");
    if (!p->is_bound) {
        if (must_be_bound)
            return ag_err_set(err, AG_ERR_DENIED,
                              "the assertion is not made for this request");
        return 0;
    }
    memcpy(p->request_sha256, msg->request_sha256.data, sizeof(digest));
    ag_sha256(request, digest);
    if (memcmp(digest, p->request_sha256, sizeof(digest)) != 0)
        return ag_err_set(err, AG_ERR_DENIED,
                          "the assertion is made for another request");
    return 0;
}

static unsigned
read_scopes(const Agent__Vault__V1__Assertion *msg)
{
    unsigned scopes = 0;

    for (size_t i = 0; i < msg->n_scopes; i++)
        scopes |= ag_scope_find(ag_str(msg->scopes[i]));
    return scopes;
}

struct ag_assertion_key *
ag_assertion_key_new(const unsigned char pub[32])
{
    struct ag_assertion_key *key = ag_xcalloc(1, sizeof(*key));
    key->pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, 32);
    ag_assert(key->pkey != NULL);
    return key;
}

struct ag_assertion_key *
ag_assertion_key_load(const char *path, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf raw = AG_BUF_INIT(64);
    char text[128];
    FILE *f = fopen(path, "re");

    if (f == NULL) {
        ag_err_sys(err, "open %s", path);
        return NULL;
    }
    size_t n = fread(text, 1, sizeof(text), f);
    fclose(f);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    if (n != 64 || ag_buf_append_hex(&raw, ag_str_n(text, n), err) < 0) {
        ag_err_set(err, AG_ERR_INVALID, "%s: not a key of 64 hex digits", path);
        return NULL;
    }
    return ag_assertion_key_new((const unsigned char *)raw.p);
}

void
ag_assertion_key_free(struct ag_assertion_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

int
ag_assertion_check(struct ag_assertion_key *key, ag_str_t text,
                   ag_str_t request, bool must_be_bound, struct ag_arena *arena,
                   struct ag_principal *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf body = AG_BUF_INIT(TEXT_MAX);
    AG_AUTO(pb_freep) Agent__Vault__V1__Assertion *msg = NULL;
    struct ag_principal p = {0};
    int64_t now = ag_now_us();

    if (open_text(key, text, &body, err) < 0)
        return -1;
    msg = agent__vault__v1__assertion__unpack(NULL, body.n,
                                              (const uint8_t *)body.p);
    if (msg == NULL || msg->tenant[0] == '\0' || msg->subject[0] == '\0')
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED,
                          "the assertion is malformed");
    if (now >= msg->expires_us || now < msg->issued_us - SKEW_US)
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED,
                          "the assertion is expired or not yet valid");
    if (check_bound(msg, request, must_be_bound, &p, err) < 0)
        return -1;
    p.scopes = read_scopes(msg);
    p.tenant = ag_arena_copy(arena, ag_str(msg->tenant));
    p.subject = ag_arena_copy(arena, ag_str(msg->subject));
    p.expires_us = msg->expires_us;
    *out = p;
    return 0;
}
