/*
 * JSON <-> protobuf by descriptor. Knows no resource, no carrier and no nginx;
 * the rules stand at the top of proto/brain.proto.
 */
#ifndef NGX_AGENT_CODEC_H
#define NGX_AGENT_CODEC_H

#include <protobuf-c/protobuf-c.h>

#include "lib/buf.h"
#include "ngx_agent_module/ngx_agent_route.h"

/* Longest answer, as a message and as JSON. */
#define NGX_AGENT_MESSAGE_MAX (16 * 1024 * 1024)
#define NGX_AGENT_JSON_MAX (64 * 1024 * 1024)

/* What a request is made of. */
struct ngx_agent_request {
    const ProtobufCMessageDescriptor *desc;
    const struct ngx_agent_param *params; /* from the path and from headers */
    size_t n_params;
    ag_str_t query; /* raw, without '?' */
    ag_str_t body;  /* JSON, or empty */
    bool has_body;  /* the route takes one; empty then means {} */
    size_t depth_max;
};

/*
 * Append the serialized message that `rq` means to `out`. `arena` holds what
 * is decoded on the way.
 *
 * Returns 0, or -1 with AG_ERR_INVALID and a message that begins with the path
 * of the field, "events[0].type: …". `out` may then hold a part.
 */
int ngx_agent_codec_encode(const struct ngx_agent_request *rq,
                           struct ag_arena *arena, struct ag_buf *out,
                           struct ag_err *err);

/*
 * Append the serialized `message` as a JSON object to `out`, which must have
 * no limit below NGX_AGENT_JSON_MAX.
 *
 * Returns 0, or -1 with AG_ERR_CORRUPT (does not parse) or AG_ERR_LIMIT.
 */
int ngx_agent_codec_decode(const ProtobufCMessageDescriptor *desc,
                           ag_str_t message, struct ag_buf *out,
                           struct ag_err *err);

/*
 * Append the text of the string field `name` of the serialized `message`, as
 * it is: the whole answer of a route with a response_body.
 *
 * Returns 0, or -1 with AG_ERR_CORRUPT.
 */
int ngx_agent_codec_text(const ProtobufCMessageDescriptor *desc,
                         const char *name, ag_str_t message,
                         struct ag_buf *out, struct ag_err *err);

/* True when every field is of a type that both directions know. */
bool ngx_agent_codec_knows(const ProtobufCMessageDescriptor *desc);

/* Standard base64 with padding, and its inverse (also without padding). */
void ngx_agent_base64_add(struct ag_buf *out, ag_str_t s);
int ngx_agent_base64_append(struct ag_buf *out, ag_str_t text,
                            struct ag_err *err);

#endif
