/*
 * What the parts of sandbox_svc share. All of it belongs to the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_SVC_H
#define SANDBOX_SVC_SANDBOX_SVC_H

#include "lib/db.h"
#include "lib/loop.h"
#include "lib/rpc_client.h"
#include "lib/workq.h"
#include "sandbox_svc/sandbox_conf.h"
#include "sandbox_svc/sandbox_limits.h"

struct ag_metrics;
struct sandbox_ended;
struct sandbox_journal;
struct sandbox_link;
struct sandbox_pool;
struct sandbox_session;
struct sandbox_job;

struct sandbox_svc {
    struct sandbox_conf conf;
    struct sandbox_limits limits;
    struct ag_loop *loop;
    struct ag_db *db;
    struct ag_rpc *rpc;
    struct ag_rpc_channel *vault;
    struct ag_workq *workq;
    struct sandbox_link *link;
    struct sandbox_pool *pool;
    struct sandbox_session *sessions;
    struct sandbox_ended *ended;
    struct ag_metrics *metrics; /* sandbox_metrics.h */
    struct sandbox_job *jobs;
    /* Holds a folder of whole outputs for each session. */
    int output_dir;
    struct sandbox_journal *journal;
    /* Notes of a predecessor that are not recorded yet: sandbox_recover.c. */
    int n_unrecovered;
    /* The root certificate that the vault named last: it is put into sandboxes
     * while they are made. */
    char *ca_pem;
    int64_t ca_version;
    /* Calls to the vault that are under way. */
    int n_vault_calls;
    bool is_stopping;
};

#endif
