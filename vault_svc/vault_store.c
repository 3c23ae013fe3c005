/*
 * Reading and authenticating rows of schema vault. Pure but for the reading of
 * a result. Each kind of row has a domain of its own, with a version, in its
 * MAC.
 */
#include "vault_svc/vault_store.h"

#include "vault_svc/vault_oauth_auth.h"
#include "vault_svc/vault_term.h"

static void
begin(struct ag_buf *b, const struct vault_tenant *tenant, const char *domain)
{
    ag_buf_init(b, 1 << 20);
    vault_field(b, ag_str(domain));
    vault_field(b, ag_str(tenant->name));
}

static void
end(struct ag_buf *b, const struct vault_tenant *tenant,
    unsigned char out[VAULT_MAC_BYTES])
{
    vault_hmac(tenant->ring.mac, ag_buf_str(b), out);
    ag_buf_release(b);
}

static int
compare(const unsigned char want[VAULT_MAC_BYTES], ag_str_t got,
        const char *what, ag_str_t id, struct ag_err *err)
{
    if (ag_str_eq_ct(ag_str_n(want, VAULT_MAC_BYTES), got))
        return 0;
    return ag_err_set(err, AG_ERR_CORRUPT,
                      "%s %.*s does not check: the row was changed outside "
                      "the vault",
                      what, AG_FMT(id));
}

static ag_str_t
text(const struct ag_db_result *res, int row, int col, struct ag_arena *arena)
{
    if (ag_db_is_null(res, row, col))
        return (ag_str_t){NULL, 0};
    return ag_arena_copy(arena, ag_db_get(res, row, col));
}

/* 0 for null. */
static int64_t
number(const struct ag_db_result *res, int row, int col)
{
    return ag_db_is_null(res, row, col) ? 0 : ag_db_get_int(res, row, col);
}

void
vault_credential_read(const struct ag_db_result *res, int row, int col,
                      struct ag_arena *arena, struct vault_credential_row *out)
{
    ag_str_t *texts[] = {&out->id,          &out->vault_id,    &out->auth,
                         &out->metadata,    &out->binding,     &out->env_name,
                         &out->stub_prefix, &out->display_name};

    for (int i = 0; i < 8; i++)
        *texts[i] = text(res, row, col + i, arena);
    out->sealed = ag_db_get_bytes(res, row, col + 8, arena);
    out->mac = ag_db_get_bytes(res, row, col + 9, arena);
    out->is_for_brain = ag_db_get_bool(res, row, col + 10);
    out->is_model = ag_db_get_bool(res, row, col + 11);
    out->version = number(res, row, col + 12);
    out->created_us = number(res, row, col + 13);
    out->updated_us = number(res, row, col + 14);
    out->archived_us = number(res, row, col + 15);
    out->session_id = text(res, row, col + 16, arena);
    out->parent_id = text(res, row, col + 17, arena);
    out->key_version = number(res, row, col + 18);
    out->expires_us = number(res, row, col + 19);
}

void
vault_credential_mac(const struct vault_tenant *tenant,
                     const struct vault_credential_row *row,
                     unsigned char out[VAULT_MAC_BYTES])
{
    const ag_str_t texts[] = {
        row->id,          row->vault_id,     row->auth,
        row->metadata,    row->binding,      row->env_name,
        row->stub_prefix, row->display_name, row->sealed};
    struct ag_buf b;

    begin(&b, tenant, "brainbox-row-credential-v1");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        vault_field(&b, texts[i]);
    vault_field_int(&b, row->is_for_brain);
    vault_field_int(&b, row->is_model);
    vault_field_int(&b, row->version);
    vault_field_int(&b, row->created_us);
    vault_field_int(&b, row->updated_us);
    vault_field_int(&b, row->archived_us);
    if (row->expires_us != 0)
        vault_field_int(&b, row->expires_us);
    /* What a person made has neither; the number of fields tells them apart. */
    if (row->session_id.p != NULL) {
        vault_field(&b, row->session_id);
        vault_field(&b, row->parent_id);
    }
    end(&b, tenant, out);
}

int
vault_credential_check(const struct vault_tenant *tenant,
                       const struct vault_credential_row *row,
                       struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];
    vault_credential_mac(tenant, row, want);
    return compare(want, row->mac, "credential", row->id, err);
}

static int
open_all(const struct vault_tenant *tenant,
         const struct vault_credential_row *row, ag_secret_t *out,
         struct ag_err *err)
{
    const struct vault_record_id id = {ag_str(tenant->name), row->id,
                                       row->version, row->binding};
    const unsigned char *key = vault_term_key(tenant, row->key_version);

    if (key == NULL)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "credential %.*s names data key %lld, which is not "
                          "there",
                          AG_FMT(row->id), (long long)row->key_version);
    if (vault_open(key, &id, row->sealed, out, err) < 0)
        return ag_err_wrap(err, "credential %.*s", AG_FMT(row->id));
    return 0;
}

int
vault_credential_open_all(const struct vault_tenant *tenant,
                          const struct vault_credential_row *row,
                          ag_secret_t *out, struct ag_err *err)
{
    if (vault_credential_check(tenant, row, err) < 0)
        return -1;
    return open_all(tenant, row, out, err);
}

