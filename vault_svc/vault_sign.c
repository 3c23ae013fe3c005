/* The three ways of signing, as a credential's auth names them. */
#include "vault_svc/vault_sign.h"

#include <inttypes.h>
#include <openssl/bio.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <time.h>

#include "lib/secret.h"
#include "vault_svc/vault_rule.h"
#include "vault_svc/vault_seal.h"
#include "vault_svc/vault_sigv4.h"
#include "vault_svc/vault_slot.h"

enum {
    LIFETIME_MAX_S = 3600,
    LIFETIME_S = 300,
    BACKDATE_S = 30,
    JWT_MAX = 64 * 1024,
    RS256_MIN_BITS = 2048,
};

static void
pkey_freep(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}

static ag_str_t
member(const json_t *signing, const char *key)
{
    return ag_json_str(json_object_get(signing, key));
}

/* ---- base64url --------------------------------------------------------- */

static void
add_base64(struct ag_buf *b, ag_str_t s, bool is_url)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
                                "uvwxyz0123456789+/";
    static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuv"
                              "wxyz0123456789-_";
    const char *digits = is_url ? url : plain;

    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)(unsigned char)s.p[i] << 16;
        if (left > 1)
            v |= (uint32_t)(unsigned char)s.p[i + 1] << 8;
        if (left > 2)
            v |= (unsigned char)s.p[i + 2];
        ag_buf_addc(b, digits[v >> 18]);
        ag_buf_addc(b, digits[v >> 12 & 63]);
        if (left > 1)
            ag_buf_addc(b, digits[v >> 6 & 63]);
        else if (!is_url)
            ag_buf_addc(b, '=');
        if (left > 2)
            ag_buf_addc(b, digits[v & 63]);
        else if (!is_url)
            ag_buf_addc(b, '=');
    }
}

static void
set_header(struct vault_signed *out, ag_str_t name, ag_str_t value)
{
    ag_assert(out->n < VAULT_SIGN_HEADERS_MAX);
    out->headers[out->n++] = (struct vault_header){name, value};
}

/* ---- SigV4 ------------------------------------------------------------- */

static int
sign_sigv4(const json_t *signing, ag_str_t key,
           const struct vault_signable *what, struct ag_arena *arena,
           struct vault_signed *out, struct ag_err *err)
{
    const struct vault_sigv4 with = {member(signing, "access_key_id"),
                                     member(signing, "region"),
                                     member(signing, "service")};
    AG_AUTO(ag_buf_release) struct ag_buf hex = AG_BUF_INIT(128);
    struct vault_signable all = *what;
    struct vault_header *headers =
        ag_arena_alloc(arena, (what->n_headers + 2) * sizeof(*headers));
    time_t seconds = (time_t)(what->now_us / 1000000);
    char date[32];
    struct tm tm;
    ag_str_t value;

    gmtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm);
    ag_buf_add_hex(&hex, ag_str_n(what->body_sha256, 32));
    set_header(out, AG_STR("x-amz-date"), ag_arena_copy(arena, ag_str(date)));
    set_header(out, AG_STR("x-amz-content-sha256"),
               ag_arena_copy(arena, ag_buf_str(&hex)));
    all.n_headers = 0;
    for (size_t i = 0; i < what->n_headers; i++)
        if (!ag_str_is(what->headers[i].name, "x-amz-date")
            && !ag_str_is(what->headers[i].name, "x-amz-content-sha256"))
            headers[all.n_headers++] = what->headers[i];
    for (size_t i = 0; i < 2; i++)
        headers[all.n_headers++] = out->headers[i];
    all.headers = headers;
    if (vault_sigv4(&with, key, &all, ag_str(date), arena, &value, err) < 0)
        return -1;
    set_header(out, AG_STR("authorization"), value);
    return 0;
}

/* ---- HMAC -------------------------------------------------------------- */

static ag_str_t
lower(ag_str_t s, struct ag_arena *arena)
{
    char *p = ag_arena_cstr(arena, s);
    for (size_t i = 0; i < s.n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] | 32);
    return ag_str_n(p, s.n);
}

static void
fill_template(struct ag_buf *b, ag_str_t text,
              const struct vault_signable *what, int64_t timestamp)
{
    for (size_t i = 0; i < text.n; i++) {
        ag_str_t rest = ag_str_n(text.p + i, text.n - i);
        const struct {
            const char *name;
            ag_str_t v;
        } words[] = {{"{method}", what->method},
                     {"{host}", what->host},
                     {"{path}", what->path},
                     {"{query}", what->query}};
        size_t k = 0, n_words = sizeof(words) / sizeof(words[0]);
        while (k < n_words && !ag_str_starts(rest, ag_str(words[k].name)))
            k++;
        if (k < n_words) {
            ag_buf_add(b, words[k].v);
            i += strlen(words[k].name) - 1;
        } else if (ag_str_starts(rest, AG_STR("{timestamp}"))) {
            ag_buf_addf(b, "%" PRId64, timestamp);
            i += strlen("{timestamp}") - 1;
        } else if (ag_str_starts(rest, AG_STR("{body_sha256}"))) {
            ag_buf_add_hex(b, ag_str_n(what->body_sha256, 32));
            i += strlen("{body_sha256}") - 1;
        } else {
            ag_buf_addc(b, text.p[i]);
        }
    }
}

