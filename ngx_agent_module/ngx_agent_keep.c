/*
 * The kept connections of a worker: chains by owner, so that a workload's share
 * is counted where its connections are looked for, and one queue in the order
 * of use. As nginx's own upstream keepalive does, a connection that becomes
 * readable while it idles is closed: nobody asked anything.
 */
#include "ngx_agent_module/ngx_agent_keep.h"

#include "lib/secret.h"

#define NGX_AGENT_KEEP_CHAINS  256
#define NGX_AGENT_KEEP_KEY     2048


typedef struct {
    ngx_queue_t                used;       /* last used first; or free */
    ngx_queue_t                chain;
    ngx_agent_keep_key_t       key;
    ngx_sockaddr_t             sockaddr;
    socklen_t                  socklen;
    ngx_connection_t          *connection;
    ngx_agent_keep_t          *keep;
} ngx_agent_kept_t;


struct ngx_agent_keep_s {
    ngx_uint_t                 connections;   /* for each workload */
    ngx_uint_t                 total;
    ngx_uint_t                 requests;      /* on one connection */
    ngx_msec_t                 idle;
    ngx_msec_t                 time;          /* that one lives */
    ngx_queue_t                used;
    ngx_queue_t                free;
    ngx_queue_t                chains[NGX_AGENT_KEEP_CHAINS];
};


/* ---- options ----------------------------------------------------------- */

ngx_agent_keep_t *
ngx_agent_keep_create(ngx_conf_t *cf)
{
    ngx_agent_keep_t  *keep;

    keep = ngx_pcalloc(cf->pool, sizeof(ngx_agent_keep_t));
    if (keep == NULL) {
        return NULL;
    }

    keep->connections = 16;
    keep->total = 512;
    keep->requests = 1000;
    keep->idle = 4000;
    keep->time = 300000;

    return keep;
}


char *
ngx_agent_keep_option(ngx_agent_keep_t *keep, ngx_str_t *option)
{
    size_t      i, n;
    ngx_str_t   value;
    ngx_int_t   v;

    static const struct {
        const char  *name;
        size_t       offset;
        unsigned     is_time;
        ngx_int_t    max;
    } known[] = {
        { "connections=", offsetof(ngx_agent_keep_t, connections), 0, 1024 },
        { "total=", offsetof(ngx_agent_keep_t, total), 0, 65536 },
        { "requests=", offsetof(ngx_agent_keep_t, requests), 0, 1000000 },
        { "idle=", offsetof(ngx_agent_keep_t, idle), 1, 3600000 },
        { "time=", offsetof(ngx_agent_keep_t, time), 1, 86400000 }
    };

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        n = ngx_strlen(known[i].name);

        if (option->len <= n
            || ngx_strncmp(option->data, known[i].name, n) != 0)
        {
            continue;
        }

        value.data = option->data + n;
        value.len = option->len - n;
        v = known[i].is_time ? ngx_parse_time(&value, 0)
                             : ngx_atoi(value.data, value.len);

        if (v == NGX_ERROR || v > known[i].max
            || (v == 0 && known[i].offset
                          != offsetof(ngx_agent_keep_t, connections)))
        {
            return "has a value that is out of range";
        }

        *(ngx_uint_t *) ((u_char *) keep + known[i].offset) = (ngx_uint_t) v;

        return NULL;
    }

    return "has an unknown parameter";
}


ngx_int_t
ngx_agent_keep_init(ngx_conf_t *cf, ngx_agent_keep_t *keep)
{
    ngx_uint_t         i;
    ngx_agent_kept_t  *kept;

    ngx_queue_init(&keep->used);
    ngx_queue_init(&keep->free);

    for (i = 0; i < NGX_AGENT_KEEP_CHAINS; i++) {
        ngx_queue_init(&keep->chains[i]);
    }

    kept = ngx_pcalloc(cf->pool, keep->total * sizeof(ngx_agent_kept_t));
    if (kept == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < keep->total; i++) {
        kept[i].keep = keep;
        ngx_queue_insert_head(&keep->free, &kept[i].used);
    }

    return NGX_OK;
}


/* ---- keys -------------------------------------------------------------- */

