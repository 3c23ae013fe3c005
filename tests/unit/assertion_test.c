/* Principal assertions: what is accepted, and each way of being refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "lib/assertion.h"
#include "lib/clock.h"
#include "lib/scope.h"
#include "lib/secret.h"
#include "vault.pb-c.h"

static EVP_PKEY *pkey;
static struct ag_assertion_key *key;

static void
make(struct ag_buf *text, int64_t from_us, int64_t to_us, ag_str_t request,
     const char *context)
{
    Agent__Vault__V1__Assertion m = AGENT__VAULT__V1__ASSERTION__INIT;
    char *scopes[] = {"read", "admin"};
    unsigned char digest[32], sig[64];
    uint8_t raw[512];
    size_t n_sig = sizeof(sig);
    struct ag_buf msg = AG_BUF_INIT(1024);

    m.tenant = "acme";
    m.subject = "key_1";
    m.scopes = scopes;
    m.n_scopes = 2;
    m.issued_us = ag_now_us() + from_us;
    m.expires_us = ag_now_us() + to_us;
    if (request.p != NULL) {
        ag_sha256(request, digest);
        m.request_sha256 = (ProtobufCBinaryData){32, digest};
    }
    size_t n = agent__vault__v1__assertion__pack(&m, raw);
    ag_buf_add(&msg, ag_str_n(context, strlen(context) + 1));
    ag_buf_add(&msg, ag_str_n(raw, n));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey), 1);
    assert_int_equal(
        EVP_DigestSign(ctx, sig, &n_sig, (unsigned char *)msg.p, msg.n), 1);
    EVP_MD_CTX_free(ctx);
    ag_buf_release(&msg);
    ag_buf_clear(text);
    ag_buf_add_b64url(text, ag_str_n(raw, n));
    ag_buf_addc(text, '.');
    ag_buf_add_b64url(text, ag_str_n(sig, n_sig));
}

static enum ag_err_kind
check(ag_str_t text, ag_str_t request, bool must_be_bound,
      struct ag_principal *out)
{
    struct ag_arena *arena = ag_arena_new();
    struct ag_err err = AG_ERR_INIT;
    struct ag_principal p;
    int rc =
        ag_assertion_check(key, text, request, must_be_bound, arena, &p, &err);
    if (rc == 0) {
        assert_true(ag_str_is(p.tenant, "acme"));
        assert_true(ag_str_is(p.subject, "key_1"));
        assert_int_equal(p.scopes, AG_SCOPE_READ | AG_SCOPE_ADMIN);
    }
    if (rc == 0 && out != NULL)
        *out = p;
    ag_arena_free(arena);
    return err.kind;
}

static void
a_good_assertion_gives_the_principal(void **state)
{
    struct ag_buf text = AG_BUF_INIT(2048);
    struct ag_principal p;
    (void)state;
    make(&text, 0, 1000000, (ag_str_t){NULL, 0}, AG_ASSERTION_CONTEXT);
    for (int i = 0; i < 2; i++) /* the second time from the cache */
        assert_int_equal(check(ag_buf_str(&text), AG_STR("any"), false, &p),
                         AG_ERR_NONE);
    assert_false(p.is_bound);
    assert_int_equal(check(ag_buf_str(&text), AG_STR("any"), true, NULL),
                     AG_ERR_DENIED);
    ag_buf_release(&text);
}

static void
a_bound_one_holds_for_its_request_alone(void **state)
{
    struct ag_buf text = AG_BUF_INIT(2048);
    struct ag_principal p;
    (void)state;
    make(&text, 0, 1000000, AG_STR("mine"), AG_ASSERTION_CONTEXT);
    assert_int_equal(check(ag_buf_str(&text), AG_STR("mine"), true, &p),
                     AG_ERR_NONE);
    assert_true(p.is_bound);
    assert_int_equal(check(ag_buf_str(&text), AG_STR("other"), true, NULL),
                     AG_ERR_DENIED);
    assert_int_equal(check(ag_buf_str(&text), AG_STR("other"), false, NULL),
                     AG_ERR_DENIED);
    ag_buf_release(&text);
}