static int
sign_hmac(const json_t *signing, ag_str_t key,
          const struct vault_signable *what, struct ag_arena *arena,
          struct vault_signed *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(256 * 1024);
    AG_AUTO(ag_buf_release) struct ag_buf value = AG_BUF_INIT(256);
    ag_str_t stamp_header = member(signing, "timestamp_header");
    int64_t timestamp = what->now_us / 1000000;
    unsigned char raw[32];
    size_t n = sizeof(raw);

    fill_template(&text, member(signing, "template"), what, timestamp);
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key.p, key.n,
                  (const unsigned char *)text.p, text.n, raw, sizeof(raw), &n)
            == NULL
        || n != sizeof(raw))
        return ag_err_set(err, AG_ERR_INTERNAL, "cannot sign");
    if (ag_str_is(member(signing, "encoding"), "base64"))
        add_base64(&value, ag_str_n(raw, sizeof(raw)), false);
    else
        ag_buf_add_hex(&value, ag_str_n(raw, sizeof(raw)));
    set_header(out, lower(member(signing, "header"), arena),
               ag_arena_copy(arena, ag_buf_str(&value)));
    if (stamp_header.n > 0)
        set_header(out, lower(stamp_header, arena),
                   ag_str(ag_arena_printf(arena, "%" PRId64, timestamp)));
    return 0;
}

/* ---- JWT --------------------------------------------------------------- */

static EVP_PKEY *
read_key(ag_str_t pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    EVP_PKEY *key =
        bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return key;
}

/* DER of ECDSA becomes two numbers of 32 bytes, as JWS has them. */
static bool
flatten_ecdsa(const unsigned char *der, size_t n, unsigned char out[64])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
    bool ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32) == 32
              && BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32) == 32;
    ECDSA_SIG_free(sig);
    return ok;
}

static int
add_signature(struct ag_buf *jwt, EVP_PKEY *key, bool is_ecdsa,
              struct ag_err *err)
{
    unsigned char sig[1024], flat[64];
    size_t n = sizeof(sig);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok =
        ctx != NULL
        && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1
        && EVP_DigestSign(ctx, sig, &n, (const unsigned char *)jwt->p, jwt->n)
               == 1;
    EVP_MD_CTX_free(ctx);
    if (ok && is_ecdsa)
        ok = flatten_ecdsa(sig, n, flat);
    if (!ok)
        return ag_err_set(err, AG_ERR_INTERNAL, "cannot sign");
    ag_buf_addc(jwt, '.');
    add_base64(jwt, is_ecdsa ? ag_str_n(flat, sizeof(flat)) : ag_str_n(sig, n),
               true);
    return 0;
}

static int
add_part(struct ag_buf *jwt, const json_t *part, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(JWT_MAX);
    if (ag_json_dump(part, &text, err) < 0)
        return -1;
    add_base64(jwt, ag_buf_str(&text), true);
    return 0;
}

static int
sign_jwt(const json_t *signing, ag_str_t key, const struct vault_signable *what,
         struct ag_arena *arena, struct vault_signed *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf jwt = AG_BUF_INIT(JWT_MAX);
    AG_AUTO(ag_json_decref) json_t *head = json_object();
    AG_AUTO(ag_json_decref)
    json_t *claims = json_deep_copy(json_object_get(signing, "claims"));
    AG_AUTO(pkey_freep) EVP_PKEY *pkey = read_key(key);
    ag_str_t algorithm = member(signing, "algorithm"),
             key_id = member(signing, "key_id");
    int64_t lifetime = LIFETIME_S, now = what->now_us / 1000000;

    if (pkey == NULL || claims == NULL
        || ag_json_get_i64(signing, "lifetime_seconds", &lifetime, err) < 0)
        return ag_err_set(err, AG_ERR_CORRUPT, "a signing key does not read");
    json_object_set_new(head, "alg", ag_json_from_str(algorithm));
    json_object_set_new(head, "typ", json_string("JWT"));
    if (key_id.n > 0)
        json_object_set_new(head, "kid", ag_json_from_str(key_id));
    json_object_set_new(claims, "iat", json_integer(now - BACKDATE_S));
    json_object_set_new(claims, "exp", json_integer(now + lifetime));
    if (add_part(&jwt, head, err) < 0)
        return -1;
    ag_buf_addc(&jwt, '.');
    if (add_part(&jwt, claims, err) < 0
        || add_signature(&jwt, pkey, ag_str_is(algorithm, "ES256"), err) < 0)
        return -1;
    out->token = ag_arena_copy(arena, ag_buf_str(&jwt));
    set_header(
        out, AG_STR("authorization"),
        ag_str(ag_arena_printf(arena, "Bearer %.*s", AG_FMT(out->token))));
    return 0;
}

/* ---- what a person writes ---------------------------------------------- */

