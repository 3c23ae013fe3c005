/*
 * The root certificate inside of sandboxes, for sandbox_pool.c, which puts it
 * into what it makes, and sandbox_session.c, which looks whether it is the
 * right one.
 */
#include "sandbox_svc/sandbox_ca.h"

#include <stdlib.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "lib/clock.h"
#include "sandbox_svc/sandbox_env.h"

#define JKS_MAX 16384

int64_t
sandbox_ca_note(struct sandbox_svc *svc, const char *pem)
{
    if (svc->ca_pem == NULL || strcmp(svc->ca_pem, pem) != 0) {
        free(svc->ca_pem);
        svc->ca_pem = ag_str_dup(ag_str(pem));
        svc->ca_version++;
    }
    return svc->ca_version;
}

/* ---- for Java -------------------------------------------------------- */

static void
put_number(struct ag_buf *b, uint64_t v, int bytes)
{
    while (bytes-- > 0)
        ag_buf_addc(b, (char)(v >> (8 * bytes)));
}

static void
put_text(struct ag_buf *b, const char *text)
{
    put_number(b, strlen(text), 2);
    ag_buf_add(b, ag_str(text));
}

/* SHA-1 over the store's password as UTF-16, a word of its makers, the rest. */
static int
put_digest(struct ag_buf *b, struct ag_err *err)
{
    static const char head[] = "\0c\0h\0a\0n\0g\0e\0i\0tMighty Aphrodite";
    unsigned char sha[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha1(), NULL) == 1
              && EVP_DigestUpdate(md, head, sizeof(head) - 1) == 1
              && EVP_DigestUpdate(md, b->p, b->n) == 1
              && EVP_DigestFinal_ex(md, sha, NULL) == 1;

    EVP_MD_CTX_free(md);
    if (!ok)
        return ag_err_set(err, AG_ERR_INTERNAL, "SHA-1 is not to be had");
    return ag_buf_append(b, ag_str_n(sha, 20), err);
}

int
sandbox_ca_jks(ag_str_t pem, struct ag_buf *out, struct ag_err *err)
{
    BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *cert = in == NULL ? NULL : PEM_read_bio_X509(in, NULL, NULL, NULL);
    unsigned char *der = NULL;
    int n = cert == NULL ? -1 : i2d_X509(cert, &der);

    X509_free(cert);
    BIO_free(in);
    if (n <= 0)
        return ag_err_set(err, AG_ERR_INVALID, "ca_pem: is no certificate");
    put_number(out, 0xfeedfeed, 4);
    put_number(out, 2, 4); /* version */
    put_number(out, 1, 4); /* entries */
    put_number(out, 2, 4); /* a trusted certificate */
    put_text(out, "brainbox");
    put_number(out, (uint64_t)(ag_now_us() / 1000), 8);
    put_text(out, "X.509");
    put_number(out, (uint64_t)n, 4);
    ag_buf_add(out, ag_str_n(der, (size_t)n));
    OPENSSL_free(der);
    return put_digest(out, err);
}

/* Without it only Java does not work: what fails here stops nothing. */
static void
put_java(struct sandbox_box *box, ag_str_t pem)
{
    AG_AUTO(ag_buf_release) struct ag_buf jks = AG_BUF_INIT(JKS_MAX);
    struct ag_err err = AG_ERR_INIT;

    if (sandbox_ca_jks(pem, &jks, &err) == 0)
        (void)sandbox_box_put(box, SANDBOX_CA_JAVA, 0644, false,
                              ag_buf_str(&jks), &err);
}

int
sandbox_ca_put(struct sandbox_svc *svc, struct sandbox_box *box,
               struct ag_err *err)
{
    ag_str_t pem = ag_str(svc->ca_pem);

    box->ca_put_id = 0;
    put_java(box, pem);
    /* Init answers in order, so the last answer stands for all. */
    if (sandbox_box_put(box, SANDBOX_CA_FILE, 0644, false, pem, err) != 0)
        box->ca_put_id =
            sandbox_box_put(box, SANDBOX_CA_BUNDLE, 0644, true, pem, err);
    return box->ca_put_id == 0 ? -1 : 0;
}
