/*
 * From the name to the address that is dialled. One bad address refuses the
 * whole answer; what was vetted is what is dialled, and a request that was not
 * vetted cannot dial: the upstream's own server is a placeholder.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/net.h"
#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_keep.h"

#include <ifaddrs.h>
#include <openssl/ssl.h>

#define NGX_AGENT_OWN_SECONDS  1       /* between looks at the interfaces */


typedef struct {
    ngx_http_request_t        *request;
    ngx_agent_egress_ctx_t    *ctx;
    ngx_agent_keep_t          *keep;
    ngx_agent_keep_key_t       key;
    unsigned                   asked_kept:1;
    unsigned                   has_key:1;
} ngx_agent_peer_t;


/* Yes when it cannot be known. */
static ngx_uint_t
ngx_agent_is_own(struct sockaddr *sa)
{
    static time_t           read;
    static struct ifaddrs  *own;

    if (own == NULL || ngx_time() - read >= NGX_AGENT_OWN_SECONDS) {
        if (own != NULL) {
            freeifaddrs(own);
            own = NULL;
        }

        if (getifaddrs(&own) == -1) {
            own = NULL;
            return 1;
        }

        read = ngx_time();
    }

    return ag_address_is_own(sa, own);
}


/* One more address that may be dialled; the first is, when none is kept. */
static ngx_int_t
ngx_agent_take_address(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    struct sockaddr *sa, socklen_t len, in_port_t port)
{
    ngx_addr_t  *addr;

    addr = &ctx->addrs[ctx->naddrs];
    addr->sockaddr = ngx_palloc(r->pool, len);
    if (addr->sockaddr == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(addr->sockaddr, sa, len);
    ngx_inet_set_port(addr->sockaddr, port);
    addr->socklen = len;
    ctx->naddrs++;

    return NGX_OK;
}


/* "ip:port" of deployment.conf, or a host that is an address. */
static ngx_int_t
ngx_agent_take_text(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    u_char *p, size_t n)
{
    ngx_addr_t  addr;

    if (ngx_parse_addr_port(r->pool, &addr, p, n) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_agent_take_address(r, ctx, addr.sockaddr, addr.socklen,
                                  ngx_inet_get_port(addr.sockaddr) != 0
                                  ? ngx_inet_get_port(addr.sockaddr)
                                  : ctx->port);
}


/* Those of one family; the first ones, when there are many. */
static void
ngx_agent_take_family(ngx_agent_egress_ctx_t *ctx, ngx_resolver_ctx_t *rctx,
    ngx_uint_t is_inet)
{
    ngx_uint_t        i;
    struct sockaddr  *sa;

    for (i = 0; i < rctx->naddrs && ctx->naddrs < NGX_AGENT_EGRESS_ADDRS; i++) {
        sa = rctx->addrs[i].sockaddr;

        if ((sa->sa_family == AF_INET) == is_inet
            && ngx_agent_take_address(ctx->request, ctx, sa,
                                      rctx->addrs[i].socklen, ctx->port)
               != NGX_OK)
        {
            ctx->dial_error = "no_memory";
            return;
        }
    }
}


static void
ngx_agent_vet(ngx_agent_egress_ctx_t *ctx, ngx_resolver_ctx_t *rctx)
{
    ngx_uint_t        i;
    struct sockaddr  *sa;

    if (rctx->state != 0 || rctx->naddrs == 0) {
        ctx->dial_error = "name_not_resolved";
        return;
    }

    for (i = 0; i < rctx->naddrs; i++) {
        sa = rctx->addrs[i].sockaddr;

        if (!ctx->verdict->is_deployment_destination
            && ((!ag_address_is_public(sa) && !ag_without("public_address"))
                || (ngx_agent_is_own(sa) && !ag_without("own_address"))))
        {
            ctx->dial_error = "address_refused";
            return;
        }
    }

    ngx_agent_take_family(ctx, rctx, 1);
    ngx_agent_take_family(ctx, rctx, 0);
}


static void
ngx_agent_resolved(ngx_resolver_ctx_t *rctx)
{
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_agent_egress_ctx_t  *ctx;

    ctx = rctx->data;
    r = ctx->request;
    c = r->connection;

    ngx_agent_vet(ctx, rctx);
    ctx->resolve = NULL;
    ctx->resolved = 1;
    ngx_resolve_name_done(rctx);

    /* A name that is known calls from inside ngx_resolve_name(): whoever called
     * that goes on itself, and a request that went on twice would be sent
     * twice. */

    if (!ctx->is_asking_name) {
        ngx_http_core_run_phases(r);
        ngx_http_run_posted_requests(c);
    }
}


static void
ngx_agent_resolve_cleanup(void *data)
{
    ngx_agent_egress_ctx_t  *ctx = data;

    if (ctx->resolve != NULL) {
        ngx_resolve_name_done(ctx->resolve);
        ctx->resolve = NULL;
    }
}


static ngx_int_t
ngx_agent_resolve_start(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t                  rc;
    ngx_resolver_ctx_t        *rctx, temp;
    ngx_pool_cleanup_t        *cln;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&temp, sizeof(temp));
    temp.name = ctx->host;

    rctx = ngx_resolve_start(clcf->resolver, &temp);
    if (rctx == NULL || rctx == NGX_NO_RESOLVER) {
        ctx->dial_error = "no_resolver";
        ctx->resolved = 1;
        return NGX_OK;
    }

    cln->handler = ngx_agent_resolve_cleanup;
    cln->data = ctx;
    rctx->name = ctx->host;
    rctx->handler = ngx_agent_resolved;
    rctx->data = ctx;
    rctx->timeout = clcf->resolver_timeout;
    ctx->resolve = rctx;

    ctx->is_asking_name = 1;
    rc = ngx_resolve_name(rctx);
    ctx->is_asking_name = 0;

    if (rc != NGX_OK) {
        ctx->resolve = NULL;
        return NGX_ERROR;
    }

    return ctx->resolved ? NGX_OK : NGX_AGAIN;
}


ngx_int_t
ngx_agent_egress_resolve(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    u_char  *dial;
    size_t   n;

    if (ctx->resolve != NULL) {
        return NGX_AGAIN;
    }

    if (ctx->resolved) {
        return NGX_OK;
    }

    dial = (u_char *) ctx->verdict->dial_address;
    n = ngx_strlen(dial);

    if (n == 0 && ngx_inet_addr(ctx->host.data, ctx->host.len)
                  != INADDR_NONE)
    {
        if (!ctx->verdict->is_deployment_destination) {
            ctx->dial_error = "address_refused";
            ctx->resolved = 1;
            return NGX_OK;
        }

        dial = ctx->host.data;
        n = ctx->host.len;
    }

    if (n == 0) {
        return ngx_agent_resolve_start(r, ctx);
    }

    ctx->resolved = 1;

    return ngx_agent_take_text(r, ctx, dial, n);
}


/* ---- the upstream ------------------------------------------------------ */

static ngx_int_t
ngx_agent_peer_key(ngx_agent_peer_t *peer)
{
    ngx_agent_egress_ctx_t  *ctx = peer->ctx;
    ag_str_t                 fields[] = {
        ngx_agent_view(ctx->workload),
        ag_str(ctx->verdict->session_id),
        ngx_agent_view(ctx->host),
        ctx->is_grpc ? AG_STR("grpcs")
                     : ctx->https ? AG_STR("https") : AG_STR("http"),
        ag_str_n((char *) &ctx->port, sizeof(ctx->port)),
        ag_str(ctx->verdict->ca_file)
    };

    return ngx_agent_keep_key(fields, sizeof(fields) / sizeof(fields[0]), 2,
                              &peer->key);
}


static ngx_int_t
ngx_agent_peer_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_int_t                rc;
    ngx_uint_t               which;
    ngx_agent_peer_t        *peer = data;
    ngx_agent_egress_ctx_t  *ctx = peer->ctx;

    if (ctx == NULL || ctx->naddrs == 0
        || ctx->state != NGX_AGENT_EGRESS_READY)
    {
        ngx_log_error(NGX_LOG_ALERT, pc->log, 0,
                      "a request that was not vetted would dial");
        return NGX_ERROR;
    }

    which = 0;
    rc = NGX_OK;
    pc->cached = 0;
    pc->connection = NULL;

    /* A second try is for a kept connection that the host had closed. */

    if (!peer->asked_kept) {
        peer->asked_kept = 1;
        peer->has_key = ngx_agent_peer_key(peer) == NGX_OK;

        if (peer->has_key) {
            rc = ngx_agent_keep_take(peer->keep, &peer->key, ctx->addrs,
                                     ctx->naddrs, &which, pc);
        }
    }

    pc->sockaddr = ctx->addrs[which].sockaddr;
    pc->socklen = ctx->addrs[which].socklen;
    pc->name = &ctx->dial_name;

    return rc == NGX_DONE ? NGX_DONE : NGX_OK;
}


