/*
 * What stands on the wire around messages: gRPC's length-prefixed frames,
 * server-sent events, statuses. Knows no nginx.
 */
#ifndef NGX_AGENT_FRAME_H
#define NGX_AGENT_FRAME_H

#include <sys/types.h>

#include "lib/buf.h"

#define NGX_AGENT_FRAME_HEAD 5

/* Cuts a byte stream into messages, one at a time. */
struct ngx_agent_frames {
    unsigned char head[NGX_AGENT_FRAME_HEAD];
    size_t n_head;
    size_t want;           /* bytes of the message, once the head is whole */
    struct ag_buf message; /* its limit is the longest message */
};

void ngx_agent_frames_init(struct ngx_agent_frames *f, size_t max);
void ngx_agent_frames_release(struct ngx_agent_frames *f);

/*
 * Take bytes from `*in` up to the end of one message, at most.
 * Returns 1 when f->message holds a whole one (valid until the next call),
 * 0 when `*in` is used up, -1 with AG_ERR_CORRUPT (compressed, or a flag that
 * does not exist) or AG_ERR_LIMIT.
 */
int ngx_agent_frames_next(struct ngx_agent_frames *f, ag_str_t *in,
                          struct ag_err *err);

/* True between messages: the stream may end here. */
bool ngx_agent_frames_is_idle(const struct ngx_agent_frames *f);

/* Where messages end in a stream whose bytes are not kept. */
struct ngx_agent_walk {
    size_t n_head;
    size_t left; /* of the message, once the head is whole */
};

/*
 * Take bytes up to the end of one message, at most. Returns how many of the `n`
 * that were; *is_end: the message ends with them. -1 when the message is packed:
 * nobody can read it.
 */
ssize_t ngx_agent_walk_next(struct ngx_agent_walk *w, const unsigned char *p,
                            size_t n, bool *is_end);

/* Write the head of a message of `n` bytes. */
void ngx_agent_frame_head(unsigned char head[NGX_AGENT_FRAME_HEAD], size_t n);

/*
 * Append one server-sent event. `id` may be empty; line breaks in `type` and
 * `id` end the value, those in `data` begin a further `data:` line.
 */
int ngx_agent_sse_add(struct ag_buf *out, ag_str_t type, ag_str_t id,
                      ag_str_t data, struct ag_err *err);

/* One row of the table between error kinds, gRPC and HTTP. */
struct ngx_agent_status {
    enum ag_err_kind kind;
    int grpc;
    int http;
    const char *type;
};

const struct ngx_agent_status *ngx_agent_status_of_kind(enum ag_err_kind kind);
const struct ngx_agent_status *ngx_agent_status_of_grpc(int grpc);
/* For what nginx itself answers: 413, 502, … */
const struct ngx_agent_status *ngx_agent_status_of_http(int http);

/* Append the contract's error envelope. */
void ngx_agent_envelope_add(struct ag_buf *out, const char *type,
                            ag_str_t message, ag_str_t request_id);

/* Append `grpc-message` decoded or encoded (percent, RFC 3986 as gRPC has it). */
void ngx_agent_grpc_message_decode(struct ag_buf *out, ag_str_t raw);
void ngx_agent_grpc_message_encode(struct ag_buf *out, ag_str_t text);

#endif
