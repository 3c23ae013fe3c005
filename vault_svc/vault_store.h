/*
 * Rows that carry a MAC: how they are read, what the MAC covers, and the check.
 * A row that does not check is AG_ERR_CORRUPT. Strings of a row live in the
 * arena it was read into.
 */
#ifndef VAULT_STORE_H
#define VAULT_STORE_H

#include "vault_svc/vault.h"

struct vault_credential_row {
    ag_str_t id, vault_id, auth, metadata, binding, env_name, stub_prefix;
    ag_str_t display_name; /* p == NULL: none */
    ag_str_t sealed, mac;
    ag_str_t session_id, parent_id; /* of one that was minted; else p == NULL */
    bool is_for_brain, is_model;
    int64_t version, created_us, updated_us, archived_us; /* 0: not */
    int64_t key_version; /* of the data key that sealed it */
    int64_t expires_us;  /* 0: nobody said */
};

#define VAULT_CREDENTIAL_COLUMNS                                         \
    "c.id, c.vault_id, c.auth, c.metadata, c.binding, c.env_name,"       \
    " c.stub_prefix, c.display_name, c.sealed, c.mac, c.is_for_brain,"   \
    " c.is_model, c.version, c.created_us, c.updated_us, c.archived_us," \
    " c.session_id, c.parent_id, c.key_version,"                         \
    " c.expires_us"
enum { VAULT_CREDENTIAL_N = 20 };

void
vault_credential_read(const struct ag_db_result *res, int row, int col,
                      struct ag_arena *arena, struct vault_credential_row *out);
void vault_credential_mac(const struct vault_tenant *tenant,
                          const struct vault_credential_row *row,
                          unsigned char out[VAULT_MAC_BYTES]);
int vault_credential_check(const struct vault_tenant *tenant,
                           const struct vault_credential_row *row,
                           struct ag_err *err);
/* Seal a value for the row's id, version and binding under the newest data key:
 * sets row->sealed, in `arena`, and row->key_version. */
int vault_credential_seal(const struct vault_tenant *tenant,
                          struct vault_credential_row *row, ag_str_t value,
                          struct ag_arena *arena, struct ag_err *err);
/* Check, and open everything that is sealed: the value, and behind it what
 * renews it (vault_oauth_auth.h). */
int vault_credential_open_all(const struct vault_tenant *tenant,
                              const struct vault_credential_row *row,
                              ag_secret_t *out, struct ag_err *err);
/* Check, and open the value. */
int vault_credential_open(const struct vault_tenant *tenant,
                          const struct vault_credential_row *row,
                          ag_secret_t *out, struct ag_err *err);

/* The same of a row that was checked when it was read, and is in memory since.
 * The seal covers tenant, id, version and binding once more. */
int vault_credential_open_checked(const struct vault_tenant *tenant,
                                  const struct vault_credential_row *row,
                                  ag_secret_t *out, struct ag_err *err);

struct vault_key_row {
    ag_str_t id, name, scopes, key_hash, mac;
    ag_str_t role_id; /* in place of scopes; p == NULL: none */
    int64_t created_us, revoked_us, last_used_us;
};

#define VAULT_KEY_COLUMNS                                                     \
    "id, name, scopes, key_hash, mac, created_us, revoked_us, last_used_us, " \
    "role_id"

void vault_key_read(const struct ag_db_result *res, int row,
                    struct ag_arena *arena, struct vault_key_row *out);
void vault_key_mac(const struct vault_tenant *tenant,
                   const struct vault_key_row *row,
                   unsigned char out[VAULT_MAC_BYTES]);
int vault_key_check(const struct vault_tenant *tenant,
                    const struct vault_key_row *row, struct ag_err *err);

struct vault_role_row {
    ag_str_t id, name, description, scopes, mac;
    int64_t version, created_us, updated_us, deleted_us; /* 0: not */
    int64_t audited; /* newest version that the audit names; 0: none */
    int64_t n_keys;  /* that have it and are not revoked */
};

