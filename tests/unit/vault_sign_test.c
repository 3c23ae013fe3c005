/* Signing: published vectors of SigV4, and signatures that others check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "lib/secret.h"
#include "vault_svc/vault_sigv4.h"

#define KEY "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

/* Of the suite that is published with the algorithm ("get-vanilla", …). */
static const struct {
    const char *method, *path, *query, *content_type, *body, *signature;
} suite[] = {
    {"GET", "/", "", NULL, "",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"GET", "/", "Param2=value2&Param1=value1", NULL, "",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"POST", "/", "", NULL, "",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"POST", "/", "", "application/x-www-form-urlencoded", "Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};

static void
sigv4_gives_the_published_signatures(void **state)
{
    const struct vault_sigv4 with = {AG_STR("AKIDEXAMPLE"), AG_STR("us-east-1"),
                                     AG_STR("service")};
    (void)state;
    for (size_t i = 0; i < sizeof(suite) / sizeof(suite[0]); i++) {
        struct ag_arena *arena = ag_arena_new();
        struct vault_header headers[2] = {
            {AG_STR("x-amz-date"), AG_STR("20150830T123600Z")},
            {AG_STR("content-type"), ag_str(suite[i].content_type)}};
        struct vault_signable what = {
            .method = ag_str(suite[i].method),
            .host = AG_STR("example.amazonaws.com"),
            .path = ag_str(suite[i].path),
            .query = ag_str(suite[i].query),
            .headers = headers,
            .n_headers = suite[i].content_type != NULL ? 2 : 1};
        struct ag_err err = AG_ERR_INIT;
        ag_str_t out;
        ag_sha256(ag_str(suite[i].body), what.body_sha256);
        assert_int_equal(vault_sigv4(&with, AG_STR(KEY), &what,
                                     AG_STR("20150830T123600Z"), arena, &out,
                                     &err),
                         0);
        if (!ag_str_is(ag_str_n(out.p + out.n - 64, 64), suite[i].signature))
            fail_msg("%zu: %.*s", i, AG_FMT(out));
        ag_arena_free(arena);
    }
}

/* The example of the S3 documentation: GET /test.txt with a range. */
static void
sigv4_signs_a_get_of_s3(void **state)
{
    const struct vault_sigv4 with = {AG_STR("AKIAIOSFODNN7EXAMPLE"),
                                     AG_STR("us-east-1"), AG_STR("s3")};
    const struct vault_header headers[] = {
        {AG_STR("range"), AG_STR("bytes=0-9")},
        {AG_STR("x-amz-content-sha256"),
         AG_STR("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852"
                "b855")},
        {AG_STR("x-amz-date"), AG_STR("20130524T000000Z")}};
    struct vault_signable what = {.method = AG_STR("GET"),
                                  .host =
                                      AG_STR("examplebucket.s3.amazonaws.com"),
                                  .path = AG_STR("/test.txt"),
                                  .query = AG_STR(""),
                                  .headers = headers,
                                  .n_headers = 3};
    struct ag_arena *arena = ag_arena_new();
    struct ag_err err = AG_ERR_INIT;
    ag_str_t out;
    (void)state;
    ag_sha256(AG_STR(""), what.body_sha256);
    assert_int_equal(
        vault_sigv4(&with, AG_STR("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                    &what, AG_STR("20130524T000000Z"), arena, &out, &err),
        0);
    assert_true(ag_str_is(
        out, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/"
             "us-east-1/s3/aws4_request, SignedHeaders=host;range;"
             "x-amz-content-sha256;x-amz-date, Signature="
             "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb4"
             "1"));
    ag_arena_free(arena);
}

static const char *
header_of(const struct vault_signed *s, const char *name,
          struct ag_arena *arena)
{
    for (size_t i = 0; i < s->n; i++)
        if (ag_str_is(s->headers[i].name, name))
            return ag_arena_cstr(arena, s->headers[i].value);
    return "";
}

static struct vault_signable
request(const char *body)
{
    struct vault_signable what = {.method = AG_STR("POST"),
                                  .host = AG_STR("api.example.com"),
                                  .path = AG_STR("/v1/x"),
                                  .query = AG_STR("a=1"),
                                  .now_us = 1700000000123456};
    ag_sha256(ag_str(body), what.body_sha256);
    return what;
}

static void
hmac_signs_what_the_template_names(void **state)
{
    struct ag_arena *arena = ag_arena_new();
    struct ag_err err = AG_ERR_INIT;
    struct vault_signable what = request("hi");
    struct vault_signed out;
    (void)state;
    /* printf '1700000000.POST./v1/x.a=1.<sha256 of hi>' | openssl dgst
     * -sha256 -hmac key-0123456789abcdef */
    assert_int_equal(
        vault_sign(AG_STR("{\"signing\":{\"type\":\"hmac_sha256\",\"header\":"
                          "\"X-Signature\",\"timestamp_header\":\"X-Time\","
                          "\"template\":\"{timestamp}.{method}.{path}.{query}."
                          "{body_sha256}\"}}"),
                   AG_STR("key-0123456789abcdef"), &what, arena, &out, &err),
        0);
    assert_int_equal(out.n, 2);
    assert_string_equal(header_of(&out, "x-time", arena), "1700000000");
    assert_string_equal(
        header_of(&out, "x-signature", arena),
        "b44d579f027e2a2c12f7c66344384a653a54d5d2d0f7c087ddb4fec8afe4f135");
    ag_arena_free(arena);
}

static char *
new_key(bool is_ec, EVP_PKEY **key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text, *out;

    *key = is_ec ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
    PEM_write_bio_PrivateKey(bio, *key, NULL, NULL, 0, NULL, NULL);
    long n = BIO_get_mem_data(bio, &text);
    out = ag_str_dup(ag_str_n(text, (size_t)n));
    BIO_free(bio);
    return out;
}

static size_t
from_base64url(ag_str_t in, unsigned char *out)
{
    char text[2048];
    size_t n = in.n;

    for (size_t i = 0; i < in.n; i++)
        text[i] = in.p[i] == '-' ? '+' : in.p[i] == '_' ? '/' : in.p[i];
    while (n % 4 != 0)
        text[n++] = '=';
    int len = EVP_DecodeBlock(out, (unsigned char *)text, (int)n);
    return (size_t)len - (n - in.n);
}

static void
jwts_check_under_the_public_key(void **state)
{
    (void)state;
    for (int is_ec = 0; is_ec < 2; is_ec++) {
        struct ag_arena *arena = ag_arena_new();
        struct ag_err err = AG_ERR_INIT;
        struct vault_signable what = request("");
        struct vault_signed out;
        EVP_PKEY *key;
        char *pem = new_key(is_ec != 0, &key);
        const char *auth = ag_arena_printf(
            arena,
            "{\"signing\":{\"type\":\"jwt_bearer\",\"algorithm\":\"%s\","
            "\"key_id\":\"k1\",\"claims\":{\"iss\":\"me\"},"
            "\"lifetime_seconds\":60}}",
            is_ec ? "ES256" : "RS256");
        json_t *j = ag_json_parse(ag_str(auth), &err);
        assert_int_equal(vault_signing_check(json_object_get(j, "signing"),
                                             ag_str(pem), &err),
                         0);
        json_decref(j);
        if (vault_sign(ag_str(auth), ag_str(pem), &what, arena, &out, &err) < 0)
            fail_msg("%s", err.msg);
        assert_true(ag_str_starts(out.headers[0].value, AG_STR("Bearer ey")));
        ag_str_t rest = out.token, head, claims;
        assert_true(ag_str_cut(&rest, '.', &head));
        assert_true(ag_str_cut(&rest, '.', &claims));
        unsigned char text[1024], sig[1024], der[128], *d = der;
        size_t n = from_base64url(claims, text), sig_n;
        text[n] = '\0';
        assert_non_null(strstr((char *)text, "\"iss\":\"me\""));
        assert_non_null(strstr((char *)text, "\"exp\":1700000060"));
        sig_n = from_base64url(rest, sig);
        if (is_ec) {
            assert_int_equal(sig_n, 64);
            ECDSA_SIG *s = ECDSA_SIG_new();
            ECDSA_SIG_set0(s, BN_bin2bn(sig, 32, NULL),
                           BN_bin2bn(sig + 32, 32, NULL));
            sig_n = (size_t)i2d_ECDSA_SIG(s, &d);
            memcpy(sig, der, sig_n);
            ECDSA_SIG_free(s);
        }
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key);
        assert_int_equal(EVP_DigestVerify(ctx, sig, sig_n,
                                          (const unsigned char *)out.token.p,
                                          head.n + 1 + claims.n),
                         1);
        EVP_MD_CTX_free(ctx);
        EVP_PKEY_free(key);
        free(pem);
        ag_arena_free(arena);
    }
}

static void
bad_signing_is_refused(void **state)
{
    static const struct {
        const char *signing, *word;
    } rows[] = {
        {"[]", "object"},
        {"{\"type\":\"md5\"}", "type"},
        {"{\"type\":\"aws_sigv4\",\"access_key_id\":\"A\",\"region\":\"r\"}",
         "service"},
        {"{\"type\":\"aws_sigv4\",\"access_key_id\":\"A\",\"region\":\"r\","
         "\"service\":\"s\",\"secret\":\"x\"}",
         "secret: unknown"},
        {"{\"type\":\"hmac_sha256\",\"header\":\"X Y\",\"template\":\"x\"}",
         "header"},
        {"{\"type\":\"hmac_sha256\",\"header\":\"X\",\"template\":\"x\","
         "\"encoding\":\"rot13\"}",
         "encoding"},
        {"{\"type\":\"jwt_bearer\",\"algorithm\":\"RS256\",\"claims\":{}}",
         "secret_value"},
        {"{\"type\":\"jwt_bearer\",\"algorithm\":\"RS256\",\"claims\":[]}",
         "claims"},
        {"{\"type\":\"jwt_bearer\",\"algorithm\":\"RS256\",\"claims\":{},"
         "\"lifetime_seconds\":86400}",
         "lifetime_seconds"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ag_err err = AG_ERR_INIT;
        json_t *j = ag_json_parse(ag_str(rows[i].signing), &err);
        if (vault_signing_check(j, AG_STR("not-a-key-0123456789"), &err) == 0
            || strstr(err.msg, rows[i].word) == NULL
            || strstr(err.msg, "not-a-key") != NULL)
            fail_msg("%s: %s", rows[i].signing, err.msg);
        json_decref(j);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigv4_gives_the_published_signatures),
        cmocka_unit_test(sigv4_signs_a_get_of_s3),
        cmocka_unit_test(hmac_signs_what_the_template_names),
        cmocka_unit_test(jwts_check_under_the_public_key),
        cmocka_unit_test(bad_signing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
