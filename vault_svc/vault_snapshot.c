/*
 * A table by key. Whoever decides holds a reference, so that a snapshot that is
 * dropped meanwhile lives until the answer is out.
 */
#include "vault_svc/vault_snapshot.h"

#include <stdlib.h>

#include "lib/clock.h"

enum { BUCKETS = 1024, KEPT_MAX = 4096 };

struct vault_snapshots {
    struct vault_snapshot *buckets[BUCKETS];
    size_t n;
    uint64_t opened; /* workloads, so far */
};

static struct vault_snapshot **
bucket_of(struct vault_snapshots *all, ag_str_t key)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < key.n; i++)
        h = (h ^ (unsigned char)key.p[i]) * 16777619u;
    return &all->buckets[h % BUCKETS];
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
        if (!is_good(v, *at)) {
            drop(v->snapshots, at);
            continue;
        }
        if (ag_str_is(key, (*at)->key)) {
            (*at)->refs++;
            return *at;
        }
        at = &(*at)->next;
    }
    return NULL;
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
    if (v->snapshots->n == KEPT_MAX)
        drop_all(v->snapshots);
    struct vault_snapshot **at = bucket_of(v->snapshots, key);
    s->key = ag_arena_cstr(s->arena, key);
    s->next = *at;
    s->is_kept = true;
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