#define VAULT_ROLE_COLUMNS                                                   \
    "r.id, r.name, r.description, r.scopes, r.mac, r.version, r.created_us," \
    " r.updated_us, r.deleted_us,"                                           \
    " (SELECT max((a.detail::json->>'version')::integer) FROM vault.audit a" \
    "  WHERE a.object = r.id"                                                \
    "  AND a.action IN ('role.created', 'role.updated', 'role.deleted')),"   \
    " (SELECT count(*) FROM vault.api_key k WHERE k.role_id = r.id"          \
    "  AND k.revoked_us IS NULL)"

void vault_role_read(const struct ag_db_result *res, int row,
                     struct ag_arena *arena, struct vault_role_row *out);
void vault_role_mac(const struct vault_tenant *tenant,
                    const struct vault_role_row *row,
                    unsigned char out[VAULT_MAC_BYTES]);
/* Also that no newer version is known: an older row's MAC checks, too. */
int vault_role_check(const struct vault_tenant *tenant,
                     const struct vault_role_row *row, struct ag_err *err);

struct vault_grant_row {
    ag_str_t session_id, subject, vault_ids, environment_ids; /* JSON arrays */
    ag_str_t request_sha256, mac;
    int64_t created_us, ended_us, frozen_us;
};

#define VAULT_GRANT_COLUMNS                                    \
    "g.session_id, g.subject, g.vault_ids, g.environment_ids," \
    " g.request_sha256, g.mac, g.created_us, g.ended_us, g.frozen_us"
enum { VAULT_GRANT_N = 9 };

void vault_grant_read(const struct ag_db_result *res, int row, int col,
                      struct ag_arena *arena, struct vault_grant_row *out);
void vault_grant_mac(const struct vault_tenant *tenant,
                     const struct vault_grant_row *row,
                     unsigned char out[VAULT_MAC_BYTES]);
int vault_grant_check(const struct vault_tenant *tenant,
                      const struct vault_grant_row *row, struct ag_err *err);

struct vault_policy_row {
    ag_str_t environment_id, policy, digest, subject, mac;
    int64_t version, created_us;
};

#define VAULT_POLICY_COLUMNS                                             \
    "p.environment_id, p.policy, p.digest, p.subject, p.mac, p.version," \
    " p.created_us"
enum { VAULT_POLICY_N = 7 };

void
vault_policy_row_read(const struct ag_db_result *res, int row, int col,
                      struct ag_arena *arena, struct vault_policy_row *out);
void vault_policy_row_mac(const struct vault_tenant *tenant,
                          const struct vault_policy_row *row,
                          unsigned char out[VAULT_MAC_BYTES]);
int
vault_policy_row_check(const struct vault_tenant *tenant,
                       const struct vault_policy_row *row, struct ag_err *err);

struct vault_workload_row {
    ag_str_t id, session_id, environment_id, address, mac;
    int64_t kind, opened_us;
};

#define VAULT_WORKLOAD_COLUMNS                                        \
    "w.id, w.session_id, w.environment_id, w.address, w.mac, w.kind," \
    " w.opened_us"
enum { VAULT_WORKLOAD_N = 7 };

void
vault_workload_read(const struct ag_db_result *res, int row, int col,
                    struct ag_arena *arena, struct vault_workload_row *out);
void vault_workload_mac(const struct vault_tenant *tenant,
                        const struct vault_workload_row *row,
                        unsigned char out[VAULT_MAC_BYTES]);
int
vault_workload_check(const struct vault_tenant *tenant,
                     const struct vault_workload_row *row, struct ag_err *err);

/*
 * The stub of (session, credential, kind): made from the row's nonce under the
 * tenant's stub key, so the database holds no stub. Appends prefix, "bbxs" and
 * 32 characters.
 */
enum { VAULT_NONCE_BYTES = 16, VAULT_STUB_BODY = 36 };
void vault_stub_text(const struct vault_tenant *tenant, ag_str_t session_id,
                     ag_str_t credential_id, int kind, ag_str_t nonce,
                     ag_str_t prefix, struct ag_buf *out);

#endif
