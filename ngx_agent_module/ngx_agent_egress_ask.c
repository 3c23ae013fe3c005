/*
 * What the vault is asked, by in-memory subrequests with grpc_pass, and reports
 * of what was scrubbed. Which requests are asked about together is
 * ngx_agent_egress_batch.c's. Whatever is not a complete answer is none, and no
 * answer means that nothing is sent.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/secret.h"
#include "ngx_agent_module/ngx_agent_module.h"

#define NGX_AGENT_VERDICT_MAX  (2 * 1024 * 1024)


static ngx_str_t  ngx_agent_report_uri =
    ngx_string("/agent.vault.v1.EgressService/ReportScrub");


/* Values leave memory with the request. */
static void
ngx_agent_verdict_free(void *data)
{
    size_t                                i;
    ngx_agent_egress_ctx_t               *ctx = data;
    Agent__Vault__V1__AuthorizeResponse  *v;

    ngx_agent_egress_batch_leave(ctx);

    v = ctx->verdict;
    if (v == NULL) {
        return;
    }

    for (i = 0; i < v->n_swaps; i++) {
        ag_wipe(v->swaps[i]->value.data, v->swaps[i]->value.len);
    }

    for (i = 0; i < v->n_scrub; i++) {
        ag_wipe(v->scrub[i]->value.data, v->scrub[i]->value.len);
    }

    for (i = 0; i < v->n_set_headers; i++) {
        ngx_explicit_memzero(v->set_headers[i]->value,
                             ngx_strlen(v->set_headers[i]->value));
    }

    agent__vault__v1__authorize_response__free_unpacked(v, NULL);
    ctx->verdict = NULL;
}


static ngx_int_t
ngx_agent_status_in(ngx_list_t *list)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &list->part; part != NULL; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == sizeof("grpc-status") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "grpc-status",
                                   sizeof("grpc-status") - 1) == 0)
            {
                return ngx_atoi(h[i].value.data, h[i].value.len);
            }
        }
    }

    return NGX_ERROR;
}


/* What came as one frame, or NULL. The bytes are wiped in any case. */
static ProtobufCMessage *
ngx_agent_answer_unpack(ngx_chain_t *out,
    const ProtobufCMessageDescriptor *type)
{
    int                       rc;
    ag_str_t                  in;
    ngx_chain_t              *cl;
    struct ag_err             err = AG_ERR_INIT;
    ProtobufCMessage         *m;
    struct ngx_agent_frames   frames;

    ngx_agent_frames_init(&frames, NGX_AGENT_VERDICT_MAX);
    rc = 0;
    m = NULL;

    for (cl = out; cl != NULL && rc == 0; cl = cl->next) {
        in = ag_str_n(cl->buf->pos, cl->buf->last - cl->buf->pos);
        rc = ngx_agent_frames_next(&frames, &in, &err);
    }

    if (rc == 1) {
        m = protobuf_c_message_unpack(type, NULL, frames.message.n,
                                      (const uint8_t *) frames.message.p);
        ag_wipe(frames.message.p, frames.message.n);
    }

    ngx_agent_frames_release(&frames);

    for (cl = out; cl != NULL; cl = cl->next) {
        ngx_explicit_memzero(cl->buf->pos, cl->buf->last - cl->buf->pos);
    }

    return m;
}


ProtobufCMessage *
ngx_agent_egress_answer(ngx_http_request_t *sr, ngx_int_t rc,
    const ProtobufCMessageDescriptor *type)
{
    ngx_int_t             status;
    ngx_http_upstream_t  *u;

    u = sr->upstream;

    if (rc != NGX_OK || u == NULL || u->headers_in.status_n != NGX_HTTP_OK) {
        return NULL;
    }

    status = ngx_agent_status_in(&u->headers_in.trailers);

    if (status == NGX_ERROR) {
        status = ngx_agent_status_in(&u->headers_in.headers);
    }

    if (status != 0) {
        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "the vault did not decide, gRPC status %i", status);
        return NULL;
    }

    return ngx_agent_answer_unpack(sr->out, type);
}


