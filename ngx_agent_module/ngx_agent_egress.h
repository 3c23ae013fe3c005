/*
 * What the files of the egress half share. A request passes: destination and
 * stubs are found, the vault decides, values take the stubs' places, the host
 * is looked up and vetted, proxy_pass dials what was vetted, and the answer is
 * scrubbed.
 */
#ifndef NGX_AGENT_EGRESS_H
#define NGX_AGENT_EGRESS_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "lib/str.h"
#include "ngx_agent_module/ngx_agent_frame.h"
#include "ngx_agent_module/ngx_agent_leaf.h"
#include "ngx_agent_module/ngx_agent_scrub.h"
#include "vault.pb-c.h"

#define NGX_AGENT_EGRESS_ADDRS  16         /* of a name that are used */
#define NGX_AGENT_EGRESS_BATCH  64         /* requests of a call, at most */


typedef enum {
    NGX_AGENT_EGRESS_OFF = 0,
    NGX_AGENT_EGRESS_SANDBOX,          /* from the bridge, by PROXY v2 */
    NGX_AGENT_EGRESS_BRAIN,            /* by x-brainbox-session */
    NGX_AGENT_EGRESS_REPORT            /* the bridge tells what it refused */
} ngx_agent_egress_mode_e;


typedef struct {
    ngx_uint_t                 mode;
    ngx_int_t                  peer_uid;   /* -1: not checked */
    ngx_int_t                  refusals;   /* reported, a second and workload */
    ngx_agent_leaf_t          *leaf;
    size_t                     swap_body;  /* longest body that is swapped */
    size_t                     mint_body;  /* longest answer that mints */
    ngx_str_t                  grpc;       /* location of gRPC requests */
    struct ngx_agent_rules    *rules;      /* NULL: shapes are not looked for */
    ngx_int_t                  batch;      /* requests asked about at once */
} ngx_agent_egress_conf_t;


typedef enum {
    NGX_AGENT_EGRESS_NEW = 0,
    NGX_AGENT_EGRESS_READING,          /* the body */
    NGX_AGENT_EGRESS_ASKING,           /* the vault */
    NGX_AGENT_EGRESS_PARKED,           /* a person is asked */
    NGX_AGENT_EGRESS_RESOLVING,
    NGX_AGENT_EGRESS_READY
} ngx_agent_egress_state_e;


typedef struct ngx_agent_outbound_s  ngx_agent_outbound_t;
typedef struct ngx_agent_fetch_s  ngx_agent_fetch_t;
typedef struct ngx_agent_batch_s  ngx_agent_batch_t;


/* A tenant's fingerprints; lives as long as somebody refers to it. */
typedef struct {
    ngx_queue_t                queue;
    ngx_uint_t                 refs;
    uint64_t                   number;
    struct ngx_agent_prints   *prints;
    char                       tenant[64];
} ngx_agent_table_t;


typedef struct ngx_agent_sign_s  ngx_agent_sign_t;


/* A stub and where it stands. */
typedef struct {
    Agent__Vault__V1__SlotKind  kind;
    ngx_str_t                   name;
    ngx_str_t                   token;
    ngx_table_elt_t            *header;    /* of header and basic */
    unsigned                    is_binary:1; /* the header's value is base64 */
} ngx_agent_stub_t;


typedef struct ngx_agent_egress_mint_s  ngx_agent_egress_mint_t;