static void
ngx_agent_peer_free(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
    ngx_agent_peer_t  *peer = data;

    /* There is no other to try: a failed request is not sent again, but for
     * one whose kept connection had ended (nginx counts that try itself). */

    pc->tries = 0;

    if (!(state & NGX_PEER_FAILED) && peer->has_key) {
        ngx_agent_keep_put(peer->keep, &peer->key, peer->request->upstream,
                           pc);
    }
}


/*
 * The roots of a ca= file of deployment.conf, parsed once a worker and again
 * when the file changes: parsing costs more than the handshake that needs them.
 * The table is small, since the file is root's; what does not fit takes the
 * place of the oldest.  The caller borrows the store.
 */

#define NGX_AGENT_DIAL_STORES  16


static X509_STORE *
ngx_agent_dial_store(char *file)
{
    struct stat   st;
    X509_STORE   *store;
    ngx_uint_t    i;

    static struct {
        char             path[512];
        struct stat      st;
        X509_STORE      *store;
    } known[NGX_AGENT_DIAL_STORES];

    static ngx_uint_t  oldest;

    if (stat(file, &st) != 0 || ngx_strlen(file) >= sizeof(known[0].path)) {
        return NULL;
    }

    for (i = 0; i < NGX_AGENT_DIAL_STORES; i++) {

        if (known[i].store == NULL || ngx_strcmp(known[i].path, file) != 0) {
            continue;
        }

        if (known[i].st.st_ino == st.st_ino
            && known[i].st.st_size == st.st_size
            && known[i].st.st_mtim.tv_sec == st.st_mtim.tv_sec
            && known[i].st.st_mtim.tv_nsec == st.st_mtim.tv_nsec)
        {
            return known[i].store;
        }

        break;
    }

    store = X509_STORE_new();

    if (store == NULL || X509_STORE_load_file(store, file) != 1) {
        X509_STORE_free(store);
        return NULL;
    }

    if (i == NGX_AGENT_DIAL_STORES) {
        i = oldest++ % NGX_AGENT_DIAL_STORES;
    }

    X509_STORE_free(known[i].store);

    ngx_memcpy(known[i].path, file, ngx_strlen(file) + 1);
    known[i].st = st;
    known[i].store = store;

    return store;
}


