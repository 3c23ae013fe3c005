/*
 * What the three files of the way back share: ngx_agent_answer.c (filters,
 * unary answers), ngx_agent_stream.c (events), ngx_agent_error.c.
 */
#ifndef NGX_AGENT_ANSWER_H
#define NGX_AGENT_ANSWER_H

#include "ngx_agent_module/ngx_agent_module.h"


/* ngx_agent_answer.c */

/* The next body filter. */
ngx_int_t ngx_agent_pass_body(ngx_http_request_t *r, ngx_chain_t *in);
/* Send ctx->out, which then is busy until ctx->out_buf is taken. */
ngx_int_t ngx_agent_send_out(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_uint_t last);
/*
 * The next whole message from the input: 1, 0 for none yet, -1 for nonsense.
 */
int ngx_agent_next_message(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err);
/*
 * How the call ended: NULL for OK, or the row of its status with the message
 * in the arena.
 */
const struct ngx_agent_status *ngx_agent_final_status(ngx_http_request_t *r,
    ngx_agent_ctx_t *ctx, ag_str_t *message);

/* ngx_agent_stream.c */

/* Set the headers of an event stream, and start its heartbeat. */
ngx_int_t ngx_agent_begin_events(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf);
ngx_int_t ngx_agent_filter_events(ngx_http_request_t *r,
    ngx_agent_ctx_t *ctx);

/* ngx_agent_error.c */

ngx_int_t ngx_agent_push_out(ngx_http_request_t *r, const char *name,
    ngx_str_t *value);
/* Leave nothing of the upstream's headers. */
ngx_int_t ngx_agent_clear_headers(ngx_http_request_t *r);
ngx_int_t ngx_agent_set_headers(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_uint_t status, const char *type);
/* The envelope, in ctx->out. */
void ngx_agent_put_envelope(ngx_agent_ctx_t *ctx, const char *type,
    ag_str_t message);
/* Turn the page that nginx is about to send into an error of ours. */
ngx_int_t ngx_agent_replace(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf);

#endif
