/*
 * What the vault is asked in one call. Requests that a worker has to ask about
 * at one moment, and those that come while its calls are on their way, go
 * together: a call costs about the same for one and for many. One of them lends
 * its request to the subrequest; when that one goes away, the others are asked
 * about again.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/secret.h"

#define NGX_AGENT_BATCHES_MAX  2       /* of a worker, on their way */
#define NGX_AGENT_ASK_TRIES    3


struct ngx_agent_batch_s {
    ngx_uint_t                 n;
    ngx_agent_egress_ctx_t    *leader;     /* whose request has the subrequest */
    ngx_agent_egress_ctx_t    *members[NGX_AGENT_EGRESS_BATCH]; /* NULL: gone */
};


/* Of the worker. */
static struct {
    ngx_queue_t                waiting;
    ngx_uint_t                 sent;       /* batches on their way */
    ngx_event_t                send;
} ngx_agent_asks;


static ngx_str_t  ngx_agent_authorize_uri =
    ngx_string("/agent.vault.v1.EgressService/Authorize");
static ngx_str_t  ngx_agent_authorize_batch_uri =
    ngx_string("/agent.vault.v1.EgressService/AuthorizeBatch");


/* ---- members ----------------------------------------------------------- */

static void
ngx_agent_asks_post(void)
{
    if (!ngx_queue_empty(&ngx_agent_asks.waiting)
        && ngx_agent_asks.sent < NGX_AGENT_BATCHES_MAX)
    {
        ngx_post_event(&ngx_agent_asks.send, &ngx_posted_events);
    }
}


static void
ngx_agent_ask_again(ngx_agent_egress_ctx_t *ctx)
{
    ctx->batch = NULL;
    ctx->is_waiting = 1;
    ngx_queue_insert_head(&ngx_agent_asks.waiting, &ctx->question);
}


/* The leader goes on when its subrequest is finished, the others by event. */
static void
ngx_agent_ask_settle(ngx_agent_egress_ctx_t *ctx,
    Agent__Vault__V1__AuthorizeResponse *verdict)
{
    ngx_uint_t  is_leader;

    is_leader = ctx->batch->leader == ctx;
    ctx->batch = NULL;
    ctx->answered = 1;
    ctx->verdict = verdict;

    if (!is_leader) {
        ngx_post_event(&ctx->wake, &ngx_posted_events);
    }
}


/* ---- answers ----------------------------------------------------------- */

static void
ngx_agent_batch_over(ngx_agent_batch_t *b)
{
    ngx_free(b);
    ngx_agent_asks.sent--;
    ngx_agent_asks_post();
}


/* No answer came. Members whom their leader left are asked about again. */
static void
ngx_agent_batch_fail(ngx_agent_batch_t *b, ngx_uint_t was_left)
{
    ngx_uint_t               i;
    ngx_agent_egress_ctx_t  *ctx;

    for (i = 0; i < b->n; i++) {
        ctx = b->members[i];

        if (ctx == NULL || ctx->batch == NULL) {
            continue;
        }

        if (was_left && ctx != b->leader && ctx->tries < NGX_AGENT_ASK_TRIES) {
            ngx_agent_ask_again(ctx);

        } else {
            ngx_agent_ask_settle(ctx, NULL);
        }
    }
}


static void
ngx_agent_batch_give(ngx_agent_egress_ctx_t *ctx, ProtobufCBinaryData *data)
{
    Agent__Vault__V1__AuthorizeResponse  *v;

    v = agent__vault__v1__authorize_response__unpack(NULL, data->len,
                                                     data->data);

    if (v != NULL && v->verdict
        == AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ALONE)
    {
        agent__vault__v1__authorize_response__free_unpacked(v, NULL);
        ctx->alone = 1;
        ngx_agent_ask_again(ctx);
        return;
    }

    ngx_agent_ask_settle(ctx, v);
}


static ngx_int_t
ngx_agent_batch_take(ngx_agent_batch_t *b, ngx_http_request_t *sr,
    ngx_int_t rc)
{
    size_t                                     i;
    Agent__Vault__V1__AuthorizeResponse       *v;
    Agent__Vault__V1__AuthorizeBatchResponse  *m;

    if (b->n == 1) {
        v = (Agent__Vault__V1__AuthorizeResponse *)
            ngx_agent_egress_answer(sr, rc,
                &agent__vault__v1__authorize_response__descriptor);

        if (v != NULL) {
            ngx_agent_ask_settle(b->members[0], v);
        }

        return v != NULL ? NGX_OK : NGX_ERROR;
    }

    m = (Agent__Vault__V1__AuthorizeBatchResponse *)
        ngx_agent_egress_answer(sr, rc,
            &agent__vault__v1__authorize_batch_response__descriptor);

    if (m == NULL) {
        return NGX_ERROR;
    }

    rc = m->n_responses == b->n ? NGX_OK : NGX_ERROR;

    for (i = 0; i < m->n_responses; i++) {
        if (rc == NGX_OK && b->members[i] != NULL) {
            ngx_agent_batch_give(b->members[i], &m->responses[i]);
        }

        ag_wipe(m->responses[i].data, m->responses[i].len);
    }

    agent__vault__v1__authorize_batch_response__free_unpacked(m, NULL);

    return rc;
}


