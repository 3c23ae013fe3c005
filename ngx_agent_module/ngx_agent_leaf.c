/*
 * nginx 1.22 cannot wait in a certificate callback, so signing is synchronous:
 * about 0.1 ms with P-256, once a name and worker. All leaves of a worker share
 * one key. When the intermediate's file changes, everything is made anew.
 */
#include "ngx_agent_module/ngx_agent_leaf.h"
#include "ngx_agent_module/ngx_agent_name.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define NGX_AGENT_LEAF_MAX    1024     /* names kept in a worker */
#define NGX_AGENT_LEAF_CHECK  2        /* s between looks at the file */


typedef struct {
    ngx_str_node_t             sn;     /* first: the tree is by name */
    ngx_queue_t                queue;
    X509                      *cert;
    u_char                     name[NGX_AGENT_NAME_MAX + 1];
} ngx_agent_leaf_node_t;


struct ngx_agent_leaf_s {
    ngx_str_t                  path;
    ngx_log_t                 *log;
    X509                      *issuer;
    EVP_PKEY                  *issuer_key;
    EVP_PKEY                  *key;    /* of the leaves */
    time_t                     checked;
    time_t                     mtime;
    ngx_file_uniq_t            uniq;
    ngx_rbtree_t               tree;
    ngx_rbtree_node_t          sentinel;
    ngx_queue_t                used;
    ngx_uint_t                 n;
};


static void
ngx_agent_leaf_drop(ngx_agent_leaf_t *leaf, ngx_agent_leaf_node_t *node)
{
    ngx_queue_remove(&node->queue);
    ngx_rbtree_delete(&leaf->tree, &node->sn.node);
    X509_free(node->cert);
    ngx_free(node);
    leaf->n--;
}


static void
ngx_agent_leaf_forget(ngx_agent_leaf_t *leaf)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&leaf->used)) {
        q = ngx_queue_head(&leaf->used);
        ngx_agent_leaf_drop(leaf,
                            ngx_queue_data(q, ngx_agent_leaf_node_t, queue));
    }

    X509_free(leaf->issuer);
    EVP_PKEY_free(leaf->issuer_key);
    EVP_PKEY_free(leaf->key);
    leaf->issuer = NULL;
    leaf->issuer_key = NULL;
    leaf->key = NULL;
}


static void
ngx_agent_leaf_cleanup(void *data)
{
    ngx_agent_leaf_forget(data);
}


ngx_agent_leaf_t *
ngx_agent_leaf_create(ngx_conf_t *cf, ngx_str_t *path)
{
    ngx_agent_leaf_t    *leaf;
    ngx_pool_cleanup_t  *cln;

    leaf = ngx_pcalloc(cf->pool, sizeof(ngx_agent_leaf_t));
    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (leaf == NULL || cln == NULL) {
        return NULL;
    }

    leaf->path = *path;
    leaf->log = &cf->cycle->new_log;
    ngx_rbtree_init(&leaf->tree, &leaf->sentinel, ngx_str_rbtree_insert_value);
    ngx_queue_init(&leaf->used);
    cln->handler = ngx_agent_leaf_cleanup;
    cln->data = leaf;

    return leaf;
}


