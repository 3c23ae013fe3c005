/*
 * What an nginx counts of itself, in Prometheus' text format: `agent_metrics`
 * in a location answers with it, and where one does, every request of the
 * instance is counted at its end, by whichever worker had it. The numbers live
 * in shared memory and outlive a reload. No label's value comes from outside.
 */
#include "ngx_agent_module/ngx_agent_egress.h"
#include "ngx_agent_module/ngx_agent_module.h"

#define NGX_AGENT_METRICS_CODES    600
#define NGX_AGENT_METRICS_BUCKETS  11
#define NGX_AGENT_METRICS_MAX      (64 * 1024)


/* What became of a request that leaves. */
typedef enum {
    NGX_AGENT_OUT_PLAIN = 0,
    NGX_AGENT_OUT_CREDENTIALED,
    NGX_AGENT_OUT_DENIED,
    NGX_AGENT_OUT_REFUSED,
    NGX_AGENT_OUT_FAILED,
    NGX_AGENT_OUTCOMES
} ngx_agent_outcome_e;


typedef struct {
    ngx_atomic_t               codes[NGX_AGENT_METRICS_CODES];
    ngx_atomic_t               buckets[NGX_AGENT_METRICS_BUCKETS];
    ngx_atomic_t               seconds_ms;
    ngx_atomic_t               received;
    ngx_atomic_t               sent;
    ngx_atomic_t               outcomes[NGX_AGENT_OUTCOMES];
} ngx_agent_metrics_t;


static const char *const  ngx_agent_outcome_names[NGX_AGENT_OUTCOMES] = {
    "plain", "credentialed", "denied", "refused", "failed"
};

/* Milliseconds; the last bucket is that of all. */
static const ngx_msec_t  ngx_agent_bounds[NGX_AGENT_METRICS_BUCKETS - 1] = {
    1, 2, 5, 10, 50, 100, 500, 1000, 10000, 60000
};


static ngx_int_t
ngx_agent_metrics_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t  *slab;

    if (data != NULL) {
        zone->data = data;
        return NGX_OK;
    }

    slab = (ngx_slab_pool_t *) zone->shm.addr;

    if (zone->shm.exists) {
        zone->data = slab->data;
        return NGX_OK;
    }

    zone->data = ngx_slab_calloc(slab, sizeof(ngx_agent_metrics_t));
    slab->data = zone->data;

    return zone->data == NULL ? NGX_ERROR : NGX_OK;
}


/* ---- counting ---------------------------------------------------------- */

static void
ngx_agent_metrics_count_out(ngx_http_request_t *r, ngx_agent_metrics_t *m)
{
    ngx_uint_t               outcome;
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_agent_egress_get_ctx(r);

    if (ctx == NULL) {

        /* an error_page has left the location that had it */

        if (r->headers_out.status != NGX_HTTP_BAD_GATEWAY
            && r->headers_out.status != NGX_HTTP_GATEWAY_TIME_OUT)
        {
            return;
        }

        outcome = NGX_AGENT_OUT_FAILED;

    } else if (ctx->mode == NGX_AGENT_EGRESS_REPORT) {
        return;

    } else if (ctx->verdict == NULL) {
        outcome = NGX_AGENT_OUT_REFUSED;

    } else if (ctx->verdict->verdict
               == AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__DENY)
    {
        outcome = NGX_AGENT_OUT_DENIED;

    } else if (r->upstream == NULL) {
        outcome = NGX_AGENT_OUT_REFUSED;

    } else {
        outcome = ctx->credentialed ? NGX_AGENT_OUT_CREDENTIALED
                                    : NGX_AGENT_OUT_PLAIN;
    }

    (void) ngx_atomic_fetch_add(&m->outcomes[outcome], 1);
}


