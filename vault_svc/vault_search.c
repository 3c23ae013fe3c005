/* Making tables of fingerprints. */
#include "vault_svc/vault_search.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/fingerprint.h"
#include "lib/log.h"
#include "vault_svc/vault_form.h"
#include "vault_svc/vault_store.h"

/* So few that requests hardly wait while a part is made. */
enum { PART = 16 };

struct waiter {
    struct waiter *next;
    vault_search_done *done;
    void *arg;
};

struct vault_search {
    struct vault *v;
    struct vault_tenant *tenant;
    struct vault_search_table table; /* number 0: none yet */
    uint64_t number;                 /* moves with each change */
    int64_t made_us;
    struct waiter *waiters;
    /* While one is made: */
    bool is_making;
    struct vault_search_table next;
    size_t entries_cap, ids_cap, n_skipped;
    struct ag_fingerprint *hash;
};

static struct vault_search *
search_of(struct vault_tenant *tenant)
{
    if (tenant->search == NULL) {
        tenant->search = ag_xcalloc(1, sizeof(*tenant->search));
        tenant->search->tenant = tenant;
        /* Not a number that was used before a restart. */
        tenant->search->number = (uint64_t)ag_now_us();
    }
    return tenant->search;
}

void
vault_search_change(struct vault_tenant *tenant)
{
    search_of(tenant)->number++;
}

uint64_t
vault_search_number(struct vault_tenant *tenant)
{
    return search_of(tenant)->number;
}

static void
table_release(struct vault_search_table *t)
{
    free(t->entries);
    free(t->ids);
    *t = (struct vault_search_table){0};
}

static void
finish(struct vault_search *s, const struct ag_err *err)
{
    struct waiter *list = s->waiters, *w;

    if (s->hash != NULL)
        ag_wipe(s->hash, sizeof(*s->hash));
    free(s->hash);
    s->hash = NULL;
    s->is_making = false;
    s->waiters = NULL;
    while ((w = list) != NULL) {
        list = w->next;
        w->done(w->arg, err == NULL ? &s->table : NULL, err);
        free(w);
    }
}

static int
by_fingerprint(const void *a, const void *b)
{
    const struct vault_search_entry *x = a, *y = b;

    if (x->fingerprint != y->fingerprint)
        return x->fingerprint > y->fingerprint ? 1 : -1;
    return x->credential == y->credential
               ? (int)x->form - (int)y->form
               : (x->credential > y->credential ? 1 : -1);
}

static void
install(struct vault_search *s)
{
    if (s->next.n > 0)
        qsort(s->next.entries, s->next.n, sizeof(*s->next.entries),
              by_fingerprint);
    table_release(&s->table);
    s->table = s->next;
    s->next = (struct vault_search_table){0};
    s->made_us = ag_mono_us();
    ag_log(AG_DEBUG, "fingerprints.made", AG_S("tenant", s->tenant->name),
           AG_I("credentials", (long long)s->table.n_ids),
           AG_I("entries", (long long)s->table.n));
    if (s->n_skipped > 0)
        ag_log(AG_ERROR, "fingerprints.skipped",
               AG_S("tenant", s->tenant->name),
               AG_I("credentials", (long long)s->n_skipped));
}

/* ---- one credential ---------------------------------------------------- */

static struct vault_search_entry *
add_entry(struct vault_search *s)
{
    struct vault_search_table *t = &s->next;

    if (t->n == s->entries_cap) {
        s->entries_cap = s->entries_cap == 0 ? 64 : 2 * s->entries_cap;
        t->entries =
            ag_xrealloc(t->entries, s->entries_cap * sizeof(*t->entries));
    }
    return &t->entries[t->n++];
}

static uint32_t
add_id(struct vault_search *s, ag_str_t id)
{
    struct vault_search_table *t = &s->next;

    if (t->n_ids == s->ids_cap) {
        s->ids_cap = s->ids_cap == 0 ? 16 : 2 * s->ids_cap;
        t->ids = ag_xrealloc(t->ids, s->ids_cap * sizeof(*t->ids));
    }
    memset(t->ids[t->n_ids], 0, AG_ID_TEXT);
    memcpy(t->ids[t->n_ids], id.p, id.n < AG_ID_TEXT ? id.n : AG_ID_TEXT - 1);
    return (uint32_t)t->n_ids++;
}