typedef struct {
    ngx_http_request_t        *request;
    ngx_agent_egress_state_e   state;
    ngx_agent_egress_mode_e    mode;

    /* the canonical destination: computed once, used by all */
    unsigned                   https:1;
    ngx_str_t                  host;
    in_port_t                  port;
    ngx_str_t                  path;
    ngx_str_t                  workload;
    ngx_str_t                  session;
    ngx_str_t                  request_id;
    ngx_uint_t                 more;       /* refusals that a report stands for */
    ngx_uint_t                 http_version;  /* that was asked in */
    unsigned                   is_grpc:1;
    unsigned                   grpc_refused:1;
    unsigned                   is_framed:1;   /* the answer, by gRPC */
    struct ngx_agent_stub_scan  *grpc_scan;   /* of what goes out */
    struct ngx_agent_walk      grpc_walk;     /* over what comes back */

    ngx_array_t                stubs;      /* of ngx_agent_stub_t */
    ngx_str_t                  body;       /* in one piece, if not long */
    ngx_str_t                  sent_path;
    ngx_str_t                  sent_query; /* with its "?" */
    unsigned                   body_is_long:1;
    unsigned                   body_is_swapped:1;

    /* while it is open */
    ngx_queue_t                watch;
    uint64_t                   watch_from;
    unsigned                   is_watched:1;
    unsigned                   is_cut:1;

    /* the verdict */
    unsigned                   asked:1;
    unsigned                   answered:1;
    unsigned                   alone:1;    /* in a call of its own */
    unsigned                   is_waiting:1; /* to be asked about */
    ngx_uint_t                 tries;
    ngx_queue_t                question;
    ngx_event_t                wake;       /* once it is answered */
    ngx_agent_batch_t         *batch;      /* that is on its way */
    ngx_uint_t                 place;      /* in it */
    Agent__Vault__V1__AuthorizeResponse  *verdict;

    Agent__Vault__V1__ToSign  *to_sign;    /* NULL: nothing is signed */
    ngx_agent_sign_t          *sign;       /* the body's digest */

    /* the search of what goes out; NULL: not begun */
    ngx_agent_outbound_t      *outbound;
    const char                *shape;      /* of a credential that was seen */
    ngx_agent_fetch_t         *fetch;

    /* a person's word */
    unsigned                   parked:1;
    unsigned                   heard:1;
    Agent__Vault__V1__AwaitApprovalResponse  *approval;

    /* the dial */
    ngx_resolver_ctx_t        *resolve;
    unsigned                   resolved:1;
    unsigned                   is_asking_name:1;
    const char                *dial_error;
    ngx_addr_t                 addrs[NGX_AGENT_EGRESS_ADDRS];
    ngx_uint_t                 naddrs;     /* all vetted */
    ngx_str_t                  dial_name;

    /* the way back */
    unsigned                   credentialed:1;
    unsigned                   upgrades:1;
    unsigned                   scrubbing:1;
    unsigned                   reported:1;
    unsigned                   finished:1;
    struct ngx_agent_scrub     scrub;
    ngx_log_t                 *log;        /* whose lines are scrubbed */
    ngx_log_t                 *log_next;
    ngx_chain_t               *in;         /* not scrubbed yet */
    ngx_chain_t               *free;
    ngx_chain_t               *busy;
    size_t                     out_size;
    ngx_agent_egress_mint_t   *mint;       /* an answer that is kept back */
} ngx_agent_egress_ctx_t;


extern ngx_module_t  ngx_agent_egress_module;


/* ngx_agent_egress.c */
/* The access phase: what is done with a request before it goes out. */
ngx_int_t ngx_agent_egress_access(ngx_http_request_t *r);
/* Answer with a refusal. NGX_DONE, for a phase handler to return. */
ngx_int_t ngx_agent_egress_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *reason, const char *message, ngx_uint_t challenge);
/* The same when the vault could not be heard. */
ngx_int_t ngx_agent_egress_unavailable(ngx_http_request_t *r);
ngx_agent_egress_ctx_t *ngx_agent_egress_get_ctx(ngx_http_request_t *r);
/* Handler of an event whose data is a request: its phases go on. */
void ngx_agent_egress_go_on(ngx_event_t *ev);

/* ngx_agent_egress_vars.c */
ngx_int_t ngx_agent_egress_variables(ngx_conf_t *cf);

/* ngx_agent_egress_request.c: what is asked, and by whom */
/*
 * Fill in destination and workload. NULL, or the reason of a refusal with its
 * text in *message.
 */
const char *ngx_agent_egress_destination(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, const char **message);

/* ngx_agent_egress_stubs.c */
/* ctx->stubs. NGX_DECLINED: there are too many. */
ngx_int_t ngx_agent_egress_find_stubs(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);

/* ngx_agent_egress_swap.c */
/* Put the verdict's values in the stubs' places. */
ngx_int_t ngx_agent_egress_swap(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);

