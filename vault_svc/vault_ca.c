/*
 * Makes a P-256 key, has the keeper certify it for 24 hours and writes both to
 * a file that only egress reads. Renewed each eight hours, so that a leaf never
 * outlives its issuer by surprise. The key is in no other place.
 */
#include "vault_svc/vault_ca.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "lib/log.h"
#include "vault_svc/vault_file.h"

enum { RENEW_MS = 8 * 3600 * 1000, RETRY_MS = 60 * 1000 };

struct vault_ca {
    struct vault *v;
    struct ag_timer timer;
    EVP_PKEY *pending; /* key whose certificate is asked for */
    bool is_stopped;
};

static EVP_PKEY *
make_key(struct ag_buf *spki, struct ag_err *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    unsigned char *der = NULL;
    int n = key == NULL ? -1 : i2d_PUBKEY(key, &der);

    if (n <= 0 || ag_buf_append(spki, ag_str_n(der, (size_t)n), err) < 0) {
        EVP_PKEY_free(key);
        OPENSSL_free(der);
        ag_err_set(err, AG_ERR_INTERNAL, "cannot make a key");
        return NULL;
    }
    OPENSSL_free(der);
    return key;
}

static int
write_pem(struct vault *v, ag_str_t der, EVP_PKEY *key, struct ag_err *err)
{
    const unsigned char *p = (const unsigned char *)der.p;
    X509 *cert = d2i_X509(NULL, &p, (long)der.n);
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text = NULL;
    int rc = -1;

    if (cert != NULL && bio != NULL && PEM_write_bio_X509(bio, cert) == 1
        && BIO_write(bio, v->ca_pem.p, (int)v->ca_pem.n) > 0
        && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        long n = BIO_get_mem_data(bio, &text);
        rc = vault_file_write(v->conf->intermediate, ag_str_n(text, (size_t)n),
                              0640, false, err);
    } else {
        ag_err_set(err, AG_ERR_INTERNAL, "cannot write the intermediate");
    }
    X509_free(cert);
    BIO_free(bio);
    return rc;
}

static void
on_certificate(void *arg, const struct keeper_msg *reply,
               const struct ag_err *err)
{
    struct vault_ca *ca = arg;
    struct ag_err why = AG_ERR_INIT;
    bool ok = false;

    if (ca->is_stopped)
        return;
    if (reply != NULL)
        ok = write_pem(ca->v, reply->a, ca->pending, &why) == 0;
    else
        why = *err;
    EVP_PKEY_free(ca->pending);
    ca->pending = NULL;
    if (ok) {
        vault_generation_move(ca->v);
        ag_log(AG_INFO, "intermediate.renewed",
               AG_S("path", ca->v->conf->intermediate));
    } else {
        ag_log(AG_ERROR, "intermediate.renewal_failed", AG_E(&why));
    }
    ag_timer_start(ca->v->loop, &ca->timer, ok ? RENEW_MS : RETRY_MS);
}

static void
on_renew(struct ag_timer *timer)
{
    struct vault_ca *ca =
        (struct vault_ca *)(void *)((char *)timer
                                    - offsetof(struct vault_ca, timer));
    AG_AUTO(ag_buf_release) struct ag_buf spki = AG_BUF_INIT(512);
    struct ag_err err = AG_ERR_INIT;

    ca->pending = make_key(&spki, &err);
    if (ca->pending == NULL) {
        ag_log(AG_ERROR, "intermediate.renewal_failed", AG_E(&err));
        ag_timer_start(ca->v->loop, &ca->timer, RETRY_MS);
        return;
    }
    vault_keeper_ask(ca->v->keeper, KEEPER_SIGN_CA, ag_buf_str(&spki),
                     (ag_str_t){NULL, 0}, on_certificate, ca);
}

struct vault_ca *
vault_ca_start(struct vault *v, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf spki = AG_BUF_INIT(512);
    AG_AUTO(ag_buf_release) struct ag_buf der = AG_BUF_INIT(KEEPER_MSG_MAX);

    if (*v->conf->intermediate == '\0')
        return NULL;
    EVP_PKEY *key = make_key(&spki, err);
    if (key == NULL)
        return NULL;
    int rc =
        vault_keeper_ask_now(v->conf->keeper, KEEPER_SIGN_CA, ag_buf_str(&spki),
                             (ag_str_t){NULL, 0}, &der, NULL, err);
    if (rc == 0)
        rc = write_pem(v, ag_buf_str(&der), key, err);
    EVP_PKEY_free(key);
    if (rc < 0)
        return NULL;
    struct vault_ca *ca = ag_xcalloc(1, sizeof(*ca));
    ca->v = v;
    ca->timer.fn = on_renew;
    ag_timer_start(v->loop, &ca->timer, RENEW_MS);
    return ca;
}

void
vault_ca_free(struct vault_ca *ca)
{
    if (ca == NULL)
        return;
    ca->is_stopped = true;
    ag_timer_stop(ca->v->loop, &ca->timer);
    EVP_PKEY_free(ca->pending);
    free(ca);
}
