/*
 * Incidents: what freezes a session at once, until a person says otherwise.
 * Whoever watches (the brain) hears of each.
 */
#ifndef VAULT_INCIDENT_H
#define VAULT_INCIDENT_H

#include "vault_svc/vault.h"

struct vault_incident_row {
    ag_str_t id, session_id, kind, detail, resolved_by, mac;
    int64_t created_us, resolved_us; /* 0: open */
};

#define VAULT_INCIDENT_COLUMNS                                    \
    "i.id, i.session_id, i.kind, i.detail, i.resolved_by, i.mac," \
    " i.created_us, i.resolved_us"

void
vault_incident_read(const struct ag_db_result *res, int row,
                    struct ag_arena *arena, struct vault_incident_row *out);
void vault_incident_mac(const struct vault_tenant *tenant,
                        const struct vault_incident_row *row,
                        unsigned char out[VAULT_MAC_BYTES]);
int
vault_incident_check(const struct vault_tenant *tenant,
                     const struct vault_incident_row *row, struct ag_err *err);

struct vault_incident {
    const char *kind; /* "stub_foreign", "scrub_hits", "stub_guessing" */
    ag_str_t session_id;
    ag_str_t detail_json; /* holds no value and no stub */
};

/* `err` is NULL, or says why the session could not be frozen. */
typedef void vault_incident_done(void *arg, const struct ag_err *err);

/*
 * Freeze the session and write the incident; a session that is frozen or has
 * ended is left as it is. Strings are copied; `done` comes when it is
 * committed, never from inside.
 */
void vault_incident_open(struct vault *v, struct vault_tenant *tenant,
                         const struct vault_incident *in,
                         vault_incident_done *done, void *arg);

/* IncidentService, for people; IncidentWatchService, for the brain. */
void vault_incident_serve(struct ag_rpc_server *srv, struct vault_face *face);
void
vault_incident_serve_watch(struct ag_rpc_server *srv, struct vault_face *face);

/* Tell the watchers. */
void vault_incident_publish(struct vault *v, const char *tenant,
                            const struct vault_incident_row *row);
/* End the streams of watchers; when the service stops. */
void vault_incident_stop(struct vault *v);

/*
 * Count a stub of this session that nobody has; true when it is one too many
 * within a minute (`unknown_stubs_per_minute`).
 */
bool vault_incident_count_unknown(struct vault *v, ag_str_t session_id);

#endif