ngx_int_t
ngx_agent_metrics_log_handler(ngx_http_request_t *r)
{
    ngx_uint_t              i, code;
    ngx_time_t             *now;
    ngx_msec_int_t          ms;
    ngx_agent_metrics_t    *m;
    ngx_agent_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_agent_module);

    if (amcf->metrics == NULL || r != r->main) {
        return NGX_OK;
    }

    m = amcf->metrics->data;
    code = r->err_status ? r->err_status : r->headers_out.status;

    if (code >= NGX_AGENT_METRICS_CODES) {
        code = 0;
    }

    now = ngx_timeofday();
    ms = (ngx_msec_int_t) ((now->sec - r->start_sec) * 1000
                           + (now->msec - r->start_msec));
    ms = ngx_max(ms, 0);

    for (i = 0; i < NGX_AGENT_METRICS_BUCKETS - 1; i++) {
        if ((ngx_msec_t) ms <= ngx_agent_bounds[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&m->codes[code], 1);
    (void) ngx_atomic_fetch_add(&m->buckets[i], 1);
    (void) ngx_atomic_fetch_add(&m->seconds_ms, ms);
    (void) ngx_atomic_fetch_add(&m->received, r->request_length);
    (void) ngx_atomic_fetch_add(&m->sent, r->connection->sent);

    ngx_agent_metrics_count_out(r, m);

    return NGX_OK;
}


/* ---- writing ----------------------------------------------------------- */

static void
ngx_agent_metrics_head(struct ag_buf *b, ngx_str_t *face, const char *name,
    const char *kind, const char *help)
{
    ag_buf_addf(b, "# HELP brainbox_%.*s_%s %s\n# TYPE brainbox_%.*s_%s %s\n",
                (int) face->len, face->data, name, help, (int) face->len,
                face->data, name, kind);
}


/* Of `label` NULL: a series without labels. */
static void
ngx_agent_metrics_add(struct ag_buf *b, ngx_str_t *face, const char *name,
    const char *label, const char *value, unsigned long long n)
{
    ag_buf_addf(b, "brainbox_%.*s_%s", (int) face->len, face->data, name);

    if (label != NULL) {
        ag_buf_addf(b, "{%s=\"%s\"}", label, value);
    }

    ag_buf_addf(b, " %llu\n", n);
}


static void
ngx_agent_metrics_seconds(struct ag_buf *b, ngx_str_t *face,
    ngx_agent_metrics_t *m)
{
    char                bound[32];
    ngx_uint_t          i;
    unsigned long long  n;

    n = 0;
    ngx_agent_metrics_head(b, face, "request_seconds", "histogram",
                           "From a request's first byte to its end.");

    for (i = 0; i < NGX_AGENT_METRICS_BUCKETS; i++) {
        n += m->buckets[i];

        if (i == NGX_AGENT_METRICS_BUCKETS - 1) {
            (void) snprintf(bound, sizeof(bound), "+Inf");

        } else {
            (void) snprintf(bound, sizeof(bound), "%g",
                            (double) ngx_agent_bounds[i] / 1000);
        }

        ngx_agent_metrics_add(b, face, "request_seconds_bucket", "le", bound,
                              n);
    }

    ag_buf_addf(b, "brainbox_%.*s_request_seconds_sum %.3f\n",
                (int) face->len, face->data, (double) m->seconds_ms / 1000);
    ngx_agent_metrics_add(b, face, "request_seconds_count", NULL, NULL, n);
}


static void
ngx_agent_metrics_connections(struct ag_buf *b, ngx_str_t *face)
{
#if (NGX_STAT_STUB)
    ngx_agent_metrics_head(b, face, "connections", "gauge",
                           "Open connections, by what they do.");
    ngx_agent_metrics_add(b, face, "connections", "state", "reading",
                          *ngx_stat_reading);
    ngx_agent_metrics_add(b, face, "connections", "state", "writing",
                          *ngx_stat_writing);
    ngx_agent_metrics_add(b, face, "connections", "state", "waiting",
                          *ngx_stat_waiting);
    ngx_agent_metrics_head(b, face, "connections_total", "counter",
                           "Connections that were accepted.");
    ngx_agent_metrics_add(b, face, "connections_total", NULL, NULL,
                          *ngx_stat_accepted);
#endif
}


static void
ngx_agent_metrics_write(struct ag_buf *b, ngx_str_t *face,
    ngx_agent_metrics_t *m)
{
    char        code[16];
    ngx_uint_t  i;

    ngx_agent_metrics_head(b, face, "requests_total", "counter",
                           "Requests that ended, by status.");

    for (i = 0; i < NGX_AGENT_METRICS_CODES; i++) {
        if (m->codes[i] != 0) {
            (void) snprintf(code, sizeof(code), "%u", (unsigned) i);
            ngx_agent_metrics_add(b, face, "requests_total", "code", code,
                                  m->codes[i]);
        }
    }

    ngx_agent_metrics_seconds(b, face, m);
    ngx_agent_metrics_head(b, face, "received_bytes_total", "counter",
                           "Bytes of requests, heads and bodies.");
    ngx_agent_metrics_add(b, face, "received_bytes_total", NULL, NULL,
                          m->received);
    ngx_agent_metrics_head(b, face, "sent_bytes_total", "counter",
                           "Bytes of answers, heads and bodies.");
    ngx_agent_metrics_add(b, face, "sent_bytes_total", NULL, NULL, m->sent);

    if (face->len == 6 && ngx_strncmp(face->data, "egress", 6) == 0) {
        ngx_agent_metrics_head(b, face, "outcomes_total", "counter",
                               "Requests of sandboxes and of the brain, by "
                               "what became of them.");

        for (i = 0; i < NGX_AGENT_OUTCOMES; i++) {
            ngx_agent_metrics_add(b, face, "outcomes_total", "outcome",
                                  ngx_agent_outcome_names[i],
                                  m->outcomes[i]);
        }
    }

    ngx_agent_metrics_connections(b, face);
}


static ngx_int_t
ngx_agent_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_buf_t              *out;
    ngx_chain_t             cl;
    struct ag_buf           b;
    ngx_agent_loc_conf_t   *lcf;
    ngx_agent_main_conf_t  *amcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);
    amcf = ngx_http_get_module_main_conf(r, ngx_agent_module);

    ag_buf_init(&b, NGX_AGENT_METRICS_MAX);
    ngx_agent_metrics_write(&b, &lcf->metrics, amcf->metrics->data);

    out = b.n == 0 ? NULL : ngx_create_temp_buf(r->pool, b.n);
    if (out == NULL) {
        ag_buf_release(&b);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    out->last = ngx_cpymem(out->last, b.p, b.n);
    ag_buf_release(&b);
    out->last_buf = 1;
    out->last_in_chain = 1;

    ngx_str_set(&r->headers_out.content_type,
                "text/plain; version=0.0.4; charset=utf-8");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = out->last - out->pos;

    rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    cl.buf = out;
    cl.next = NULL;

    return ngx_http_output_filter(r, &cl);
}


/* agent_metrics ingress | egress */
char *
ngx_agent_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_agent_loc_conf_t  *lcf = conf;

    ngx_str_t                  name, *value;
    ngx_agent_main_conf_t     *amcf;
    ngx_http_core_loc_conf_t  *clcf;

    if (lcf->metrics.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "ingress") != 0
        && ngx_strcmp(value[1].data, "egress") != 0)
    {
        return "must be ingress or egress";
    }

    lcf->metrics = value[1];
    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_agent_module);
    ngx_str_set(&name, "agent_metrics");

    amcf->metrics = ngx_shared_memory_add(cf, &name, 8 * ngx_pagesize,
                                          &ngx_agent_module);
    if (amcf->metrics == NULL) {
        return NGX_CONF_ERROR;
    }

    amcf->metrics->init = ngx_agent_metrics_init_zone;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_agent_metrics_handler;

    return NGX_CONF_OK;
}
