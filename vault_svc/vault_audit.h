/*
 * The audit log: a chain of MACed rows for each tenant. This process is its
 * only writer, so rows are numbered and MACed in memory and written in batches
 * of all tenants (group commit). A row whose fate is unknown makes the head be
 * read again.
 */
#ifndef VAULT_AUDIT_H
#define VAULT_AUDIT_H

#include "vault_svc/vault.h"

struct vault_audit_entry {
    const char *action; /* "egress.allowed", … */
    ag_str_t subject, object, session_id;
    ag_str_t detail_json; /* empty is {} */
};

/* `audit_id` is NULL, and `err` set, when the row is not committed. */
typedef void
vault_audit_done(void *arg, const char *audit_id, const struct ag_err *err);

/* Made before the first row is added; freed behind the database. */
struct vault_audit_writer *vault_audit_writer_new(struct vault *v);
void vault_audit_writer_free(struct vault_audit_writer *w);

struct vault_chain *vault_chain_new(void);
void vault_chain_free(struct vault_chain *chain);

/* Sequence and MAC of the last committed row; false when it is not known. */
bool vault_chain_head(const struct vault_chain *chain, int64_t *seq,
                      unsigned char mac[VAULT_MAC_BYTES]);

/* Strings are copied. `done` is called on the loop, never from inside. */
void vault_audit_add(struct vault *v, struct vault_tenant *tenant,
                     const struct vault_audit_entry *entry,
                     vault_audit_done *done, void *arg);

/* Add the row of a method's success, then send op->reply. */
void vault_audit_reply(struct vault_op *op, const char *action, ag_str_t object,
                       ag_str_t session_id, ag_str_t detail_json,
                       const ProtobufCMessage *reply);

/* The MAC of a row: what `audit verify` recomputes. */
struct vault_audit_row {
    ag_str_t tenant, id, action, subject, object, session_id, detail;
    int64_t seq, created_us;
};
void vault_audit_mac(const struct vault_keyring *ring,
                     const struct vault_audit_row *row,
                     const unsigned char prev[VAULT_MAC_BYTES],
                     unsigned char out[VAULT_MAC_BYTES]);

void vault_audit_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
