/* The SQL of sandbox_svc. Every call is one statement on lib/db. */
#ifndef SANDBOX_SVC_SANDBOX_STORE_H
#define SANDBOX_SVC_SANDBOX_STORE_H

#include "lib/db.h"
#include "sandbox_svc/sandbox_journal.h"

/* Names a recorded call. */
struct sandbox_call_key {
    ag_str_t tenant, session_id, call_id;
};

/* agent.sandbox.v1.ExecuteResult. */
struct sandbox_result {
    int outcome, exit_code, signal;
    ag_str_t out, err;
    bool is_truncated, is_recorded;
    ag_str_t output_file, limit;
    int64_t wall_ms;
};

/* One row when the call is new, none when it is known already. */
void sandbox_store_start(struct ag_db *db, const struct sandbox_note *note,
                         ag_db_done *done, void *arg);
/* The same, and the row of the session, for the first call in a sandbox. An
 * empty `task_description` leaves what the row has. */
void
sandbox_store_start_first(struct ag_db *db, const struct sandbox_note *note,
                          ag_str_t task_description, ag_db_done *done,
                          void *arg);
/* Only a call that has not ended is changed. Committed without waiting for
 * the disk: what a crash of the machine takes is UNKNOWN later. */
void sandbox_store_finish(struct ag_db *db, const struct sandbox_call_key *key,
                          const struct sandbox_result *result, ag_db_done *done,
                          void *arg);
void sandbox_store_find(struct ag_db *db, const struct sandbox_call_key *key,
                        ag_db_done *done, void *arg);
/* Reads the row of sandbox_store_find; the strings are in `arena`. Returns
 * false when the call has not ended. */
bool sandbox_store_read(const struct ag_db_result *res, struct ag_arena *arena,
                        struct sandbox_result *out);

/* One row, one column: null when the session never had a sandbox. */
void sandbox_store_tenant(struct ag_db *db, ag_str_t session_id,
                          ag_db_done *done, void *arg);
/* Forget the session and all its calls. */
void sandbox_store_delete(struct ag_db *db, ag_str_t tenant,
                          ag_str_t session_id, ag_db_done *done, void *arg);

#endif