static void
add_forms(struct vault_search *s, ag_str_t id, ag_str_t value)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf form = AG_BUF_INIT(VAULT_FORM_MAX);
    uint32_t at = add_id(s, id);

    for (int i = 0; i < VAULT_FORM_N; i++) {
        if (!vault_form_make(value, i, &form))
            continue;
        struct vault_form_window w = vault_form_window(ag_buf_str(&form));
        *add_entry(s) = (struct vault_search_entry){
            ag_fingerprint_of(s->hash, form.p + w.at), at, (uint16_t)w.before,
            (uint16_t)w.after, (uint8_t)i};
    }
}

/* A row that does not check has no value that could be looked for. */
static void
add_credential(struct vault_search *s, const struct vault_credential_row *row)
{
    AG_AUTO(ag_secret_release) ag_secret_t value = AG_SECRET_INIT;
    struct ag_err ignored = AG_ERR_INIT;

    if (vault_credential_open(s->tenant, row, &value, &ignored) < 0)
        s->n_skipped++;
    else
        add_forms(s, row->id, ag_secret_view(&value));
}

/* ---- all of them ------------------------------------------------------- */

static void read_part(struct vault_search *s, ag_str_t after);

static void
on_part(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    struct vault_search *s = arg;
    struct vault_credential_row row = {0};

    if (res == NULL) {
        table_release(&s->next);
        finish(s, err);
        return;
    }
    for (int i = 0; i < ag_db_rows(res); i++) {
        vault_credential_read(res, i, 0, arena, &row);
        add_credential(s, &row);
    }
    if (ag_db_rows(res) == PART) {
        read_part(s, row.id);
        return;
    }
    install(s);
    finish(s, NULL);
}

static void
read_part(struct vault_search *s, ag_str_t after)
{
    static const char sql[] =
        "SELECT " VAULT_CREDENTIAL_COLUMNS " FROM vault.credential c"
        " JOIN vault.vault v ON v.id = c.vault_id AND v.archived_us IS NULL"
        " WHERE c.archived_us IS NULL AND c.id > $1"
        " ORDER BY c.id LIMIT $2::bigint";
    struct ag_db_param params[] = {ag_db_str(after), ag_db_int(PART)};

    ag_db_query(s->v->db, ag_str(s->tenant->name), sql, params, 2, on_part, s);
}

static bool
is_due(const struct vault_search *s)
{
    if (s->table.number == 0)
        return true;
    return s->table.number != s->number
           && ag_mono_us() - s->made_us >= s->v->conf->fingerprints_ms * 1000;
}

void
vault_search_get(struct vault *v, struct vault_tenant *tenant,
                 vault_search_done *done, void *arg)
{
    struct vault_search *s = search_of(tenant);

    s->v = v;
    if (!s->is_making && !is_due(s)) {
        done(arg, &s->table, NULL);
        return;
    }
    struct waiter *w = ag_xcalloc(1, sizeof(*w));
    *w = (struct waiter){s->waiters, done, arg};
    s->waiters = w;
    if (s->is_making)
        return;
    s->is_making = true;
    s->next = (struct vault_search_table){.number = s->number};
    s->entries_cap = s->ids_cap = s->n_skipped = 0;
    s->hash = ag_xmalloc(sizeof(*s->hash));
    ag_fingerprint_init(s->hash, tenant->ring.find);
    read_part(s, AG_STR(""));
}

const struct vault_search_entry *
vault_search_find(const struct vault_search_table *table, uint64_t fingerprint)
{
    size_t lo = 0, hi = table->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (table->entries[mid].fingerprint < fingerprint)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < table->n && table->entries[lo].fingerprint == fingerprint
               ? &table->entries[lo]
               : NULL;
}

void
vault_search_free(struct vault_search *search)
{
    struct ag_err err = {AG_ERR_CANCELLED, 0, "shutting down"};

    if (search == NULL)
        return;
    finish(search, &err);
    table_release(&search->table);
    table_release(&search->next);
    free(search);
}
