/* Terms of data keys: in memory, sorted by version. */
#include "vault_svc/vault_term.h"

#include "vault_svc/vault_start.h"

struct vault_term
vault_term_newest(const struct vault_tenant *tenant)
{
    struct vault_term first = {.version = 1, .created_us = tenant->created_us};

    if (tenant->n_terms > 0)
        return tenant->terms[tenant->n_terms - 1];
    memcpy(first.seal, tenant->ring.seal, sizeof(first.seal));
    return first;
}

const unsigned char *
vault_term_key(const struct vault_tenant *tenant, int64_t version)
{
    if (version == 1)
        return tenant->ring.seal;
    for (size_t i = 0; i < tenant->n_terms; i++)
        if (tenant->terms[i].version == version)
            return tenant->terms[i].seal;
    return NULL;
}

void
vault_term_aad(struct ag_buf *aad, ag_str_t tenant, int64_t version)
{
    vault_field(aad, AG_STR("brainbox-tenant-key-v1"));
    vault_field(aad, tenant);
    vault_field_int(aad, version);
}

int
vault_term_add(struct vault_tenant *tenant, int64_t version, int64_t created_us,
               ag_str_t data_key, struct ag_err *err)
{
    struct vault_keyring ring;

    if (data_key.n != VAULT_KEY_BYTES || version < 2)
        return ag_err_set(err, AG_ERR_CORRUPT, "data key %lld",
                          (long long)version);
    tenant->terms = ag_xrealloc(tenant->terms,
                                (tenant->n_terms + 1) * sizeof(*tenant->terms));
    size_t at = tenant->n_terms++;
    for (; at > 0 && tenant->terms[at - 1].version > version; at--)
        tenant->terms[at] = tenant->terms[at - 1];
    vault_keyring_init(&ring, (const unsigned char *)data_key.p);
    tenant->terms[at] = (struct vault_term){version, created_us, {0}};
    memcpy(tenant->terms[at].seal, ring.seal, sizeof(ring.seal));
    ag_wipe(&ring, sizeof(ring));
    return 0;
}

struct loading {
    struct vault *v;
    struct vault_tenant *tenant;
};

static int
read_terms(void *arg, const struct ag_db_result *res, struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    struct loading *l = arg;

    for (int i = 0; i < ag_db_rows(res); i++) {
        AG_AUTO(ag_buf_release) struct ag_buf aad = AG_BUF_INIT(512);
        AG_AUTO(ag_buf_wipe) struct ag_buf key = AG_BUF_INIT(64);
        int64_t version = ag_db_get_int(res, i, 0);
        if (version == 1) {
            l->tenant->created_us = ag_db_get_int(res, i, 2);
            continue;
        }
        vault_term_aad(&aad, ag_str(l->tenant->name), version);
        if (vault_keeper_ask_now(
                l->v->conf->keeper, KEEPER_UNWRAP, ag_buf_str(&aad),
                ag_db_get_bytes(res, i, 1, arena), &key, NULL, err)
                < 0
            || vault_term_add(l->tenant, version, ag_db_get_int(res, i, 2),
                              ag_buf_str(&key), err)
                   < 0)
            return ag_err_wrap(err, "data key %lld of tenant \"%s\"",
                               (long long)version, l->tenant->name);
    }
    return 0;
}

int
vault_terms_load(struct vault *v, struct ag_err *err)
{
    static const char sql[] =
        "SELECT 1, NULL::bytea, created_us FROM vault.tenant UNION ALL"
        " SELECT version, wrapped_key, created_us FROM vault.data_key";

    for (size_t i = 0; i < v->n_tenants; i++) {
        struct loading l = {v, v->tenants[i]};
        if (vault_query_now(v, ag_str(l.tenant->name), sql, NULL, 0, read_terms,
                            &l, err)
            < 0)
            return -1;
    }
    return 0;
}