static void
times_are_checked_also_for_texts_seen_before(void **state)
{
    struct ag_buf text = AG_BUF_INIT(2048);
    (void)state;
    make(&text, -10000000, -1, (ag_str_t){NULL, 0}, AG_ASSERTION_CONTEXT);
    assert_int_equal(check(ag_buf_str(&text), AG_STR(""), false, NULL),
                     AG_ERR_UNAUTHENTICATED);
    make(&text, 60000000, 120000000, (ag_str_t){NULL, 0}, AG_ASSERTION_CONTEXT);
    assert_int_equal(check(ag_buf_str(&text), AG_STR(""), false, NULL),
                     AG_ERR_UNAUTHENTICATED);
    make(&text, 0, 1000000, (ag_str_t){NULL, 0}, AG_ASSERTION_CONTEXT);
    assert_int_equal(check(ag_buf_str(&text), AG_STR(""), false, NULL),
                     AG_ERR_NONE);
    ag_clock_shift(2000000);
    assert_int_equal(check(ag_buf_str(&text), AG_STR(""), false, NULL),
                     AG_ERR_UNAUTHENTICATED);
    ag_clock_shift(-2000000);
    ag_buf_release(&text);
}

static void
malformed_and_forged_texts_are_refused(void **state)
{
    struct ag_buf text = AG_BUF_INIT(2048);
    static const char *const bad[] = {"",     ".",         "a.b",
                                      "AAAA", "AAAA.AAAA", "!!.??"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(check(ag_str(bad[i]), AG_STR(""), false, NULL),
                         AG_ERR_UNAUTHENTICATED);
    make(&text, 0, 1000000, (ag_str_t){NULL, 0}, "another-context");
    assert_int_equal(check(ag_buf_str(&text), AG_STR(""), false, NULL),
                     AG_ERR_UNAUTHENTICATED);
    make(&text, 0, 1000000, (ag_str_t){NULL, 0}, AG_ASSERTION_CONTEXT);
    for (size_t i = 0; i + 1 < text.n; i++) {
        char old = text.p[i];
        text.p[i] = old == 'A' ? 'B' : 'A';
        if (old != '.' && i != (size_t)(strchr(text.p, '.') - text.p) - 1)
            assert_int_equal(check(ag_buf_str(&text), AG_STR(""), false, NULL),
                             AG_ERR_UNAUTHENTICATED);
        text.p[i] = old;
    }
    ag_buf_release(&text);
}

static void
the_key_is_read_from_its_file(void **state)
{
    static const char *const texts[] = {
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
        "00\n", "",
        "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"};
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct ag_err err = AG_ERR_INIT;
        char path[] = "/tmp/bbaXXXXXX";
        int fd = mkstemp(path);
        assert_int_equal(write(fd, texts[i], strlen(texts[i])),
                         strlen(texts[i]));
        close(fd);
        struct ag_assertion_key *k = ag_assertion_key_load(path, &err);
        assert_int_equal(k != NULL, i == 0);
        ag_assertion_key_free(k);
        unlink(path);
        assert_null(ag_assertion_key_load(path, &err));
    }
}

int
main(void)
{
    unsigned char pub[32];
    size_t n = sizeof(pub);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_assertion_gives_the_principal),
        cmocka_unit_test(a_bound_one_holds_for_its_request_alone),
        cmocka_unit_test(times_are_checked_also_for_texts_seen_before),
        cmocka_unit_test(malformed_and_forged_texts_are_refused),
        cmocka_unit_test(the_key_is_read_from_its_file),
    };

    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    EVP_PKEY_get_raw_public_key(pkey, pub, &n);
    key = ag_assertion_key_new(pub);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    ag_assertion_key_free(key);
    EVP_PKEY_free(pkey);
    return rc;
}
