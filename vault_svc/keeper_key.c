/*
 * Making, loading and using the keeper's keys. Only the keeper's process calls
 * this; the master key itself leaves memory as soon as its two children are
 * derived.
 */
#include "vault_svc/keeper_key.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vault_svc/keeper_msg.h"
#include "vault_svc/vault_file.h"

enum {
    BACKDATE_SECONDS = 300,
    ROOT_SECONDS = 10 * 365 * 24 * 3600,
    KEY_DER_MAX = 512,
};

static void
bio_freep(BIO **b)
{
    BIO_free(*b);
}

static void
x509_freep(X509 **x)
{
    X509_free(*x);
}

static void
pkey_freep(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}

/* `name` in the folder of the key file. */
static int
beside(const char *key_file, const char *name, char *out, size_t n,
       struct ag_err *err)
{
    const char *slash = strrchr(key_file, '/');
    int dir = slash == NULL ? 0 : (int)(slash - key_file + 1);
    int len = snprintf(out, n, "%.*s%s", dir, key_file, name);
    if (len < 0 || (size_t)len >= n)
        return ag_err_set(err, AG_ERR_INVALID, "path %s is too long", key_file);
    return 0;
}

static int
failed(struct ag_err *err, const char *what)
{
    return ag_err_set(err, AG_ERR_INTERNAL, "OpenSSL: cannot %s", what);
}

static int
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    int ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

/* A CA certificate for `pub`, signed by `key` of `issuer` (itself when NULL).
 */
static X509 *
make_ca(EVP_PKEY *pub, const char *cn, long seconds, int path_len, X509 *issuer,
        EVP_PKEY *key)
{
    AG_AUTO(x509_freep) X509 *cert = X509_new();
    unsigned char serial[16];
    char basic[64];

    if (cert == NULL)
        return NULL;
    ag_random(serial, sizeof(serial));
    serial[0] = (serial[0] & 0x7f) | 0x40;
    X509_NAME *name = X509_get_subject_name(cert);
    BIGNUM *bn = BN_bin2bn(serial, sizeof(serial), NULL);
    ag_assert(bn != NULL);
    bool ok = BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) != NULL;
    BN_free(bn);
    snprintf(basic, sizeof(basic), "critical,CA:TRUE,pathlen:%d", path_len);
    ok = ok && X509_set_version(cert, 2) == 1
         && X509_gmtime_adj(X509_getm_notBefore(cert), -BACKDATE_SECONDS)
         && X509_gmtime_adj(X509_getm_notAfter(cert), seconds)
         && X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC,
                                       (const unsigned char *)"Brainbox", -1,
                                       -1, 0)
         && X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                       (const unsigned char *)cn, -1, -1, 0)
         && X509_set_issuer_name(
             cert, issuer == NULL ? name : X509_get_subject_name(issuer))
         && X509_set_pubkey(cert, pub)
         && add_extension(cert, issuer == NULL ? cert : issuer,
                          NID_basic_constraints, basic)
         && add_extension(cert, issuer == NULL ? cert : issuer, NID_key_usage,
                          "critical,keyCertSign,cRLSign")
         && add_extension(cert, issuer == NULL ? cert : issuer,
                          NID_subject_key_identifier, "hash")
         && add_extension(cert, issuer == NULL ? cert : issuer,
                          NID_authority_key_identifier, "keyid")
         && X509_sign(cert, key, EVP_sha256()) > 0;
    return ok ? ag_take(&cert) : NULL;
}

/* identity.sealed holds: two length bytes, the root's key in DER, the seed. */
static int
seal_identity(const unsigned char wrap[VAULT_KEY_BYTES], EVP_PKEY *root,
              const unsigned char seed[32], struct ag_buf *out,
              struct ag_err *err)
{
    unsigned char *der = NULL;
    int n = i2d_PrivateKey(root, &der);

    if (n <= 0 || n > KEY_DER_MAX)
        return failed(err, "encode the root key");
    AG_AUTO(ag_secret_release)
    ag_secret_t plain = ag_secret_new((size_t)n + 34);
    plain.p[0] = (unsigned char)(n >> 8);
    plain.p[1] = (unsigned char)n;
    memcpy(plain.p + 2, der, (size_t)n);
    memcpy(plain.p + 2 + n, seed, 32);
    OPENSSL_clear_free(der, (size_t)n);
    return vault_aead_seal(wrap, AG_STR("brainbox-identity-v1"),
                           ag_secret_view(&plain), out, err);
}

