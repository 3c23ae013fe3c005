/*
 * A tenant's table of fingerprints, by which egress finds its values in what
 * leaves (lib/fingerprint.h, vault_form.h). It holds no value; it is made when
 * it is asked for, a few credentials at a time, and made again after one has
 * changed, at most every `fingerprints_ms`. Loop's thread only.
 */
#ifndef VAULT_SEARCH_H
#define VAULT_SEARCH_H

#include "lib/id.h"
#include "vault_svc/vault.h"

struct vault_search_entry {
    uint64_t fingerprint;
    uint32_t credential; /* index into ids */
    uint16_t before, after;
    uint8_t form;
};

struct vault_search_table {
    uint64_t number; /* never 0, and never the same for two tables */
    struct vault_search_entry *entries; /* ascending by fingerprint */
    size_t n;
    char (*ids)[AG_ID_TEXT];
    size_t n_ids;
};

/* A credential of the tenant was made, changed or taken away. */
void vault_search_change(struct vault_tenant *tenant);
/* The number that a table of this moment has or would have. */
uint64_t vault_search_number(struct vault_tenant *tenant);

/* `table` lives for the callback; NULL, with `err`, when it cannot be made. */
typedef void
vault_search_done(void *arg, const struct vault_search_table *table,
                  const struct ag_err *err);

/* Have the table, made or read again where that is due. `done` may be called
 * from inside. */
void vault_search_get(struct vault *v, struct vault_tenant *tenant,
                      vault_search_done *done, void *arg);

/* First entry with this fingerprint, or NULL; others follow it. */
const struct vault_search_entry *
vault_search_find(const struct vault_search_table *table, uint64_t fingerprint);

/* Fails whoever waits. NULL is a no-op. */
void vault_search_free(struct vault_search *search);

/* EgressService: Fingerprints and Confirm (vault_search_rpc.c). */
void vault_search_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