ngx_int_t
ngx_agent_keep_key(const ag_str_t *fields, size_t n, size_t n_owner,
    ngx_agent_keep_key_t *key)
{
    size_t     i;
    u_char     text[NGX_AGENT_KEEP_KEY], *p, owner[32];
    uint32_t   len;

    p = text;

    /* Each field with its length before it: no two lists read alike. */

    for (i = 0; i < n; i++) {
        if (i == n_owner) {
            ag_sha256(ag_str_n(text, p - text), owner);
            ngx_memcpy(key->owner, owner, sizeof(key->owner));
        }

        len = (uint32_t) fields[i].n;

        if (fields[i].n > (size_t) (text + sizeof(text) - p) - sizeof(len)) {
            return NGX_DECLINED;
        }

        p = ngx_cpymem(p, &len, sizeof(len));

        if (fields[i].n > 0) {
            p = ngx_cpymem(p, fields[i].p, fields[i].n);
        }

        if (text + sizeof(text) - p < (ssize_t) sizeof(len)) {
            return NGX_DECLINED;
        }
    }

    ag_sha256(ag_str_n(text, p - text), key->digest);

    return NGX_OK;
}


static ngx_queue_t *
ngx_agent_keep_chain(ngx_agent_keep_t *keep, const ngx_agent_keep_key_t *key)
{
    return &keep->chains[key->owner[0] % NGX_AGENT_KEEP_CHAINS];
}


static ngx_uint_t
ngx_agent_keep_is_owner(const ngx_agent_kept_t *kept,
    const ngx_agent_keep_key_t *key)
{
    return ngx_memcmp(kept->key.owner, key->owner, sizeof(key->owner)) == 0;
}


/* ---- life of a kept connection ------------------------------------------ */

static void
ngx_agent_keep_close(ngx_connection_t *c)
{
    if (c->ssl != NULL) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;
        (void) ngx_ssl_shutdown(c);
    }

    ngx_destroy_pool(c->pool);
    ngx_close_connection(c);
}


/* The entry is free again; its connection is the caller's. */
static ngx_connection_t *
ngx_agent_keep_release(ngx_agent_kept_t *kept)
{
    ngx_connection_t  *c;

    c = kept->connection;
    kept->connection = NULL;
    ngx_queue_remove(&kept->used);
    ngx_queue_remove(&kept->chain);
    ngx_queue_insert_head(&kept->keep->free, &kept->used);

    return c;
}


static ngx_uint_t
ngx_agent_keep_is_quiet(ngx_connection_t *c)
{
    char     byte[1];
    ssize_t  n;

    n = recv(c->fd, byte, 1, MSG_PEEK);

    return n == -1 && ngx_socket_errno == NGX_EAGAIN;
}


static void
ngx_agent_keep_idle_handler(ngx_event_t *ev)
{
    ngx_connection_t  *c;

    c = ev->data;

    if (!c->close && !ev->timedout && ngx_agent_keep_is_quiet(c)) {
        ev->ready = 0;

        if (ngx_handle_read_event(ev, 0) == NGX_OK) {
            return;
        }
    }

    ngx_agent_keep_close(ngx_agent_keep_release(c->data));
}


static void
ngx_agent_keep_dummy_handler(ngx_event_t *ev)
{
    /* void */
}


/* ---- taking -------------------------------------------------------------- */

static ngx_uint_t
ngx_agent_keep_leads_to(const ngx_agent_kept_t *kept, const ngx_addr_t *addrs,
    ngx_uint_t naddrs)
{
    ngx_uint_t  i;

    for (i = 0; i < naddrs; i++) {
        if (ngx_cmp_sockaddr((struct sockaddr *) &kept->sockaddr,
                             kept->socklen, addrs[i].sockaddr,
                             addrs[i].socklen, 1)
            == NGX_OK)
        {
            break;
        }
    }

    return i;
}


static void
ngx_agent_keep_wake(ngx_connection_t *c, ngx_peer_connection_t *pc)
{
    c->idle = 0;
    c->sent = 0;
    c->data = NULL;
    c->log = pc->log;
    c->read->log = pc->log;
    c->write->log = pc->log;
    c->pool->log = pc->log;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    pc->connection = c;
    pc->cached = 1;
}


