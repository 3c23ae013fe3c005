/*
 * The route table: which method of a service a request asks for.
 * Generated from the google.api.http annotations of proto/; knows no nginx.
 */
#ifndef NGX_AGENT_ROUTE_H
#define NGX_AGENT_ROUTE_H

#include <protobuf-c/protobuf-c.h>

#include "lib/arena.h"
#include "lib/err.h"

enum ngx_agent_service {
    NGX_AGENT_BRAIN,
    NGX_AGENT_VAULT,
    NGX_AGENT_SANDBOX,
    NGX_AGENT_SERVICES
};

struct ngx_agent_route {
    const char *verb;
    const char *path; /* "/v1/agents/{agent_id}" */
    enum ngx_agent_service service;
    const char *grpc_path; /* "/agent.brain.v1.AgentService/GetAgent" */
    const ProtobufCMessageDescriptor *input, *output;
    const char *body;          /* "*" when the body is the message, or "" */
    const char *response_body; /* "" */
    unsigned scopes;           /* any one of them is enough (lib/scope.h) */
    bool is_bound;             /* needs an assertion for this one request */
    bool streams;              /* answers become server-sent events */
};

struct ngx_agent_param {
    ag_str_t name, value;
    bool is_header; /* yields to nothing and hides the query's */
};

#define NGX_AGENT_PARAMS_MAX 8

struct ngx_agent_match {
    const struct ngx_agent_route *route;
    struct ngx_agent_param params[NGX_AGENT_PARAMS_MAX];
    size_t n_params;
};

/*
 * Find the route of `verb` and the raw path (no query). Parameters are
 * percent-decoded into `arena`.
 *
 * Returns 0, or -1 with AG_ERR_NOT_FOUND for an unknown path, or -1 with
 * AG_ERR_UNIMPLEMENTED when the path has other verbs: see ngx_agent_route_allow.
 */
int ngx_agent_route_find(ag_str_t verb, ag_str_t path, struct ngx_agent_match *m,
                         struct ag_arena *arena, struct ag_err *err);

/* "GET, POST": the verbs of a path, in `arena`; "" for an unknown path. */
const char *ngx_agent_route_allow(ag_str_t path, struct ag_arena *arena);

/* The route with that gRPC path, or NULL. */
const struct ngx_agent_route *ngx_agent_route_by_grpc(ag_str_t grpc_path);

/* All routes, for tests. */
const struct ngx_agent_route *ngx_agent_route_table(size_t *n);

/*
 * Decode %XX (and, in a query, '+') into `arena`. False when malformed.
 */
bool ngx_agent_percent_decode(ag_str_t s, bool is_query, struct ag_arena *arena,
                              ag_str_t *out);

#endif