int
vault_credential_open_checked(const struct vault_tenant *tenant,
                              const struct vault_credential_row *row,
                              ag_secret_t *out, struct ag_err *err)
{
    AG_AUTO(ag_secret_release) ag_secret_t all = AG_SECRET_INIT;

    if (!vault_auth_is_oauth(row->auth))
        return open_all(tenant, row, out, err);
    if (open_all(tenant, row, &all, err) < 0)
        return -1;
    *out = ag_secret_copy(all.p, strnlen((const char *)all.p, all.n));
    return 0;
}

int
vault_credential_open(const struct vault_tenant *tenant,
                      const struct vault_credential_row *row, ag_secret_t *out,
                      struct ag_err *err)
{
    if (vault_credential_check(tenant, row, err) < 0)
        return -1;
    return vault_credential_open_checked(tenant, row, out, err);
}

int
vault_credential_seal(const struct vault_tenant *tenant,
                      struct vault_credential_row *row, ag_str_t value,
                      struct ag_arena *arena, struct ag_err *err)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf sealed = AG_BUF_INIT(VAULT_PLAIN_MAX + VAULT_SEAL_OVERHEAD);
    const struct vault_record_id id = {ag_str(tenant->name), row->id,
                                       row->version, row->binding};
    struct vault_term term = vault_term_newest(tenant);
    int rc = vault_seal(term.seal, &id, value, &sealed, err);

    row->key_version = term.version;
    ag_wipe(&term, sizeof(term));
    if (rc == 0)
        row->sealed = ag_arena_copy(arena, ag_buf_str(&sealed));
    return rc;
}

void
vault_key_read(const struct ag_db_result *res, int row, struct ag_arena *arena,
               struct vault_key_row *out)
{
    out->id = text(res, row, 0, arena);
    out->name = text(res, row, 1, arena);
    out->scopes = text(res, row, 2, arena);
    out->key_hash = ag_db_get_bytes(res, row, 3, arena);
    out->mac = ag_db_get_bytes(res, row, 4, arena);
    out->created_us = number(res, row, 5);
    out->revoked_us = number(res, row, 6);
    out->last_used_us = number(res, row, 7);
    out->role_id = text(res, row, 8, arena);
}

void
vault_key_mac(const struct vault_tenant *tenant,
              const struct vault_key_row *row,
              unsigned char out[VAULT_MAC_BYTES])
{
    struct ag_buf b;
    begin(&b, tenant, "brainbox-row-key-v1");
    vault_field(&b, row->id);
    vault_field(&b, row->name);
    vault_field(&b, row->scopes);
    vault_field(&b, row->key_hash);
    vault_field_int(&b, row->created_us);
    vault_field_int(&b, row->revoked_us);
    /* The number of fields tells a key with a role from one without. */
    if (row->role_id.p != NULL)
        vault_field(&b, row->role_id);
    end(&b, tenant, out);
}

int
vault_key_check(const struct vault_tenant *tenant,
                const struct vault_key_row *row, struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];
    vault_key_mac(tenant, row, want);
    return compare(want, row->mac, "key", row->id, err);
}

void
vault_role_read(const struct ag_db_result *res, int row, struct ag_arena *arena,
                struct vault_role_row *out)
{
    out->id = text(res, row, 0, arena);
    out->name = text(res, row, 1, arena);
    out->description = text(res, row, 2, arena);
    out->scopes = text(res, row, 3, arena);
    out->mac = ag_db_get_bytes(res, row, 4, arena);
    out->version = number(res, row, 5);
    out->created_us = number(res, row, 6);
    out->updated_us = number(res, row, 7);
    out->deleted_us = number(res, row, 8);
    out->audited = number(res, row, 9);
    out->n_keys = number(res, row, 10);
}

void
vault_role_mac(const struct vault_tenant *tenant,
               const struct vault_role_row *row,
               unsigned char out[VAULT_MAC_BYTES])
{
    struct ag_buf b;
    begin(&b, tenant, "brainbox-row-role-v1");
    vault_field(&b, row->id);
    vault_field(&b, row->name);
    vault_field(&b, row->description);
    vault_field(&b, row->scopes);
    vault_field_int(&b, row->version);
    vault_field_int(&b, row->created_us);
    vault_field_int(&b, row->updated_us);
    vault_field_int(&b, row->deleted_us);
    end(&b, tenant, out);
}

int
vault_role_check(const struct vault_tenant *tenant,
                 const struct vault_role_row *row, struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];
    vault_role_mac(tenant, row, want);
    if (compare(want, row->mac, "role", row->id, err) < 0)
        return -1;
    if (row->version < row->audited)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "role %.*s has version %lld, and the audit knows "
                          "version %lld: an older row was put back",
                          AG_FMT(row->id), (long long)row->version,
                          (long long)row->audited);
    return 0;
}