/* For WITHOUT=certificates. */
static int
ngx_agent_verify_nothing(int ok, X509_STORE_CTX *x)
{
    X509_STORE_CTX_set_error(x, X509_V_OK);

    return 1;
}


/*
 * Called before the handshake. A deployment's own CA replaces the roots for
 * this connection alone; sessions are not resumed, so that the certificate is
 * verified each time.
 */
static ngx_int_t
ngx_agent_peer_set_session(ngx_peer_connection_t *pc, void *data)
{
    char              *file;
    X509_STORE        *store;
    ngx_ssl_conn_t    *ssl;
    ngx_agent_peer_t  *peer = data;

    file = peer->ctx->verdict->ca_file;
    ssl = pc->connection->ssl->connection;

    if (ag_without("certificates")) {
        SSL_set_verify(ssl, SSL_VERIFY_PEER, ngx_agent_verify_nothing);
    }

    if (file[0] == '\0') {
        return NGX_OK;
    }

    store = ngx_agent_dial_store(file);

    if (store == NULL || SSL_set1_verify_cert_store(ssl, store) != 1) {
        ngx_log_error(NGX_LOG_ERR, pc->log, 0,
                      "cannot load the certificates of \"%s\"", file);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_agent_peer_save_session(ngx_peer_connection_t *pc, void *data)
{
    /* void */
}


static ngx_int_t
ngx_agent_peer_init(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us)
{
    ngx_agent_peer_t  *peer;

    peer = ngx_pcalloc(r->pool, sizeof(ngx_agent_peer_t));
    if (peer == NULL) {
        return NGX_ERROR;
    }

    peer->request = r;
    peer->keep = us->peer.data;
    peer->ctx = ngx_http_get_module_ctx(r, ngx_agent_egress_module);

    r->upstream->peer.data = peer;
    r->upstream->peer.get = ngx_agent_peer_get;
    r->upstream->peer.free = ngx_agent_peer_free;
    r->upstream->peer.tries = 1;
    r->upstream->peer.set_session = ngx_agent_peer_set_session;
    r->upstream->peer.save_session = ngx_agent_peer_save_session;

    return NGX_OK;
}


static ngx_int_t
ngx_agent_dial_init(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    us->peer.init = ngx_agent_peer_init;

    return NGX_OK;
}


char *
ngx_agent_egress_dial(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                          *wrong;
    ngx_str_t                     *value;
    ngx_uint_t                     i;
    ngx_agent_keep_t              *keep;
    ngx_http_upstream_srv_conf_t  *us;

    value = cf->args->elts;
    us = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);

    if (us->peer.data != NULL) {
        return "is duplicate";
    }

    keep = ngx_agent_keep_create(cf);
    if (keep == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {
        wrong = ngx_agent_keep_option(keep, &value[i]);

        if (wrong != NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"agent_egress_dial\" %s: \"%V\"", wrong,
                               &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_agent_keep_init(cf, keep) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    us->peer.data = keep;
    us->peer.init_upstream = ngx_agent_dial_init;
    us->flags = NGX_HTTP_UPSTREAM_CREATE;

    return NGX_CONF_OK;
}
