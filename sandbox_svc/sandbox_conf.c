/*
 * The option table of sandbox_svc: command line, file, --help and the
 * reference in docs/config.md come from it.
 */
#include "sandbox_svc/sandbox_conf.h"

#include <stddef.h>

#define STR(name, unit, def, min, max, help)           \
    {                                                  \
#name, AG_CONF_STR, unit, def, min, max, NULL, \
            offsetof(struct sandbox_conf, name), help  \
    }
#define INT(name, unit, def, min, max, help)           \
    {                                                  \
#name, AG_CONF_INT, unit, def, min, max, NULL, \
            offsetof(struct sandbox_conf, name), help  \
    }

static const struct ag_conf_option options[] = {
    STR(listen_brain, "path", "/run/brainbox/sandbox-brain/sandbox-brain.sock",
        1, 107, "Socket on which brain_svc is served."),
    STR(launcher, "path",
        "/run/brainbox/launcher-sandbox/launcher-sandbox.sock", 1, 107,
        "Socket of sandbox_launcher."),
    STR(vault, "target", "unix:/run/brainbox/vault-sandbox/vault-sandbox.sock",
        1, 255, "gRPC target of vault_svc."),
    STR(database, "conninfo",
        "host=/run/brainbox/pg dbname=brainbox "
        "user=sandbox_run",
        1, 1024, "Database, as the role sandbox_run."),
    STR(database_owner, "conninfo",
        "host=/run/brainbox/pg dbname=brainbox "
        "user=sandbox_owner",
        1, 1024, "Database, as the role sandbox_owner; for --migrate."),
    STR(sql_dir, "path", "sandbox_svc/sql", 1, 1024,
        "Folder of the migrations; for --migrate."),
    {"migrate", AG_CONF_BOOL, "", "false", 0, 1, NULL,
     offsetof(struct sandbox_conf, migrate),
     "Bring the database up to date, and end."},
    STR(output_dir, "path", "var/output", 1, 1024, "Folder of whole outputs."),
    STR(image, "", "base", 1, 63, "Name of the image of sandboxes."),
    STR(user, "", "", 0, 64, "User to become when started as root."),
    STR(log_level, "", "info", 1, 8, "debug, info, warn or error."),
    INT(database_connections, "", "2", 1, 32, "Connections to the database."),
    INT(pool_min, "", "2", 0, 256,
        "Sandboxes that are kept ready to be claimed, at least."),
    INT(pool_max, "", "32", 0, 1024,
        "The same at most: as many as were claimed in the busiest of the last "
        "30 seconds."),
    INT(memory_reserve_mib, "MiB", "512", 0, 16777216,
        "No sandbox is made while the machine has less memory left."),
    INT(max_sandboxes, "", "64", 1, 4096,
        "Most sandboxes of sessions at a time; more are refused."),
    INT(session_seconds, "s", "3600", 1, 604800,
        "A sandbox whose turn has not ended by then is destroyed."),
    INT(idle_seconds, "s", "900", 1, 604800,
        "A sandbox in which no command ran for so long is destroyed."),
    INT(orphan_seconds, "s", "30", 1, 86400,
        "A command for whose result nobody waits is killed after so long."),
    INT(memory_mib, "MiB", "512", 16, 1048576,
        "Memory of a sandbox, with the files it writes outside of "
        "/workspace."),
    INT(cpu_milli, "1/1000 core", "1000", 10, 1000000,
        "Processor time of a sandbox."),
    INT(pids, "", "256", 4, 32768, "Processes and threads of a sandbox."),
    INT(disk_mib, "MiB", "1024", 1, 1048576,
        "Files that a sandbox writes outside of /workspace, and the largest "
        "single file."),
    INT(disk_inodes, "", "262144", 64, 4294967296,
        "Files and folders that a sandbox makes outside of /workspace."),
    INT(open_files, "", "1024", 16, 1048576,
        "Open files of a process in a sandbox."),
    INT(timeout_seconds, "s", "120", 1, 86400,
        "Time of a command that names none."),
    INT(timeout_max_seconds, "s", "300", 1, 86400,
        "Longest time that a command may ask for."),
    INT(output_kib, "KiB", "32", 1, 1024,
        "What the caller gets of each output of a command."),
    INT(output_file_mib, "MiB", "64", 1, 65536,
        "Length of an output at which its command is killed."),
    INT(workspace_mib, "MiB", "8192", 1, 1048576,
        "Size of a workspace at which what makes it grow is killed."),
    INT(workspace_inodes, "", "1000000", 16, 4294967296,
        "Files and folders of a workspace at which what makes it grow is "
        "killed."),
    INT(grace_ms, "ms", "3000", 0, 600000,
        "How long running calls may take to end at shutdown."),
    INT(notify_fd, "", "-1", -1, 1024,
        "Descriptor that gets a newline when the service is ready."),
};

const struct ag_conf sandbox_conf_table = {
    .program = "sandbox_svc",
    .summary = "Ephemeral sandboxes: provision and execute.",
    .usage = "[options]",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
};
