/*
 * What the handlers of VaultService share, and how they are registered.
 */
#ifndef VAULT_RPC_H
#define VAULT_RPC_H

#include <protobuf-c/protobuf-c.h>

#include "vault_svc/vault_store.h"

/* A bytes field as a view, and a view as a bytes field of the op's arena. */
ag_str_t vault_op_bytes(ProtobufCBinaryData b);
ProtobufCBinaryData vault_op_data(struct vault_op *op, ag_str_t s);

/* `metadata`: absent becomes {}; an object of at most 16 strings otherwise. */
int vault_metadata_check(struct vault_op *op, ag_str_t in, ag_str_t *out,
                         struct ag_err *err);

/* Register the methods about vaults, about credentials. */
void vault_vaults_serve(struct ag_rpc_server *srv, struct vault_face *face);
void vault_credential_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
