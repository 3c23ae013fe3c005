/*
 * What the files of ngx_agent_module share: configuration, the context of a
 * request, and the functions that one file offers to the others.
 */
#ifndef NGX_AGENT_MODULE_H
#define NGX_AGENT_MODULE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "ngx_agent_module/ngx_agent_frame.h"
#include "ngx_agent_module/ngx_agent_route.h"

#define NGX_AGENT_KEY_MAX        256   /* longest API key */
#define NGX_AGENT_KEY_HASH       32    /* hex digits of $agent_key_hash */
#define NGX_AGENT_ASSERTION_MAX  4096  /* longest assertion */


typedef enum {
    NGX_AGENT_OFF = 0,
    NGX_AGENT_REST,                    /* JSON outside, gRPC inside */
    NGX_AGENT_GRPC,                    /* gRPC on both sides */
    NGX_AGENT_ADMIT                    /* behind a key, and nginx's own */
} ngx_agent_mode_e;


typedef struct {
    ngx_shm_zone_t            *keys;
    ngx_shm_zone_t            *metrics;     /* NULL: nothing is counted */
    ngx_str_t                  generation;
    ngx_int_t                  content_length_index;
} ngx_agent_main_conf_t;


/* what becomes of a body that holds a credential */
typedef enum {
    NGX_AGENT_PASTED_OFF,              /* nobody looks */
    NGX_AGENT_PASTED_LOG,
    NGX_AGENT_PASTED_REFUSE
} ngx_agent_pasted_e;


typedef struct {
    ngx_uint_t                 mode;
    ngx_str_t                  upstreams[NGX_AGENT_SERVICES];
    ngx_str_t                  identity;
    ngx_uint_t                 scopes;      /* of agent_admit */
    ngx_str_t                  metrics;     /* whose: ingress, egress */
    size_t                     max_body;
    ngx_uint_t                 max_depth;
    ngx_msec_t                 heartbeat;
    struct ngx_agent_rules    *rules;       /* NULL: nobody looks */
    ngx_uint_t                 pasted;
} ngx_agent_loc_conf_t;


/* What a key stands for. */
typedef struct {
    ngx_uint_t                 scopes;
    ngx_uint_t                 denied;       /* unsigned  denied:1; */
    u_char                     assertion[NGX_AGENT_ASSERTION_MAX];
    size_t                     assertion_len;
} ngx_agent_principal_t;


/* A Resolve call that is made, runs, or has come back. */
typedef struct {
    ngx_http_request_t        *subrequest;
    ngx_int_t                  grpc_status;  /* -1: no answer */
    uint64_t                   generation;   /* before it was asked */
    unsigned                   done:1;
    unsigned                   bound:1;
} ngx_agent_resolve_t;


typedef enum {
    NGX_AGENT_ACCESS = 0,
    NGX_AGENT_ADMITTED,
    NGX_AGENT_READING,
    NGX_AGENT_READ,
    NGX_AGENT_PASSED
} ngx_agent_state_e;


/* How the answer goes back. */
typedef enum {
    NGX_AGENT_ANSWER_NONE = 0,
    NGX_AGENT_ANSWER_UNARY,            /* headers wait for the status */
    NGX_AGENT_ANSWER_EVENTS,           /* 200 is out, events follow */
    NGX_AGENT_ANSWER_OWN,              /* complete, of our own making */
    NGX_AGENT_ANSWER_REPLACE           /* nginx's page becomes ours */
} ngx_agent_answer_e;


typedef struct {
    ngx_http_request_t        *request;
    ngx_agent_state_e          state;
    ngx_agent_answer_e         answer;

    struct ag_arena           *arena;  /* lives as long as the request */
    struct ngx_agent_match     match;
    ngx_str_t                  request_id;

    ngx_str_t                  key;
    u_char                     key_digest[32];
    ngx_agent_principal_t     *principal;
    ngx_agent_resolve_t        resolve;

    struct ag_buf              message; /* frame head and message */

    /* the way back */
    struct ngx_agent_frames    frames;
    struct ag_buf              out;     /* what is being sent */
    ngx_buf_t                  out_buf;
    ngx_chain_t                out_chain;
    ngx_chain_t               *in;      /* not consumed yet */
    ngx_event_t                heartbeat;
    unsigned                   have_message:1;
    unsigned                   input_last:1;
    unsigned                   input_failed:1;
    unsigned                   ended:1;
} ngx_agent_ctx_t;