/* The file anew: its first certificate and its key. */
static ngx_int_t
ngx_agent_leaf_read(ngx_agent_leaf_t *leaf)
{
    BIO  *bio;

    ngx_agent_leaf_forget(leaf);

    bio = BIO_new_file((char *) leaf->path.data, "r");
    if (bio == NULL) {
        return NGX_ERROR;
    }

    leaf->issuer = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    leaf->issuer_key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    leaf->key = EVP_EC_gen("P-256");
    BIO_free(bio);

    if (leaf->issuer == NULL || leaf->issuer_key == NULL || leaf->key == NULL
        || X509_check_private_key(leaf->issuer, leaf->issuer_key) != 1)
    {
        ngx_agent_leaf_forget(leaf);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_leaf_refresh(ngx_agent_leaf_t *leaf)
{
    ngx_file_info_t  fi;

    if (leaf->issuer != NULL
        && ngx_time() - leaf->checked < NGX_AGENT_LEAF_CHECK)
    {
        return NGX_OK;
    }

    leaf->checked = ngx_time();

    if (ngx_file_info(leaf->path.data, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ERR, leaf->log, ngx_errno,
                      "intermediate \"%V\"", &leaf->path);
        return leaf->issuer != NULL ? NGX_OK : NGX_ERROR;
    }

    if (leaf->issuer != NULL && leaf->mtime == ngx_file_mtime(&fi)
        && leaf->uniq == ngx_file_uniq(&fi))
    {
        return NGX_OK;
    }

    leaf->mtime = ngx_file_mtime(&fi);
    leaf->uniq = ngx_file_uniq(&fi);

    if (ngx_agent_leaf_read(leaf) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, leaf->log, 0,
                      "intermediate \"%V\" holds no certificate with its key",
                      &leaf->path);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_leaf_extend(X509 *cert, X509 *issuer, int nid, char *value)
{
    ngx_int_t        rc;
    X509V3_CTX       ctx;
    X509_EXTENSION  *ext;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);

    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    rc = ext != NULL && X509_add_ext(cert, ext, -1) == 1 ? NGX_OK : NGX_ERROR;
    X509_EXTENSION_free(ext);

    return rc;
}


static X509 *
ngx_agent_leaf_sign(ngx_agent_leaf_t *leaf, u_char *name)
{
    X509       *cert;
    u_char      serial[16];
    char        san[sizeof("DNS:") + NGX_AGENT_NAME_MAX];
    BIGNUM     *bn;
    X509_NAME  *subject;

    cert = X509_new();
    if (cert == NULL || RAND_bytes(serial, sizeof(serial)) != 1) {
        X509_free(cert);
        return NULL;
    }

    serial[0] = (serial[0] & 0x7f) | 0x40;
    bn = BN_bin2bn(serial, sizeof(serial), NULL);
    ngx_sprintf((u_char *) san, "DNS:%s%Z", name);
    subject = X509_get_subject_name(cert);

    /* The subject is fixed: a common name takes 64 characters, a host 253. */
    if (bn == NULL
        || BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) == NULL
        || X509_set_version(cert, 2) != 1
        || X509_set1_notBefore(cert, X509_get0_notBefore(leaf->issuer)) != 1
        || X509_set1_notAfter(cert, X509_get0_notAfter(leaf->issuer)) != 1
        || X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC,
                                      (u_char *) "Brainbox egress", -1, -1, 0)
           != 1
        || X509_set_issuer_name(cert, X509_get_subject_name(leaf->issuer)) != 1
        || X509_set_pubkey(cert, leaf->key) != 1
        || ngx_agent_leaf_extend(cert, leaf->issuer, NID_subject_alt_name, san)
           != NGX_OK
        || ngx_agent_leaf_extend(cert, leaf->issuer, NID_basic_constraints,
                                 "critical,CA:FALSE")
           != NGX_OK
        || ngx_agent_leaf_extend(cert, leaf->issuer, NID_key_usage,
                                 "critical,digitalSignature")
           != NGX_OK
        || ngx_agent_leaf_extend(cert, leaf->issuer, NID_ext_key_usage,
                                 "serverAuth")
           != NGX_OK
        || ngx_agent_leaf_extend(cert, leaf->issuer,
                                 NID_authority_key_identifier, "keyid")
           != NGX_OK
        || X509_sign(cert, leaf->issuer_key, EVP_sha256()) == 0)
    {
        X509_free(cert);
        cert = NULL;
    }

    BN_free(bn);

    return cert;
}


static ngx_agent_leaf_node_t *
ngx_agent_leaf_get(ngx_agent_leaf_t *leaf, ngx_str_t *name)
{
    uint32_t                hash;
    ngx_agent_leaf_node_t  *node;

    hash = ngx_crc32_short(name->data, name->len);
    node = (ngx_agent_leaf_node_t *)
               ngx_str_rbtree_lookup(&leaf->tree, name, hash);

    if (node != NULL) {
        ngx_queue_remove(&node->queue);
        ngx_queue_insert_head(&leaf->used, &node->queue);
        return node;
    }

    node = ngx_alloc(sizeof(ngx_agent_leaf_node_t), leaf->log);
    if (node == NULL) {
        return NULL;
    }

    ngx_memcpy(node->name, name->data, name->len);
    node->name[name->len] = '\0';
    node->sn.str.data = node->name;
    node->sn.str.len = name->len;
    node->sn.node.key = hash;
    node->cert = ngx_agent_leaf_sign(leaf, node->name);

    if (node->cert == NULL) {
        ngx_free(node);
        return NULL;
    }

    if (leaf->n == NGX_AGENT_LEAF_MAX) {
        ngx_agent_leaf_drop(leaf, ngx_queue_data(ngx_queue_last(&leaf->used),
                                                 ngx_agent_leaf_node_t,
                                                 queue));
    }

    ngx_rbtree_insert(&leaf->tree, &node->sn.node);
    ngx_queue_insert_head(&leaf->used, &node->queue);
    leaf->n++;

    return node;
}


int
ngx_agent_leaf_give(ngx_ssl_conn_t *ssl, ngx_agent_leaf_t *leaf)
{
    u_char                  name[NGX_AGENT_NAME_MAX + 1];
    ngx_str_t               s;
    const char             *sni;
    ngx_agent_leaf_node_t  *node;

    sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (sni == NULL || ngx_strlen(sni) > NGX_AGENT_NAME_MAX) {
        return 0;
    }

    s.len = ngx_strlen(sni);
    s.data = name;
    ngx_strlow(name, (u_char *) sni, s.len);

    if (!ngx_agent_name_is_canonical(ag_str_n(s.data, s.len))
        || ngx_agent_leaf_refresh(leaf) != NGX_OK)
    {
        return 0;
    }

    node = ngx_agent_leaf_get(leaf, &s);

    SSL_certs_clear(ssl);

    return node != NULL
           && SSL_use_certificate(ssl, node->cert) == 1
           && SSL_use_PrivateKey(ssl, leaf->key) == 1
           && SSL_add1_chain_cert(ssl, leaf->issuer) == 1;
}