static int
check_words(const json_t *signing, const char *const *required,
            struct ag_err *err)
{
    for (; *required != NULL; required++) {
        ag_str_t v = member(signing, *required);
        if (v.n == 0 || v.n > 256 || memchr(v.p, '\n', v.n) != NULL)
            return ag_err_set(err, AG_ERR_INVALID, "%s: not 1 to 256 bytes",
                              *required);
    }
    return 0;
}

static int
check_hmac(const json_t *signing, struct ag_err *err)
{
    static const char *const known[] = {
        "type", "header", "template", "encoding", "timestamp_header", NULL};
    static const char *const required[] = {"header", "template", NULL};
    ag_str_t encoding = member(signing, "encoding"),
             stamp = member(signing, "timestamp_header");

    if (vault_keys_check(signing, known, err) < 0
        || check_words(signing, required, err) < 0)
        return -1;
    if (encoding.n > 0 && !ag_str_is(encoding, "hex")
        && !ag_str_is(encoding, "base64"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "encoding: neither \"hex\" nor \"base64\"");
    if (!vault_is_token(member(signing, "header"))
        || (stamp.n > 0 && !vault_is_token(stamp)))
        return ag_err_set(err, AG_ERR_INVALID,
                          "header, timestamp_header: not header names");
    return 0;
}

static int
check_jwt(const json_t *signing, ag_str_t pem, struct ag_err *err)
{
    static const char *const known[] = {"type",   "algorithm",        "key_id",
                                        "claims", "lifetime_seconds", NULL};
    AG_AUTO(pkey_freep) EVP_PKEY *key = read_key(pem);
    ag_str_t algorithm = member(signing, "algorithm");
    int64_t lifetime = LIFETIME_S;
    char group[32] = "";

    if (vault_keys_check(signing, known, err) < 0
        || ag_json_get_i64(signing, "lifetime_seconds", &lifetime, err) < 0)
        return -1;
    if (lifetime < 1 || lifetime > LIFETIME_MAX_S)
        return ag_err_set(err, AG_ERR_INVALID, "lifetime_seconds: not 1 to %d",
                          LIFETIME_MAX_S);
    if (!json_is_object(json_object_get(signing, "claims")))
        return ag_err_set(err, AG_ERR_INVALID, "claims: not an object");
    if (key == NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "secret_value: not a private key in PEM");
    if (ag_str_is(algorithm, "RS256") && EVP_PKEY_is_a(key, "RSA")
        && EVP_PKEY_get_bits(key) >= RS256_MIN_BITS)
        return 0;
    if (ag_str_is(algorithm, "ES256") && EVP_PKEY_is_a(key, "EC")
        && EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1
        && strcmp(group, "prime256v1") == 0)
        return 0;
    return ag_err_set(err, AG_ERR_INVALID,
                      "algorithm: \"RS256\" with an RSA key of %d bits or "
                      "more, or \"ES256\" with a P-256 key",
                      RS256_MIN_BITS);
}

int
vault_signing_check(const json_t *signing, ag_str_t key, struct ag_err *err)
{
    static const char *const known[] = {"type", "access_key_id", "region",
                                        "service", NULL};
    ag_str_t type = member(signing, "type");
    int rc = -1;

    if (!json_is_object(signing))
        return ag_err_set(err, AG_ERR_INVALID, "auth.signing: not an object");
    if (ag_str_is(type, "aws_sigv4"))
        rc = vault_keys_check(signing, known, err) < 0
                 ? -1
                 : check_words(signing, known, err);
    else if (ag_str_is(type, "hmac_sha256"))
        rc = check_hmac(signing, err);
    else if (ag_str_is(type, "jwt_bearer"))
        rc = check_jwt(signing, key, err);
    else
        ag_err_set(err, AG_ERR_INVALID,
                   "type: none of \"aws_sigv4\", \"hmac_sha256\", "
                   "\"jwt_bearer\"");
    return rc < 0 ? ag_err_wrap(err, "auth.signing") : 0;
}

bool
vault_auth_signs(ag_str_t auth_json)
{
    struct ag_err ignored = AG_ERR_INIT;
    AG_AUTO(ag_json_decref) json_t *auth = NULL;

    /* Few do, and this is asked for every request. */
    if (memmem(auth_json.p, auth_json.n, "\"signing\"", 9) == NULL)
        return false;
    auth = ag_json_parse(auth_json, &ignored);
    return json_is_object(json_object_get(auth, "signing"));
}

int
vault_sign(ag_str_t auth_json, ag_str_t key, const struct vault_signable *what,
           struct ag_arena *arena, struct vault_signed *out, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *auth = ag_json_parse(auth_json, err);
    const json_t *signing = json_object_get(auth, "signing");
    ag_str_t type = member(signing, "type");

    *out = (struct vault_signed){0};
    if (ag_str_is(type, "aws_sigv4"))
        return sign_sigv4(signing, key, what, arena, out, err);
    if (ag_str_is(type, "hmac_sha256"))
        return sign_hmac(signing, key, what, arena, out, err);
    if (ag_str_is(type, "jwt_bearer"))
        return sign_jwt(signing, key, what, arena, out, err);
    return ag_err_set(err, AG_ERR_CORRUPT, "a credential that signs in no way");
}