extern ngx_module_t  ngx_agent_module;


/* ngx_agent_module.c */
ngx_agent_ctx_t *ngx_agent_get_ctx(ngx_http_request_t *r);

/* ngx_agent_auth.c: phases */
ngx_agent_ctx_t *ngx_agent_ctx_create(ngx_http_request_t *r);
/* A directive with the file of a rule set: a struct ngx_agent_rules * that is
 * NGX_CONF_UNSET_PTR before. */
char *ngx_agent_rules_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* Is the body of this request looked through? Its route is known. */
ngx_uint_t ngx_agent_inbound_wants(ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf);
/* NGX_OK, or the request is answered. */
ngx_int_t ngx_agent_inbound_check(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf, ag_str_t body);
/* The key as it was sent: `x-api-key`, or else `Authorization: Bearer`; empty. */
void ngx_agent_key_sent(ngx_http_request_t *r, ngx_str_t *key);
ngx_int_t ngx_agent_access_handler(ngx_http_request_t *r);

/* ngx_agent_resolve.c */
/*
 * Ask for an assertion over `digest` (32 bytes, or NULL for one of any
 * request). NGX_AGAIN: wait; NGX_OK: ctx->principal is set; NGX_DONE: the
 * request was answered.
 */
ngx_int_t ngx_agent_resolve(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    const u_char *digest);

/* ngx_agent_request.c: the way in */
ngx_int_t ngx_agent_precontent_handler(ngx_http_request_t *r);
/* Replace all request headers by those that a service may see. */
ngx_int_t ngx_agent_rebuild_headers(ngx_http_request_t *r,
    ngx_str_t *assertion, ngx_str_t *request_id, ngx_str_t *grpc_timeout);
/* Make `framed` (head and message, in the pool) the body to send. */
ngx_int_t ngx_agent_set_body(ngx_http_request_t *r, u_char *framed, size_t n);
/* Request header by lower-case name, or NULL. */
ngx_table_elt_t *ngx_agent_header(ngx_http_request_t *r, const char *name);

/* ngx_agent_answer.c: the way back */
ngx_int_t ngx_agent_filter_init(ngx_conf_t *cf);
ngx_int_t ngx_agent_add_variables(ngx_conf_t *cf);
/* The value of a variable that changes; returns NGX_OK. */
ngx_int_t ngx_agent_variable_set(ngx_http_variable_value_t *v, ngx_str_t *s);

/* ngx_agent_error.c */
/* Answer with an error of our own. NGX_DONE, for a phase handler to return. */
ngx_int_t ngx_agent_fail(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_int_t http_status, struct ag_err *err);
ngx_int_t ngx_agent_fail_kind(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err);
/* End a request at once, as when its client goes away, from a handler that is
 * not its own: a timer's. It is gone behind this. */
void ngx_agent_abort(ngx_http_request_t *r);

/* ngx_agent_metrics.c: what this nginx counts of itself */
char *ngx_agent_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_agent_metrics_log_handler(ngx_http_request_t *r);

/* ngx_agent_key.c: the table of keys in shared memory */
ngx_int_t ngx_agent_key_init_zone(ngx_shm_zone_t *zone, void *data);
ngx_int_t ngx_agent_key_find(ngx_shm_zone_t *zone, u_char digest[32],
    uint64_t generation, ngx_agent_principal_t *out);
void ngx_agent_key_store(ngx_shm_zone_t *zone, u_char digest[32],
    uint64_t generation, ngx_agent_principal_t *principal);
/* Current value of the vault's counter; NGX_DECLINED: do not cache. */
ngx_int_t ngx_agent_generation(ngx_str_t *path, uint64_t *value);
/* The first `n` bytes of the file (lib/generation.h). */
ngx_int_t ngx_agent_generation_read(ngx_str_t *path, void *out, size_t n);

#endif