static int
open_identity(const unsigned char wrap[VAULT_KEY_BYTES], ag_str_t sealed,
              struct keeper_keys *keys, struct ag_err *err)
{
    AG_AUTO(ag_secret_release) ag_secret_t plain = AG_SECRET_INIT;

    if (vault_aead_open(wrap, AG_STR("brainbox-identity-v1"), sealed, &plain,
                        err)
        < 0)
        return -1;
    size_t n = plain.n < 34 ? 0 : (size_t)plain.p[0] << 8 | plain.p[1];
    if (n == 0 || plain.n != n + 34)
        return ag_err_set(err, AG_ERR_CORRUPT, "the identity is malformed");
    const unsigned char *der = plain.p + 2, *seed = plain.p + 2 + n;
    size_t pub_len = sizeof(keys->assertion_pub);
    keys->root_key = d2i_AutoPrivateKey(NULL, &der, (long)n);
    keys->assertion_key =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    if (keys->root_key == NULL || keys->assertion_key == NULL
        || EVP_PKEY_get_raw_public_key(keys->assertion_key, keys->assertion_pub,
                                       &pub_len)
               != 1)
        return ag_err_set(err, AG_ERR_CORRUPT, "the identity is malformed");
    return 0;
}

static int
pem_of(X509 *cert, struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;

    if (bio == NULL || PEM_write_bio_X509(bio, cert) != 1)
        return failed(err, "write a certificate");
    long n = BIO_get_mem_data(bio, &p);
    return ag_buf_append(out, ag_str_n(p, (size_t)n), err);
}

static void
derive(const unsigned char master[32], struct keeper_keys *keys)
{
    vault_hmac(master, AG_STR("brainbox-keeper-wrap-v1"), keys->wrap);
    vault_hmac(master, AG_STR("brainbox-keeper-mac-v1"), keys->mac);
}

int
keeper_keys_create(const char *key_file, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf sealed = AG_BUF_INIT(2048);
    AG_AUTO(ag_buf_release) struct ag_buf pem = AG_BUF_INIT(8192);
    AG_AUTO(ag_secret_release) ag_secret_t master = ag_secret_new(32);
    AG_AUTO(ag_secret_release) ag_secret_t seed = ag_secret_new(32);
    AG_AUTO(keeper_keys_release) struct keeper_keys keys = {0};
    AG_AUTO(pkey_freep) EVP_PKEY *root = EVP_EC_gen("P-256");
    AG_AUTO(x509_freep) X509 *cert = NULL;
    char identity[4096], root_pem[4096];

    if (beside(key_file, "identity.sealed", identity, sizeof(identity), err) < 0
        || beside(key_file, "root.pem", root_pem, sizeof(root_pem), err) < 0)
        return -1;
    ag_random(master.p, 32);
    ag_random(seed.p, 32);
    derive(master.p, &keys);
    if (root == NULL)
        return failed(err, "make the root key");
    cert = make_ca(root, "Brainbox root", ROOT_SECONDS, 1, NULL, root);
    if (cert == NULL)
        return failed(err, "make the root certificate");
    if (seal_identity(keys.wrap, root, seed.p, &sealed, err) < 0
        || pem_of(cert, &pem, err) < 0)
        return -1;
    /* The key file last: without it nothing beside it is ever looked at. */
    struct stat st;
    if (stat(key_file, &st) == 0)
        return ag_err_set(err, AG_ERR_EXISTS, "%s exists already", key_file);
    if (vault_file_write(identity, ag_buf_str(&sealed), 0600, false, err) < 0
        || vault_file_write(root_pem, ag_buf_str(&pem), 0600, false, err) < 0)
        return -1;
    return vault_file_write(key_file, ag_secret_view(&master), 0600, true, err);
}