void
vault_grant_read(const struct ag_db_result *res, int row, int col,
                 struct ag_arena *arena, struct vault_grant_row *out)
{
    out->session_id = text(res, row, col, arena);
    out->subject = text(res, row, col + 1, arena);
    out->vault_ids = text(res, row, col + 2, arena);
    out->environment_ids = text(res, row, col + 3, arena);
    out->request_sha256 = ag_db_get_bytes(res, row, col + 4, arena);
    out->mac = ag_db_get_bytes(res, row, col + 5, arena);
    out->created_us = number(res, row, col + 6);
    out->ended_us = number(res, row, col + 7);
    out->frozen_us = number(res, row, col + 8);
}

void
vault_grant_mac(const struct vault_tenant *tenant,
                const struct vault_grant_row *row,
                unsigned char out[VAULT_MAC_BYTES])
{
    struct ag_buf b;
    begin(&b, tenant, "brainbox-row-grant-v1");
    vault_field(&b, row->session_id);
    vault_field(&b, row->subject);
    vault_field(&b, row->vault_ids);
    vault_field(&b, row->environment_ids);
    vault_field(&b, row->request_sha256);
    vault_field_int(&b, row->created_us);
    vault_field_int(&b, row->ended_us);
    vault_field_int(&b, row->frozen_us);
    end(&b, tenant, out);
}

int
vault_grant_check(const struct vault_tenant *tenant,
                  const struct vault_grant_row *row, struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];
    vault_grant_mac(tenant, row, want);
    return compare(want, row->mac, "grant", row->session_id, err);
}

void
vault_policy_row_read(const struct ag_db_result *res, int row, int col,
                      struct ag_arena *arena, struct vault_policy_row *out)
{
    out->environment_id = text(res, row, col, arena);
    out->policy = text(res, row, col + 1, arena);
    out->digest = text(res, row, col + 2, arena);
    out->subject = text(res, row, col + 3, arena);
    out->mac = ag_db_get_bytes(res, row, col + 4, arena);
    out->version = number(res, row, col + 5);
    out->created_us = number(res, row, col + 6);
}

void
vault_policy_row_mac(const struct vault_tenant *tenant,
                     const struct vault_policy_row *row,
                     unsigned char out[VAULT_MAC_BYTES])
{
    struct ag_buf b;
    begin(&b, tenant, "brainbox-row-policy-v1");
    vault_field(&b, row->environment_id);
    vault_field_int(&b, row->version);
    vault_field(&b, row->policy);
    vault_field(&b, row->digest);
    vault_field(&b, row->subject);
    vault_field_int(&b, row->created_us);
    end(&b, tenant, out);
}

int
vault_policy_row_check(const struct vault_tenant *tenant,
                       const struct vault_policy_row *row, struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];
    vault_policy_row_mac(tenant, row, want);
    return compare(want, row->mac, "policy of", row->environment_id, err);
}

void
vault_workload_read(const struct ag_db_result *res, int row, int col,
                    struct ag_arena *arena, struct vault_workload_row *out)
{
    out->id = text(res, row, col, arena);
    out->session_id = text(res, row, col + 1, arena);
    out->environment_id = text(res, row, col + 2, arena);
    out->address = text(res, row, col + 3, arena);
    out->mac = ag_db_get_bytes(res, row, col + 4, arena);
    out->kind = number(res, row, col + 5);
    out->opened_us = number(res, row, col + 6);
}

void
vault_workload_mac(const struct vault_tenant *tenant,
                   const struct vault_workload_row *row,
                   unsigned char out[VAULT_MAC_BYTES])
{
    struct ag_buf b;
    begin(&b, tenant, "brainbox-row-workload-v1");
    vault_field(&b, row->id);
    vault_field(&b, row->session_id);
    vault_field(&b, row->environment_id);
    vault_field(&b, row->address);
    vault_field_int(&b, row->kind);
    vault_field_int(&b, row->opened_us);
    end(&b, tenant, out);
}

int
vault_workload_check(const struct vault_tenant *tenant,
                     const struct vault_workload_row *row, struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];
    vault_workload_mac(tenant, row, want);
    return compare(want, row->mac, "workload", row->id, err);
}

void
vault_stub_text(const struct vault_tenant *tenant, ag_str_t session_id,
                ag_str_t credential_id, int kind, ag_str_t nonce,
                ag_str_t prefix, struct ag_buf *out)
{
    static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char raw[VAULT_MAC_BYTES];
    struct ag_buf b;

    ag_buf_init(&b, 4096);
    vault_field(&b, AG_STR("brainbox-stub-v1"));
    vault_field(&b, session_id);
    vault_field(&b, credential_id);
    vault_field_int(&b, kind);
    vault_field(&b, nonce);
    vault_hmac(tenant->ring.stub, ag_buf_str(&b), raw);
    ag_buf_release(&b);

    ag_buf_add(out, prefix);
    ag_buf_add(out, AG_STR("bbxs"));
    /* 160 bits: 20 bytes are 32 characters of 5 bits. */
    for (int i = 0; i < 160; i += 5) {
        unsigned v = (unsigned)raw[i / 8] << 8 | raw[i / 8 + 1];
        ag_buf_addc(out, base32[(v >> (11 - i % 8)) & 31]);
    }
    ag_wipe(raw, sizeof(raw));
}
