/*
 * API key -> principal, in memory that all workers share: a red-black tree by
 * SHA-256 of the key, with a queue in the order of use. The key itself is
 * never stored. An entry holds until it expires or the vault's generation
 * counter moves, whichever comes first. Nothing here waits.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#define NGX_AGENT_KEY_TTL         60000  /* ms; an assertion holds 5 min */
#define NGX_AGENT_KEY_DENIED_TTL  3000


typedef struct {
    ngx_rbtree_node_t          node;     /* key: first bytes of the digest */
    ngx_queue_t                queue;
    u_char                     digest[32];
    uint64_t                   generation;
    ngx_msec_t                 expires;  /* by the monotonic clock */
    time_t                     made;     /* by the one in assertions */
    ngx_uint_t                 scopes;
    ngx_uint_t                 denied;
    size_t                     assertion_len;
    u_char                     assertion[1];
} ngx_agent_key_node_t;


/* guards: everything in it, with the slab pool's mutex */
typedef struct {
    ngx_rbtree_t               tree;
    ngx_rbtree_node_t          sentinel;
    ngx_queue_t                used;     /* last used first */
} ngx_agent_keys_t;


static void
ngx_agent_key_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_rbtree_node_t     **p;
    ngx_agent_key_node_t   *a, *b;

    for ( ;; ) {
        if (node->key != temp->key) {
            p = node->key < temp->key ? &temp->left : &temp->right;

        } else {
            a = (ngx_agent_key_node_t *) node;
            b = (ngx_agent_key_node_t *) temp;
            p = ngx_memcmp(a->digest, b->digest, 32) < 0 ? &temp->left
                                                         : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


static ngx_rbtree_key_t
ngx_agent_key_hash(u_char digest[32])
{
    ngx_rbtree_key_t  hash;

    ngx_memcpy(&hash, digest, sizeof(hash));

    return hash;
}


static ngx_agent_key_node_t *
ngx_agent_key_lookup(ngx_agent_keys_t *keys, u_char digest[32])
{
    ngx_int_t              rc;
    ngx_rbtree_key_t       hash;
    ngx_rbtree_node_t     *node;
    ngx_agent_key_node_t  *kn;

    hash = ngx_agent_key_hash(digest);
    node = keys->tree.root;

    while (node != keys->tree.sentinel) {
        if (hash != node->key) {
            node = hash < node->key ? node->left : node->right;
            continue;
        }

        kn = (ngx_agent_key_node_t *) node;
        rc = ngx_memcmp(digest, kn->digest, 32);

        if (rc == 0) {
            return kn;
        }

        node = rc < 0 ? node->left : node->right;
    }

    return NULL;
}


static void
ngx_agent_key_drop(ngx_slab_pool_t *shpool, ngx_agent_keys_t *keys,
    ngx_agent_key_node_t *kn)
{
    ngx_queue_remove(&kn->queue);
    ngx_rbtree_delete(&keys->tree, &kn->node);
    ngx_explicit_memzero(kn->assertion, kn->assertion_len);
    ngx_slab_free_locked(shpool, kn);
}


/* Room for one entry; the longest unused ones give way. */
static ngx_agent_key_node_t *
ngx_agent_key_alloc(ngx_slab_pool_t *shpool, ngx_agent_keys_t *keys,
    size_t size)
{
    void         *p;
    ngx_queue_t  *q;

    for ( ;; ) {
        p = ngx_slab_calloc_locked(shpool, size);

        if (p != NULL || ngx_queue_empty(&keys->used)) {
            return p;
        }

        q = ngx_queue_last(&keys->used);
        ngx_agent_key_drop(shpool, keys,
                           ngx_queue_data(q, ngx_agent_key_node_t, queue));
    }
}


ngx_int_t
ngx_agent_key_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t   *shpool;
    ngx_agent_keys_t  *keys;

    if (data) {
        zone->data = data;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (zone->shm.exists) {
        zone->data = shpool->data;
        return NGX_OK;
    }

    keys = ngx_slab_calloc(shpool, sizeof(ngx_agent_keys_t));
    if (keys == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&keys->tree, &keys->sentinel, ngx_agent_key_insert);
    ngx_queue_init(&keys->used);

    shpool->data = keys;
    shpool->log_nomem = 0;
    zone->data = keys;

    return NGX_OK;
}


/* NGX_OK and *out, or NGX_DECLINED. */
ngx_int_t
ngx_agent_key_find(ngx_shm_zone_t *zone, u_char digest[32],
    uint64_t generation, ngx_agent_principal_t *out)
{
    ngx_int_t              rc;
    ngx_slab_pool_t       *shpool;
    ngx_agent_keys_t      *keys;
    ngx_agent_key_node_t  *kn;

    keys = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    rc = NGX_DECLINED;

    ngx_shmtx_lock(&shpool->mutex);

    kn = ngx_agent_key_lookup(keys, digest);

    /* A clock that was set makes assertions old, or not valid yet. */

    if (kn != NULL
        && (kn->generation != generation
            || (ngx_msec_int_t) (kn->expires - ngx_current_msec) <= 0
            || ngx_time() < kn->made
            || ngx_time() - kn->made > NGX_AGENT_KEY_TTL / 1000 + 1))
    {
        ngx_agent_key_drop(shpool, keys, kn);
        kn = NULL;
    }

    if (kn != NULL) {
        ngx_queue_remove(&kn->queue);
        ngx_queue_insert_head(&keys->used, &kn->queue);

        out->scopes = kn->scopes;
        out->denied = kn->denied;
        out->assertion_len = kn->assertion_len;
        ngx_memcpy(out->assertion, kn->assertion, kn->assertion_len);
        rc = NGX_OK;
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return rc;
}


/* Keep what Resolve said; without room it is simply asked again. */
void
ngx_agent_key_store(ngx_shm_zone_t *zone, u_char digest[32],
    uint64_t generation, ngx_agent_principal_t *principal)
{
    ngx_slab_pool_t       *shpool;
    ngx_agent_keys_t      *keys;
    ngx_agent_key_node_t  *kn;

    keys = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    ngx_shmtx_lock(&shpool->mutex);

    kn = ngx_agent_key_lookup(keys, digest);

    if (kn != NULL) {
        ngx_agent_key_drop(shpool, keys, kn);
    }

    kn = ngx_agent_key_alloc(shpool, keys,
                             sizeof(ngx_agent_key_node_t)
                             + principal->assertion_len);

    if (kn != NULL) {
        kn->node.key = ngx_agent_key_hash(digest);
        ngx_memcpy(kn->digest, digest, 32);
        kn->generation = generation;
        kn->scopes = principal->scopes;
        kn->denied = principal->denied;
        kn->made = ngx_time();
        kn->expires = ngx_current_msec
                      + (principal->denied ? NGX_AGENT_KEY_DENIED_TTL
                                           : NGX_AGENT_KEY_TTL);
        kn->assertion_len = principal->assertion_len;
        ngx_memcpy(kn->assertion, principal->assertion,
                   principal->assertion_len);

        ngx_rbtree_insert(&keys->tree, &kn->node);
        ngx_queue_insert_head(&keys->used, &kn->queue);
    }

    ngx_shmtx_unlock(&shpool->mutex);
}


/*
 * The counter is read with pread(2), not through a mapping: a vault that
 * restarts makes the file anew, and a file that is cut short would end a
 * worker with SIGBUS. Whether the path still names the open file is looked at
 * once a second. One descriptor a worker; there is one generation file.
 */
ngx_int_t
ngx_agent_generation_read(ngx_str_t *path, void *out, size_t n)
{
    ngx_file_info_t   now, have;

    static ngx_fd_t   fd = NGX_INVALID_FILE;
    static time_t     checked;

    if (checked != ngx_time()) {
        checked = ngx_time();

        if (fd != NGX_INVALID_FILE
            && (ngx_file_info(path->data, &now) == NGX_FILE_ERROR
                || ngx_fd_info(fd, &have) == NGX_FILE_ERROR
                || now.st_ino != have.st_ino || now.st_dev != have.st_dev))
        {
            (void) ngx_close_file(fd);
            fd = NGX_INVALID_FILE;
        }
    }

    if (fd == NGX_INVALID_FILE) {
        fd = open((const char *) path->data, O_RDONLY|O_CLOEXEC);
    }

    return fd != NGX_INVALID_FILE && pread(fd, out, n, 0) == (ssize_t) n
           ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_agent_generation(ngx_str_t *path, uint64_t *value)
{
    u_char       bytes[8];
    ngx_uint_t   i;

    if (ngx_agent_generation_read(path, bytes, 8) != NGX_OK) {
        return NGX_DECLINED;
    }

    *value = 0;

    for (i = 0; i < 8; i++) {
        *value |= (uint64_t) bytes[i] << (8 * i);
    }

    return NGX_OK;
}
