/* Start-up of vault_svc: keys, generation file. */
#include "vault_svc/vault_start.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct now {
    struct vault *v;
    vault_now_read *read;
    void *arg;
    bool is_done;
    int rc;
    struct ag_err err;
};

static void
on_now(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct now *n = arg;

    n->is_done = true;
    if (res == NULL) {
        n->rc = -1;
        n->err = *err;
    } else if (n->read != NULL) {
        n->rc = n->read(n->arg, res, &n->err);
    }
    ag_loop_stop(n->v->loop);
}

int
vault_query_now(struct vault *v, ag_str_t tenant, const char *sql,
                const struct ag_db_param *params, int n_params,
                vault_now_read *read, void *arg, struct ag_err *err)
{
    struct now n = {v, read, arg, false, 0, AG_ERR_INIT};

    ag_db_query(v->db, tenant, sql, params, n_params, on_now, &n);
    /* A signal stops the loop too; the query's end is at most its timeout
     * away, and `n` must live until then. */
    while (!n.is_done)
        ag_loop_run(v->loop);
    if (n.rc < 0)
        *err = n.err;
    return n.rc;
}

static int
read_root(struct vault *v, ag_str_t der, struct ag_err *err)
{
    const unsigned char *p = (const unsigned char *)der.p;
    X509 *cert = d2i_X509(NULL, &p, (long)der.n);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    if (cert == NULL || bio == NULL || PEM_write_bio_X509(bio, cert) != 1) {
        X509_free(cert);
        BIO_free(bio);
        return ag_err_set(err, AG_ERR_CORRUPT, "the keeper's root");
    }
    long n = BIO_get_mem_data(bio, &text);
    ag_buf_init(&v->ca_pem, 64 * 1024);
    ag_buf_add(&v->ca_pem, ag_str_n(text, (size_t)n));
    X509_free(cert);
    BIO_free(bio);
    return 0;
}

int
vault_identity_load(struct vault *v, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf pub = AG_BUF_INIT(64);
    AG_AUTO(ag_buf_release) struct ag_buf der = AG_BUF_INIT(KEEPER_MSG_MAX);
    AG_AUTO(ag_buf_wipe) struct ag_buf mac = AG_BUF_INIT(64);
    const ag_str_t none = {NULL, 0};

    if (vault_keeper_ask_now(v->conf->keeper, KEEPER_CHECK, none, none, &pub,
                             &der, err)
            < 0
        || vault_keeper_ask_now(v->conf->keeper, KEEPER_MAC,
                                AG_STR("api-key-index"), AG_STR("v1"), &mac,
                                NULL, err)
               < 0)
        return -1;
    if (pub.n != 32 || mac.n != VAULT_KEY_BYTES)
        return ag_err_set(err, AG_ERR_CORRUPT, "the keeper's keys");
    memcpy(v->index_key, mac.p, mac.n);
    v->assertion_key = ag_assertion_key_new((const unsigned char *)pub.p);
    return read_root(v, ag_buf_str(&der), err);
}

int
vault_generation_open(struct vault *v, const char *path, struct ag_err *err)
{
    if (*path == '\0')
        return 0;
    AG_AUTO(ag_closep)
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return ag_err_sys(err, "open %s", path);
    if (fchmod(fd, 0644) < 0 || ftruncate(fd, sizeof(struct ag_generation)) < 0)
        return ag_err_sys(err, "prepare %s", path);
    void *p = mmap(NULL, sizeof(struct ag_generation), PROT_READ | PROT_WRITE,
                   MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return ag_err_sys(err, "map %s", path);
    v->generation = p;
    /* What happened while the vault was down is not known. */
    vault_generation_move(v);
    return 0;
}