ngx_int_t
ngx_agent_keep_take(ngx_agent_keep_t *keep, const ngx_agent_keep_key_t *key,
    const ngx_addr_t *addrs, ngx_uint_t naddrs, ngx_uint_t *which,
    ngx_peer_connection_t *pc)
{
    ngx_uint_t         i;
    ngx_queue_t       *q, *next, *chain;
    ngx_connection_t  *c;
    ngx_agent_kept_t  *kept;

    chain = ngx_agent_keep_chain(keep, key);

    for (q = ngx_queue_head(chain); q != ngx_queue_sentinel(chain); q = next) {
        next = ngx_queue_next(q);
        kept = ngx_queue_data(q, ngx_agent_kept_t, chain);

        if (ngx_memcmp(kept->key.digest, key->digest, sizeof(key->digest))
            != 0)
        {
            continue;
        }

        i = ngx_agent_keep_leads_to(kept, addrs, naddrs);
        if (i == naddrs) {
            continue;
        }

        c = ngx_agent_keep_release(kept);

        /* What the event loop has not told yet. */

        if (!ngx_agent_keep_is_quiet(c)) {
            ngx_agent_keep_close(c);
            continue;
        }

        ngx_agent_keep_wake(c, pc);
        *which = i;

        return NGX_DONE;
    }

    return NGX_DECLINED;
}


/* ---- putting back -------------------------------------------------------- */

static ngx_uint_t
ngx_agent_keep_is_fit(ngx_agent_keep_t *keep, ngx_http_upstream_t *u,
    ngx_connection_t *c)
{
    return !ngx_terminate && !ngx_exiting
           && u->keepalive && u->request_body_sent
           && !c->read->eof && !c->read->error && !c->read->timedout
           && !c->write->error && !c->write->timedout
           && c->requests < keep->requests
           && ngx_current_msec - c->start_time < keep->time
           && ngx_handle_read_event(c->read, 0) == NGX_OK;
}


/* An entry for one more connection of the owner: the oldest of its own gives
 * way when it has its share, else the oldest of all. */
static ngx_agent_kept_t *
ngx_agent_keep_room(ngx_agent_keep_t *keep, const ngx_agent_keep_key_t *key)
{
    ngx_uint_t         n;
    ngx_queue_t       *q, *chain;
    ngx_agent_kept_t  *kept, *oldest;

    n = 0;
    oldest = NULL;
    chain = ngx_agent_keep_chain(keep, key);

    for (q = ngx_queue_head(chain); q != ngx_queue_sentinel(chain);
         q = ngx_queue_next(q))
    {
        kept = ngx_queue_data(q, ngx_agent_kept_t, chain);

        if (ngx_agent_keep_is_owner(kept, key)) {
            oldest = kept;
            n++;
        }
    }

    if (n >= keep->connections) {
        ngx_agent_keep_close(ngx_agent_keep_release(oldest));

    } else if (ngx_queue_empty(&keep->free)) {
        q = ngx_queue_last(&keep->used);
        kept = ngx_queue_data(q, ngx_agent_kept_t, used);
        ngx_agent_keep_close(ngx_agent_keep_release(kept));
    }

    q = ngx_queue_head(&keep->free);
    ngx_queue_remove(q);

    return ngx_queue_data(q, ngx_agent_kept_t, used);
}


void
ngx_agent_keep_put(ngx_agent_keep_t *keep, const ngx_agent_keep_key_t *key,
    ngx_http_upstream_t *u, ngx_peer_connection_t *pc)
{
    ngx_connection_t  *c;
    ngx_agent_kept_t  *kept;

    c = pc->connection;

    if (keep->connections == 0 || c == NULL
        || !ngx_agent_keep_is_fit(keep, u, c))
    {
        return;
    }

    kept = ngx_agent_keep_room(keep, key);
    kept->key = *key;
    kept->connection = c;
    kept->socklen = pc->socklen;
    ngx_memcpy(&kept->sockaddr, pc->sockaddr, pc->socklen);
    ngx_queue_insert_head(&keep->used, &kept->used);
    ngx_queue_insert_head(ngx_agent_keep_chain(keep, key), &kept->chain);

    pc->connection = NULL;

    c->read->delayed = 0;
    ngx_add_timer(c->read, keep->idle);

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    c->write->handler = ngx_agent_keep_dummy_handler;
    c->read->handler = ngx_agent_keep_idle_handler;
    c->data = kept;
    c->idle = 1;
    c->log = ngx_cycle->log;
    c->read->log = ngx_cycle->log;
    c->write->log = ngx_cycle->log;
    c->pool->log = ngx_cycle->log;

    if (c->read->ready) {
        ngx_agent_keep_idle_handler(c->read);
    }
}