/* ngx_agent_egress_guard.c: what could be read in two ways, and the log */
/* NULL, or the reason of a refusal with its text in *message. */
const char *ngx_agent_egress_ambiguous(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, const char **message);
/* From here on lines of the connection's log are scrubbed, until _log_free. */
void ngx_agent_egress_log_guard(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
void ngx_agent_egress_log_free(ngx_agent_egress_ctx_t *ctx);

/* ngx_agent_egress_ask.c: the vault */
/* NGX_AGAIN: wait; NGX_OK: ctx->verdict is set, or NULL when there is none. */
ngx_int_t ngx_agent_egress_ask(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
/* The same question once more: what holds by now decides. */
void ngx_agent_egress_ask_again(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
/* The message as the body of a subrequest to the vault. */
ngx_int_t ngx_agent_egress_send(ngx_http_request_t *sr,
    ngx_agent_egress_ctx_t *ctx, const ProtobufCMessage *m);
/* What such a subrequest was answered, or NULL; to be freed unpacked. */
ProtobufCMessage *ngx_agent_egress_answer(ngx_http_request_t *sr,
    ngx_int_t rc, const ProtobufCMessageDescriptor *type);
/* What is asked about a request, in its pool; or NULL. */
Agent__Vault__V1__AuthorizeRequest *ngx_agent_egress_question(
    ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx);
/* NUL-terminated, in the request's pool. */
char *ngx_agent_egress_text(ngx_http_request_t *r, ngx_str_t *s);
/* Tell of values that were taken out; best effort. */
void ngx_agent_egress_report(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, const char *where);

/* ngx_agent_egress_batch.c: what is asked in one call */
/* Have the vault asked; the request's phases run again when ctx->answered. */
void ngx_agent_egress_batch_add(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
/* The request goes away, or has its answer. */
void ngx_agent_egress_batch_leave(ngx_agent_egress_ctx_t *ctx);
/* In each worker. */
void ngx_agent_egress_batch_init(ngx_cycle_t *cycle);

/* ngx_agent_egress_park.c: requests that a person decides about */
/* With a verdict ASK, and while parked. NGX_AGAIN: wait, until the state is
 * ASKING again; else what the phase handler returns. */
ngx_int_t ngx_agent_egress_park(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);

/* ngx_agent_egress_sign.c: requests that the vault signs */
/* With a verdict SIGN: what the phase handler returns. */
ngx_int_t ngx_agent_egress_sign(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
/* After the swap: the verdict's signatures. */
ngx_int_t ngx_agent_egress_set_signed(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);

/* ngx_agent_egress_grpc.c */
ngx_uint_t ngx_agent_egress_is_grpc(ngx_http_request_t *r);
ngx_uint_t ngx_agent_egress_is_grpc_type(ngx_str_t *type);
/* Does a grpc-encoding say that messages are packed? */
ngx_uint_t ngx_agent_egress_grpc_is_packed(ngx_list_t *headers);
/* From here on the request is of the location of that name. */
ngx_int_t ngx_agent_egress_grpc_enter(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, ngx_str_t *name);
/* A refusal that gRPC clients can read; what the handler finalizes with. */
ngx_int_t ngx_agent_egress_grpc_refuse(ngx_http_request_t *r,
    ngx_uint_t status, const char *reason, const char *message);
ngx_int_t ngx_agent_egress_grpc_init(ngx_conf_t *cf);

/* ngx_agent_egress_watch.c: requests that end with their session */
/* Before the vault is asked. */
void ngx_agent_egress_watch_mark(ngx_agent_egress_ctx_t *ctx);
/* Allowed: cut from here on. NGX_DECLINED: it ended meanwhile. */
ngx_int_t ngx_agent_egress_watch(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
/* In each worker. */
void ngx_agent_egress_watch_init(ngx_cycle_t *cycle, ngx_str_t *path);

/* ngx_agent_egress_refusal.c: what is refused here, for the audit */
void ngx_agent_egress_report_refusal(ngx_http_request_t *r,
    const char *reason);
/* A request of the bridge: "/reason/count", about its Host. */
ngx_int_t ngx_agent_egress_take_report(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
/* ctx->shape was seen, or masked, and the request goes on. */
void ngx_agent_egress_report_shape(ngx_http_request_t *r,
    const char *reason);

/* ngx_agent_egress_outbound.c: the search of what goes out */
/* With a verdict that allows. NGX_OK: it may go on; NGX_AGAIN: wait; else what
 * the phase handler returns. */
ngx_int_t ngx_agent_egress_outbound(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);

/* The next bytes of a body that is not read before it is sent. NULL, or why
 * the stream ends here; what is masked is masked in place. */
const char *ngx_agent_egress_outbound_piece(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, ag_str_t piece);

/* ngx_agent_egress_table.c: fingerprints of tenants */
/* The verdict's, which is the caller's to release, or NULL where the tenant has
 * none. NGX_OK; NGX_AGAIN: it is fetched, wait; NGX_ERROR: it cannot be had. */
ngx_int_t ngx_agent_egress_table(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, ngx_agent_table_t **table);
void ngx_agent_table_release(ngx_agent_table_t *t);

/* ngx_agent_egress_dial.c: from the name to a vetted address */
/* NGX_AGAIN: wait; NGX_OK: ctx->addrs, or ctx->dial_error is set. */
ngx_int_t ngx_agent_egress_resolve(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);
char *ngx_agent_egress_dial(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* ngx_agent_egress_filter.c: the way back */
ngx_int_t ngx_agent_egress_filter_init(ngx_conf_t *cf);
/* Take patterns out of the headers of the answer. */
ngx_int_t ngx_agent_egress_scrub_headers(ngx_http_request_t *r,
    struct ngx_agent_scrub *s);
/* Patterns of the verdict. */
ngx_int_t ngx_agent_egress_scrub_init(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx);

/* ngx_agent_egress_mint.c: credentials in answers; after _filter_init */
ngx_int_t ngx_agent_egress_mint_init(ngx_conf_t *cf);

/* A view. */
static ngx_inline ag_str_t
ngx_agent_view(ngx_str_t s)
{
    return ag_str_n(s.data, s.len);
}

#endif
