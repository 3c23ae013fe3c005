/*
 * What sessions may use, kept for a moment: the rows that vault_session_read
 * checked, so that a workload's next request is decided without the database.
 * One is void when anything changes (vault_generation_move, a workload that is
 * opened) and when it is older than `snapshot_ms`, which bounds what this
 * process did not do itself. Then the database is asked for the mark of its
 * rows (sql/0015_session_mark.sql), and only when that is another, the rows are
 * read again, by one request for all that wait for them. What is in use is
 * asked for before it is so old (vault_refresh.h). Values stay sealed in it.
 * Loop's thread only.
 */
#ifndef VAULT_SNAPSHOT_H
#define VAULT_SNAPSHOT_H

#include "vault_svc/vault_session.h"

struct vault_snapshot {
    struct vault_tenant *tenant;
    struct vault_session session;
    enum vault_kind kind; /* of the workload */
    struct ag_arena *arena;
    /* private */
    struct vault_snapshot *next;
    char *key;
    int64_t read_us;
    uint64_t changes, opened;
    int refs;
    bool is_kept;
    bool was_used; /* since it was read, or found to be good again */
};

struct vault_snapshots;

struct vault_snapshots *vault_snapshots_new(void);
void vault_snapshots_free(struct vault_snapshots *all);

/* The one kept under `key`, with a reference for the caller; or NULL. */
struct vault_snapshot *vault_snapshot_find(struct vault *v, ag_str_t key);
/* A new one, with a reference for the caller, before the database is asked. */
struct vault_snapshot *vault_snapshot_begin(struct vault *v);
/* It was read and checked: keep it, unless something changed meanwhile. */
void
vault_snapshot_keep(struct vault *v, struct vault_snapshot *s, ag_str_t key);

/* ---- good again -------------------------------------------------------- */

/* The one under `key`, void or not, with a reference and a mark; or NULL. */
struct vault_snapshot *vault_snapshot_kept(struct vault *v, ag_str_t key);
/* Up to `max` of those with a mark that were used, and not read for `age_us`,
 * each with a reference. */
size_t vault_snapshot_aged(struct vault *v, int64_t age_us,
                           struct vault_snapshot **out, size_t max);
/* Its rows have that mark, says a query that was sent at `asked_us` when the
 * vault's changes were so many: it is good again, or dropped. */
void vault_snapshot_marked(struct vault *v, struct vault_snapshot *s,
                           ag_str_t mark, int64_t asked_us, uint64_t changes);

/* ---- one reads for all ------------------------------------------------- */

struct vault_snapshot_wait {
    void (*fn)(struct vault_snapshot_wait *w);
    struct vault_snapshot_wait *next;
};

/* True when the rows of `key` are being read: `w->fn` is called when they
 * were. Else the caller reads them, and says so in the end, however it ends. */
bool vault_snapshot_join(struct vault *v, ag_str_t key,
                         struct vault_snapshot_wait *w);
/* The same for who waits for nobody: false when they are being read. */
bool vault_snapshot_lead(struct vault *v, ag_str_t key);
void vault_snapshot_settle(struct vault *v, ag_str_t key);
/* The session has a new workload, or new stubs. */
void vault_snapshot_forget(struct vault *v, ag_str_t session_id);
/* NULL is a no-op. */
void vault_snapshot_unref(struct vault_snapshot *s);

#endif
