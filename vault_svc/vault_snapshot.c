/*
 * A table by key. Whoever decides holds a reference, so that a snapshot that is
 * dropped meanwhile lives until the answer is out.
 */
#include "vault_svc/vault_snapshot.h"

#include <stdlib.h>

#include "lib/clock.h"

enum { BUCKETS = 1024, KEPT_MAX = 4096, STALE_US = 60 * 1000000 };

/* Rows that a request reads, and who waits for them. */
struct reading {
    struct reading *next;
    char *key;
    struct vault_snapshot_wait *waiters;
};

struct vault_snapshots {
    struct vault_snapshot *buckets[BUCKETS];
    struct reading *readings[BUCKETS];
    size_t n;
    uint64_t opened; /* workloads, so far */
};

static size_t
slot_of(ag_str_t key)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < key.n; i++)
        h = (h ^ (unsigned char)key.p[i]) * 16777619u;
    return h % BUCKETS;
}

static struct vault_snapshot **
bucket_of(struct vault_snapshots *all, ag_str_t key)
{
    return &all->buckets[slot_of(key)];
}

static void
drop(struct vault_snapshots *all, struct vault_snapshot **at)
{
    struct vault_snapshot *s = *at;

    *at = s->next;
    s->is_kept = false;
    all->n--;
    vault_snapshot_unref(s);
}

static void
drop_all(struct vault_snapshots *all)
{
    for (size_t i = 0; i < BUCKETS; i++)
        while (all->buckets[i] != NULL)
            drop(all, &all->buckets[i]);
}

struct vault_snapshots *
vault_snapshots_new(void)
{
    return ag_xcalloc(1, sizeof(struct vault_snapshots));
}

void
vault_snapshots_free(struct vault_snapshots *all)
{
    if (all == NULL)
        return;
    drop_all(all);
    for (size_t i = 0; i < BUCKETS; i++)
        while (all->readings[i] != NULL) {
            struct reading *r = all->readings[i];
            all->readings[i] = r->next;
            free(r->key);
            free(r);
        }
    free(all);
}

static bool
is_good(const struct vault *v, const struct vault_snapshot *s)
{
    return s->changes == v->changes
           && ag_mono_us() - s->read_us < v->conf->snapshot_ms * 1000;
}

struct vault_snapshot *
vault_snapshot_find(struct vault *v, ag_str_t key)
{
    struct vault_snapshot **at = bucket_of(v->snapshots, key);

    while (*at != NULL) {
        if (ag_mono_us() - (*at)->read_us > STALE_US) {
            drop(v->snapshots, at);
            continue;
        }
        if (ag_str_is(key, (*at)->key) && is_good(v, *at)) {
            (*at)->refs++;
            (*at)->was_used = true;
            return *at;
        }
        at = &(*at)->next;
    }
    return NULL;
}

static struct vault_snapshot **
kept_at(struct vault *v, ag_str_t key)
{
    struct vault_snapshot **at = bucket_of(v->snapshots, key);

    while (*at != NULL && !ag_str_is(key, (*at)->key))
        at = &(*at)->next;
    return at;
}

struct vault_snapshot *
vault_snapshot_kept(struct vault *v, ag_str_t key)
{
    struct vault_snapshot *s = *kept_at(v, key);

    if (s == NULL || s->session.mark.n == 0)
        return NULL;
    s->refs++;
    return s;
}

size_t
vault_snapshot_aged(struct vault *v, int64_t age_us,
                    struct vault_snapshot **out, size_t max)
{
    int64_t before_us = ag_mono_us() - age_us;
    size_t n = 0;

    for (size_t i = 0; i < BUCKETS; i++)
        for (struct vault_snapshot *s = v->snapshots->buckets[i];
             s != NULL && n < max; s = s->next)
            if (s->was_used && s->session.mark.n > 0
                && s->read_us <= before_us) {
                s->refs++;
                out[n++] = s;
            }
    return n;
}

void
vault_snapshot_marked(struct vault *v, struct vault_snapshot *s, ag_str_t mark,
                      int64_t asked_us, uint64_t changes)
{
    if (!s->is_kept)
        return;
    if (!ag_str_eq(s->session.mark, mark)) {
        drop(v->snapshots, kept_at(v, ag_str(s->key)));
        return;
    }
    s->was_used = false;
    s->changes = changes;
    s->read_us = asked_us;
}

struct vault_snapshot *
vault_snapshot_begin(struct vault *v)
{
    struct vault_snapshot *s = ag_xcalloc(1, sizeof(*s));

    s->arena = ag_arena_new();
    s->refs = 1;
    s->changes = v->changes;
    s->opened = v->snapshots->opened;
    s->read_us = ag_mono_us();
    return s;
}

void
vault_snapshot_keep(struct vault *v, struct vault_snapshot *s, ag_str_t key)
{
    if (s->is_kept || !is_good(v, s) || s->opened != v->snapshots->opened)
        return;
    struct vault_snapshot **at = kept_at(v, key);
    if (*at != NULL)
        drop(v->snapshots, at);
    if (v->snapshots->n == KEPT_MAX)
        drop_all(v->snapshots);
    at = bucket_of(v->snapshots, key);
    s->key = ag_arena_cstr(s->arena, key);
    s->next = *at;
    s->is_kept = s->was_used = true;
    s->refs++;
    *at = s;
    v->snapshots->n++;
}

void
vault_snapshot_forget(struct vault *v, ag_str_t session_id)
{
    struct vault_snapshots *all = v->snapshots;

    all->opened++;
    for (size_t i = 0; i < BUCKETS; i++) {
        struct vault_snapshot **at = &all->buckets[i];
        while (*at != NULL)
            if (ag_str_eq((*at)->session.grant.session_id, session_id))
                drop(all, at);
            else
                at = &(*at)->next;
    }
}

void
vault_snapshot_unref(struct vault_snapshot *s)
{
    if (s == NULL || --s->refs > 0)
        return;
    ag_arena_free(s->arena);
    free(s);
}

/* ---- one reads for all ------------------------------------------------- */

/* Of the key; a new one when there is none: *is_new. */
static struct reading *
reading_of(struct vault *v, ag_str_t key, bool *is_new)
{
    struct reading **at = &v->snapshots->readings[slot_of(key)], *r;

    for (r = *at; r != NULL && !ag_str_is(key, r->key);)
        r = r->next;
    *is_new = r == NULL;
    if (r != NULL)
        return r;
    r = ag_xcalloc(1, sizeof(*r));
    r->key = ag_str_dup(key);
    r->next = *at;
    *at = r;
    return r;
}

bool
vault_snapshot_join(struct vault *v, ag_str_t key,
                    struct vault_snapshot_wait *w)
{
    bool is_new;
    struct reading *r = reading_of(v, key, &is_new);

    if (is_new)
        return false;
    w->next = r->waiters;
    r->waiters = w;
    return true;
}

bool
vault_snapshot_lead(struct vault *v, ag_str_t key)
{
    bool is_new;

    (void)reading_of(v, key, &is_new);
    return is_new;
}

void
vault_snapshot_settle(struct vault *v, ag_str_t key)
{
    struct reading **at = &v->snapshots->readings[slot_of(key)];

    while (*at != NULL && !ag_str_is(key, (*at)->key))
        at = &(*at)->next;
    struct reading *r = *at;
    if (r == NULL)
        return;
    *at = r->next;
    struct vault_snapshot_wait *list = r->waiters, *w;
    free(r->key);
    free(r);
    while ((w = list) != NULL) {
        list = w->next;
        w->fn(w);
    }
}