static ngx_int_t
ngx_agent_batch_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_agent_batch_t  *b = data;

    if (ngx_agent_batch_take(b, sr, rc) != NGX_OK) {
        ngx_agent_batch_fail(b, rc == NGX_HTTP_CLIENT_CLOSED_REQUEST
                                || sr->connection->error);
    }

    ngx_agent_batch_over(b);

    return NGX_OK;
}


/* ---- questions --------------------------------------------------------- */

static ngx_int_t
ngx_agent_batch_message(ngx_agent_batch_t *b, ngx_http_request_t *sr)
{
    ngx_uint_t                               i;
    Agent__Vault__V1__AuthorizeRequest      *list[NGX_AGENT_EGRESS_BATCH];
    Agent__Vault__V1__AuthorizeBatchRequest  m;

    for (i = 0; i < b->n; i++) {
        list[i] = ngx_agent_egress_question(b->members[i]->request,
                                            b->members[i]);
        if (list[i] == NULL) {
            return NGX_ERROR;
        }
    }

    if (b->n == 1) {
        return ngx_agent_egress_send(sr, b->leader, &list[0]->base);
    }

    agent__vault__v1__authorize_batch_request__init(&m);
    m.requests = list;
    m.n_requests = b->n;

    return ngx_agent_egress_send(sr, b->leader, &m.base);
}


static ngx_int_t
ngx_agent_batch_start(ngx_agent_batch_t *b)
{
    ngx_http_request_t          *r, *sr;
    ngx_http_post_subrequest_t  *ps;

    r = b->leader->request;

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_agent_batch_done;
    ps->data = b;

    if (ngx_http_subrequest(r, b->n == 1 ? &ngx_agent_authorize_uri
                                         : &ngx_agent_authorize_batch_uri,
                            NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_WAITED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_agent_batch_message(b, sr) != NGX_OK) {
        /* It has no message to send, and ends with its parent. */
        sr->post_subrequest = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* Who waits, up to the limit of the first one's location. */
static ngx_agent_batch_t *
ngx_agent_batch_create(void)
{
    ngx_int_t                 most;
    ngx_queue_t              *q;
    ngx_agent_batch_t        *b;
    ngx_agent_egress_ctx_t   *ctx;
    ngx_agent_egress_conf_t  *ecf;

    b = ngx_calloc(sizeof(ngx_agent_batch_t), ngx_cycle->log);
    if (b == NULL) {
        return NULL;
    }

    most = 1;

    while ((ngx_int_t) b->n < most
           && !ngx_queue_empty(&ngx_agent_asks.waiting))
    {
        q = ngx_queue_head(&ngx_agent_asks.waiting);
        ctx = ngx_queue_data(q, ngx_agent_egress_ctx_t, question);

        if (b->n == 0) {
            ecf = ngx_http_get_module_loc_conf(ctx->request,
                                               ngx_agent_egress_module);
            most = ctx->alone ? 1 : ecf->batch;
            b->leader = ctx;

        } else if (ctx->alone) {
            break;
        }

        ngx_queue_remove(q);
        ctx->is_waiting = 0;
        ctx->tries++;
        ctx->batch = b;
        ctx->place = b->n;
        b->members[b->n++] = ctx;
    }

    return b;
}


static void
ngx_agent_asks_send(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_agent_batch_t   *b;
    ngx_http_request_t  *r;

    while (ngx_agent_asks.sent < NGX_AGENT_BATCHES_MAX
           && !ngx_queue_empty(&ngx_agent_asks.waiting))
    {
        b = ngx_agent_batch_create();
        if (b == NULL) {
            return;
        }

        ngx_agent_asks.sent++;
        r = b->leader->request;
        c = r->connection;
        ngx_http_set_log_request(c->log, r);

        if (ngx_agent_batch_start(b) != NGX_OK) {
            b->leader->batch = NULL;
            ngx_agent_batch_fail(b, 1);
            ngx_agent_batch_over(b);
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        }

        ngx_http_run_posted_requests(c);
    }
}


void
ngx_agent_egress_batch_add(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ctx->wake.handler = ngx_agent_egress_go_on;
    ctx->wake.data = r;
    ctx->wake.log = r->connection->log;
    ctx->tries = 0;
    ctx->is_waiting = 1;

    ngx_agent_egress_watch_mark(ctx);
    ngx_queue_insert_tail(&ngx_agent_asks.waiting, &ctx->question);
    ngx_agent_asks_post();
}


void
ngx_agent_egress_batch_leave(ngx_agent_egress_ctx_t *ctx)
{
    ngx_agent_batch_t  *b;

    if (ctx->is_waiting) {
        ngx_queue_remove(&ctx->question);
        ctx->is_waiting = 0;
    }

    if (ctx->wake.posted) {
        ngx_delete_posted_event(&ctx->wake);
    }

    b = ctx->batch;

    if (b == NULL) {
        return;
    }

    ctx->batch = NULL;
    b->members[ctx->place] = NULL;

    if (b->leader == ctx) {
        ngx_agent_batch_fail(b, 1);
        ngx_agent_batch_over(b);
    }
}


void
ngx_agent_egress_batch_init(ngx_cycle_t *cycle)
{
    ngx_queue_init(&ngx_agent_asks.waiting);
    ngx_agent_asks.send.handler = ngx_agent_asks_send;
    ngx_agent_asks.send.log = cycle->log;
}
