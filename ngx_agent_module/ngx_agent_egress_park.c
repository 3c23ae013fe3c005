/*
 * A request that the network policy has a person decide about is parked: a
 * subrequest waits at the vault, at most as long as the vault says. Then the
 * vault is asked once more, and what holds by then decides. A client that goes
 * away meanwhile takes its request along: the upstream of the subrequest sees it.
 */
#include "ngx_agent_module/ngx_agent_egress.h"


static ngx_str_t  ngx_agent_await_uri =
    ngx_string("/agent.vault.v1.EgressService/AwaitApproval");


static void
ngx_agent_park_free(void *data)
{
    ngx_agent_egress_ctx_t  *ctx = data;

    if (ctx->approval != NULL) {
        agent__vault__v1__await_approval_response__free_unpacked(ctx->approval,
                                                                 NULL);
        ctx->approval = NULL;
    }
}


static ngx_int_t
ngx_agent_park_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_agent_egress_ctx_t  *ctx = data;

    ctx->heard = 1;
    ctx->approval = (Agent__Vault__V1__AwaitApprovalResponse *)
        ngx_agent_egress_answer(sr, rc,
            &agent__vault__v1__await_approval_response__descriptor);

    return NGX_OK;
}


static ngx_int_t
ngx_agent_park_start(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_http_request_t                      *sr;
    ngx_pool_cleanup_t                      *cln;
    ngx_http_post_subrequest_t              *ps;
    Agent__Vault__V1__AwaitApprovalRequest   m;

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (ps == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_agent_park_free;
    cln->data = ctx;
    ps->handler = ngx_agent_park_done;
    ps->data = ctx;

    agent__vault__v1__await_approval_request__init(&m);
    m.approval_id = ctx->verdict->approval_id;
    m.workload = ngx_agent_egress_text(r, &ctx->workload);

    if (ngx_http_subrequest(r, &ngx_agent_await_uri, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_WAITED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->state = NGX_AGENT_EGRESS_PARKED;
    ctx->parked = 1;

    return ngx_agent_egress_send(sr, ctx, &m.base);
}


static ngx_int_t
ngx_agent_park_refuse(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    Agent__Vault__V1__AwaitApprovalResponse  *a;

    a = ctx->approval;

    if (a == NULL) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                   "vault_unavailable",
                   "the vault went away while a person was asked and the "
                   "request was not sent; try again", 0);
    }

    if (a->state == AGENT__VAULT__V1__AWAIT_APPROVAL_RESPONSE__STATE__DENIED) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                                       "approval_denied", a->message, 0);
    }

    return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN, "approval_pending",
                                   a->message, 0);
}


ngx_int_t
ngx_agent_egress_park(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    if (ctx->state != NGX_AGENT_EGRESS_PARKED) {

        if (ctx->parked) {
            return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                       "approval_pending",
                       "what a person approved was used by another request "
                       "meanwhile; send this one again", 0);
        }

        return ngx_agent_park_start(r, ctx) == NGX_OK
               ? NGX_AGAIN : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ctx->heard) {
        return NGX_AGAIN;
    }

    if (ctx->approval == NULL || ctx->approval->state
        != AGENT__VAULT__V1__AWAIT_APPROVAL_RESPONSE__STATE__APPROVED)
    {
        return ngx_agent_park_refuse(r, ctx);
    }

    ctx->state = NGX_AGENT_EGRESS_ASKING;

    ngx_agent_egress_ask_again(r, ctx);

    return NGX_AGAIN;
}
