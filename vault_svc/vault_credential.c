/*
 * Making a credential: what a value must be, sealing it, writing the row. Used
 * by VaultService and by the import of the environment.
 */
#include "vault_svc/vault_credential.h"

#include <ctype.h>
#include <time.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "lib/without.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_page.h"

int
vault_value_check(ag_str_t value, const char *field, struct ag_err *err)
{
    if (value.n < VAULT_VALUE_MIN || value.n > VAULT_PLAIN_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: has %zu bytes; a value has %d to %d (shorter "
                          "ones cannot be scrubbed safely)",
                          field, value.n, VAULT_VALUE_MIN, VAULT_PLAIN_MAX);
    for (size_t i = 0; i < value.n; i++)
        if (((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
            && !ag_without("control_characters"))
            return ag_err_set(err, AG_ERR_INVALID,
                              "%s: byte %zu is a control character", field, i);
    return 0;
}

int
vault_expiry_parse(const char *text, int64_t *out, struct ag_err *err)
{
    struct tm tm = {0};

    *out = 0;
    if (*text == '\0')
        return 0;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    time_t at = end != NULL && *end == '\0' ? timegm(&tm) : -1;
    if (at <= 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "expires_at: not a time like "
                          "\"2027-01-31T12:00:00Z\"");
    *out = (int64_t)at * 1000000;
    return 0;
}

bool
vault_env_name_is_valid(ag_str_t name)
{
    if (name.n == 0 || name.n > 128 || isdigit((unsigned char)name.p[0]))
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!isalnum((unsigned char)name.p[i]) && name.p[i] != '_')
            return false;
    return true;
}

int
vault_credential_make(struct vault *v, const struct vault_tenant *tenant,
                      const struct vault_new_credential *in,
                      struct ag_arena *arena, struct vault_credential_row *out,
                      struct ag_err *err)
{
    char id[AG_ID_TEXT];
    unsigned char mac[VAULT_MAC_BYTES];

    ag_id_new("vcrd", id);
    *out = (struct vault_credential_row){
        .id = ag_arena_copy(arena, ag_str(id)),
        .vault_id = in->vault_id,
        .auth = in->auth,
        .metadata = in->metadata,
        .binding = in->binding,
        .env_name = in->env_name,
        .stub_prefix = ag_arena_copy(
            arena, vault_shape_stub_prefix(&v->shapes, in->value)),
        .display_name = in->display_name,
        .expires_us = in->expires_us,
        .session_id = in->session_id,
        .parent_id = in->parent_id,
        .is_for_brain = in->is_for_brain,
        .is_model = in->is_model,
        .version = 1,
        .created_us = ag_now_us(),
    };
    out->updated_us = out->created_us;
    if (vault_credential_seal(tenant, out, in->value, arena, err) < 0)
        return -1;
    vault_credential_mac(tenant, out, mac);
    out->mac = ag_arena_copy(arena, ag_str_n(mac, sizeof(mac)));
    return 0;
}

void
vault_credential_insert(struct vault *v, const struct vault_tenant *tenant,
                        const struct vault_credential_row *row,
                        ag_db_done *done, void *arg)
{
    static const char sql[] =
        "INSERT INTO vault.credential (id, tenant, vault_id, auth, metadata,"
        " binding, env_name, stub_prefix, display_name, sealed, mac,"
        " is_for_brain, is_model, version, created_us, updated_us,"
        " key_version, expires_us)"
        " SELECT $1, $2, v.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
        " $14, $15, $15, $16::integer,"
        " nullif($17::bigint, 0) FROM vault.vault v"
        " WHERE v.id = $3 AND v.archived_us IS NULL RETURNING id";
    ag_str_t name = ag_str(tenant->name);
    struct ag_db_param params[] = {ag_db_str(row->id),
                                   ag_db_str(name),
                                   ag_db_str(row->vault_id),
                                   ag_db_str(row->auth),
                                   ag_db_str(row->metadata),
                                   ag_db_str(row->binding),
                                   ag_db_str(row->env_name),
                                   ag_db_str(row->stub_prefix),
                                   row->display_name.p == NULL
                                       ? ag_db_null()
                                       : ag_db_str(row->display_name),
                                   ag_db_bytes(row->sealed),
                                   ag_db_bytes(row->mac),
                                   ag_db_bool(row->is_for_brain),
                                   ag_db_bool(row->is_model),
                                   ag_db_int(row->version),
                                   ag_db_int(row->created_us),
                                   ag_db_int(row->key_version),
                                   ag_db_int(row->expires_us)};
    ag_db_query(v->db, name, sql, params, 17, done, arg);
}
