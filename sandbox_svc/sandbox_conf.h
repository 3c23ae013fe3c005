/* Options of sandbox_svc. */
#ifndef SANDBOX_SVC_SANDBOX_CONF_H
#define SANDBOX_SVC_SANDBOX_CONF_H

#include "lib/conf.h"

struct sandbox_conf {
    char *listen_brain, *launcher, *vault, *database, *database_owner;
    char *sql_dir, *output_dir, *image, *user, *log_level;
    bool migrate;
    int64_t database_connections, pool_min, pool_max, memory_reserve_mib,
        max_sandboxes, session_seconds;
    int64_t orphan_seconds, idle_seconds;
    int64_t memory_mib, cpu_milli, pids, disk_mib, disk_inodes, open_files;
    int64_t timeout_seconds, timeout_max_seconds;
    int64_t output_kib, output_file_mib, workspace_mib, workspace_inodes;
    int64_t grace_ms, notify_fd;
};

extern const struct ag_conf sandbox_conf_table;

#endif