static int
read_master(const char *key_file, ag_secret_t *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf raw = AG_BUF_INIT(64);
    struct stat st;

    if (stat(key_file, &st) < 0)
        return ag_err_sys(err, "master key %s (vault_keeper --init makes it)",
                          key_file);
    if ((st.st_mode & 077) != 0)
        return ag_err_set(err, AG_ERR_PRECONDITION,
                          "master key %s has mode %03o, it must be 600",
                          key_file, st.st_mode & 0777);
    if (vault_file_read(key_file, &raw, err) < 0)
        return -1;
    if (raw.n != 32)
        return ag_err_set(err, AG_ERR_INVALID,
                          "master key %s has %zu bytes, it must have 32",
                          key_file, raw.n);
    *out = ag_secret_copy(raw.p, raw.n);
    return 0;
}

static int
read_root_cert(const char *path, struct keeper_keys *keys, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf pem = AG_BUF_INIT(16384);

    if (vault_file_read(path, &pem, err) < 0)
        return -1;
    AG_AUTO(bio_freep) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    keys->root_cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    if (keys->root_cert == NULL
        || X509_check_private_key(keys->root_cert, keys->root_key) != 1)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "%s is not the certificate of the root key", path);
    return 0;
}

int
keeper_keys_load(const char *key_file, struct keeper_keys *out,
                 struct ag_err *err)
{
    AG_AUTO(ag_secret_release) ag_secret_t master = AG_SECRET_INIT;
    AG_AUTO(ag_buf_release) struct ag_buf sealed = AG_BUF_INIT(2048);
    char identity[4096], root_pem[4096];

    if (beside(key_file, "identity.sealed", identity, sizeof(identity), err) < 0
        || beside(key_file, "root.pem", root_pem, sizeof(root_pem), err) < 0
        || read_master(key_file, &master, err) < 0)
        return -1;
    derive(master.p, out);
    if (vault_file_read(identity, &sealed, err) < 0)
        return -1;
    if (open_identity(out->wrap, ag_buf_str(&sealed), out, err) < 0)
        return ag_err_wrap(err, "%s under the master key %s", identity,
                           key_file);
    return read_root_cert(root_pem, out, err);
}

void
keeper_keys_release(struct keeper_keys *keys)
{
    EVP_PKEY_free(keys->root_key);
    EVP_PKEY_free(keys->assertion_key);
    X509_free(keys->root_cert);
    ag_wipe(keys, sizeof(*keys));
}

int
keeper_keys_issue(const struct keeper_keys *keys, ag_str_t spki_der,
                  struct ag_buf *out, struct ag_err *err)
{
    const unsigned char *p = (const unsigned char *)spki_der.p;
    AG_AUTO(pkey_freep) EVP_PKEY *pub = d2i_PUBKEY(NULL, &p, (long)spki_der.n);
    AG_AUTO(x509_freep) X509 *cert = NULL;
    char group[32] = "";
    size_t n = 0;

    if (pub == NULL || p != (const unsigned char *)spki_der.p + spki_der.n
        || EVP_PKEY_get_group_name(pub, group, sizeof(group), &n) != 1
        || strcmp(group, "prime256v1") != 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "the intermediate's key is not a P-256 public key");
    cert = make_ca(pub, "Brainbox egress", KEEPER_INTERMEDIATE_SECONDS, 0,
                   keys->root_cert, keys->root_key);
    unsigned char *der = NULL;
    int len = cert == NULL ? -1 : i2d_X509(cert, &der);
    if (len <= 0)
        return failed(err, "issue the intermediate");
    int rc = ag_buf_append(out, ag_str_n(der, (size_t)len), err);
    OPENSSL_free(der);
    return rc;
}

int
keeper_keys_publish(const struct keeper_keys *keys, const char *pub_path,
                    const char *ca_path, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf pub = AG_BUF_INIT(128);
    AG_AUTO(ag_buf_release) struct ag_buf pem = AG_BUF_INIT(16384);

    ag_buf_add_hex(&pub, ag_str_n(keys->assertion_pub, 32));
    ag_buf_addc(&pub, '\n');
    if (pem_of(keys->root_cert, &pem, err) < 0)
        return -1;
    if (*pub_path != '\0'
        && vault_file_write(pub_path, ag_buf_str(&pub), 0644, false, err) < 0)
        return -1;
    if (*ca_path != '\0'
        && vault_file_write(ca_path, ag_buf_str(&pem), 0644, false, err) < 0)
        return -1;
    return 0;
}