/* The message in a frame, as the subrequest's body. */
ngx_int_t
ngx_agent_egress_send(ngx_http_request_t *sr, ngx_agent_egress_ctx_t *ctx,
    const ProtobufCMessage *m)
{
    size_t   n;
    u_char  *p;

    n = protobuf_c_message_get_packed_size(m);

    p = ngx_pnalloc(sr->pool, NGX_AGENT_FRAME_HEAD + n);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_agent_frame_head(p, n);
    (void) protobuf_c_message_pack(m, p + NGX_AGENT_FRAME_HEAD);

    if (ngx_agent_rebuild_headers(sr, NULL, &ctx->request_id, NULL) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_agent_set_body(sr, p, NGX_AGENT_FRAME_HEAD + n);
}


char *
ngx_agent_egress_text(ngx_http_request_t *r, ngx_str_t *s)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, s->len + 1);
    if (p == NULL) {
        return (char *) "";
    }

    /* An empty string may have no data, and memcpy() wants some. */
    if (s->len != 0) {
        ngx_memcpy(p, s->data, s->len);
    }

    p[s->len] = '\0';

    return (char *) p;
}


Agent__Vault__V1__AuthorizeRequest *
ngx_agent_egress_question(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_uint_t                           i;
    ngx_agent_stub_t                    *stub;
    Agent__Vault__V1__FoundStub         *found, **list;
    Agent__Vault__V1__AuthorizeRequest  *m;

    m = ngx_palloc(r->pool, sizeof(*m));
    list = ngx_palloc(r->pool, (ctx->stubs.nelts + 1) * sizeof(*list));
    found = ngx_palloc(r->pool, (ctx->stubs.nelts + 1) * sizeof(*found));
    if (m == NULL || list == NULL || found == NULL) {
        return NULL;
    }

    agent__vault__v1__authorize_request__init(m);

    m->workload_address = ngx_agent_egress_text(r, &ctx->workload);
    m->session_id = ngx_agent_egress_text(r, &ctx->session);
    m->scheme = (char *) (ctx->https ? "https" : "http");
    m->host = ngx_agent_egress_text(r, &ctx->host);
    m->port = ctx->port;
    m->method = ngx_agent_egress_text(r, &r->method_name);
    m->path = ngx_agent_egress_text(r, &ctx->path);
    m->request_id = ngx_agent_egress_text(r, &ctx->request_id);

    stub = ctx->stubs.elts;

    for (i = 0; i < ctx->stubs.nelts; i++) {
        agent__vault__v1__found_stub__init(&found[i]);
        found[i].kind = stub[i].kind;
        found[i].name = (char *) stub[i].name.data;
        found[i].stub = (char *) stub[i].token.data;
        list[i] = &found[i];
    }

    m->to_sign = ctx->to_sign;
    m->stubs = list;
    m->n_stubs = ctx->stubs.nelts;

    return m;
}


ngx_int_t
ngx_agent_egress_ask(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_pool_cleanup_t  *cln;

    if (!ctx->asked) {
        cln = ngx_pool_cleanup_add(r->pool, 0);
        if (cln == NULL) {
            return NGX_ERROR;
        }

        cln->handler = ngx_agent_verdict_free;
        cln->data = ctx;
        ctx->asked = 1;

        ngx_agent_egress_batch_add(r, ctx);

        return NGX_AGAIN;
    }

    return ctx->answered ? NGX_OK : NGX_AGAIN;
}


void
ngx_agent_egress_ask_again(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
    ngx_agent_verdict_free(ctx);
    ctx->answered = 0;

    ngx_agent_egress_batch_add(r, ctx);
}


static void
ngx_agent_report_one(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    char *credential, unsigned count, const char *where)
{
    ngx_http_request_t                    *sr;
    Agent__Vault__V1__ReportScrubRequest   m;

    agent__vault__v1__report_scrub_request__init(&m);
    m.audit_id = ctx->verdict->audit_id;
    m.credential_id = credential;
    m.where = (char *) where;
    m.count = (int32_t) count;

    if (ngx_http_subrequest(r, &ngx_agent_report_uri, NULL, &sr, NULL,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_BACKGROUND)
        != NGX_OK
        || ngx_agent_egress_send(sr, ctx, &m.base) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "a scrubbed value could not be reported");
    }
}


void
ngx_agent_egress_report(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const char *where)
{
    size_t  i;

    for (i = 0; i < ctx->scrub.n_owners; i++) {
        if (ctx->scrub.hits[i] == 0) {
            continue;
        }

        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "%ui hits of credential \"%s\" taken out of the %s",
                      (ngx_uint_t) ctx->scrub.hits[i],
                      ctx->verdict->scrub[i]->credential_id, where);
        ngx_agent_report_one(r, ctx, ctx->verdict->scrub[i]->credential_id,
                             ctx->scrub.hits[i], where);
        ctx->scrub.hits[i] = 0;
    }
}
