/*
 * What the generated code (build/gen/agent_rpc.h) says of methods and files.
 */
#ifndef LIB_RPC_METHOD_H
#define LIB_RPC_METHOD_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

struct ag_rpc_method {
    const char *path; /* "/package.Service/Method" */
    const ProtobufCMessageDescriptor *input;
    const ProtobufCMessageDescriptor *output;
    unsigned scopes; /* any one is enough (lib/scope.h); 0: of no principal */
    bool client_streams;
    bool server_streams;
};

/* A serialized FileDescriptorProto, for reflection; the list ends with NULL. */
struct ag_rpc_file {
    const char *name;
    const unsigned char *data;
    size_t n;
    const char *const *symbols; /* full names it declares; NULL-terminated */
};

#endif
