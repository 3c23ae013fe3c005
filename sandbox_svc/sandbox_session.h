/*
 * The sandbox of a session: from provision to the end of the turn. At most one
 * a session. On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_SESSION_H
#define SANDBOX_SVC_SANDBOX_SESSION_H

#include "lib/buf.h"
#include "sandbox_svc/sandbox_box.h"
#include "sandbox_svc/sandbox_svc.h"

enum sandbox_session_state {
    SANDBOX_SESSION_IDLE,    /* no sandbox; wanted by whoever waits */
    SANDBOX_SESSION_OPENING, /* claimed, asked for, attached */
    SANDBOX_SESSION_READY,
    SANDBOX_SESSION_ENDING, /* being destroyed */
};

struct sandbox_session {
    struct sandbox_session *next;
    struct sandbox_svc *svc;
    enum sandbox_session_state state;
    char id[LAUNCHER_ID_MAX];
    /* As the caller asked, and as the vault answered. */
    char *wanted_environment, *task_description;
    char *tenant, *environment_id;
    struct sandbox_box *box;
    /* "NAME=value" of each variable with its NUL, for init. */
    struct ag_buf env;
    int n_env;
    /* What the model is told. */
    char **env_names, **hosts;
    size_t n_env_names, n_hosts;
    char *ca_pem;
    int64_t created_us, expires_us;
    int output_dir;
    /* Its row is there, since a command was recorded in this sandbox. */
    bool is_recorded;
    /* The command that runs. */
    struct sandbox_job *job;
    /* Until a shell is started for the next one. */
    struct ag_timer shell;
    /* Calls that this sandbox has run, and under which lease it was asked for:
     * see sandbox_exec.c. */
    char **calls;
    size_t n_calls;
    int64_t fence;

    /* Of sandbox_watch.c. */
    struct ag_timer watch;
    int64_t workspace_bytes, workspace_files, watch_begun_ms;

    struct ag_timer expiry; /* the rest is private */
    struct ag_timer idle;
    struct sandbox_provision *provisions;
    struct sandbox_ending *endings;
    bool is_end_wanted;
    int steps_left;
    uint32_t put_id;
    struct ag_err step_err;
};

struct sandbox_session *
sandbox_session_find(struct sandbox_svc *svc, ag_str_t id);
/* Ready to run commands? */
bool sandbox_session_is_live(const struct sandbox_session *s);

struct sandbox_provision_args {
    const char *session_id, *environment_id, *task_description;
    int64_t fence;
};

/* Exactly one of `s` and `err` is not NULL. */
typedef void sandbox_provision_done(void *arg, const struct sandbox_session *s,
                                    bool is_new, const struct ag_err *err);
/* `done` may be called at once. */
void sandbox_session_provision(struct sandbox_svc *svc,
                               const struct sandbox_provision_args *args,
                               sandbox_provision_done *done, void *arg);

/* Destroy its sandbox; `done` (may be NULL) when nothing of it is left. */
typedef void sandbox_ending_done(void *arg);
void sandbox_session_end(struct sandbox_session *s, const char *why,
                         sandbox_ending_done *done, void *arg);

/* The launcher is gone, and with it every sandbox. */
void sandbox_session_all_lost(struct sandbox_svc *svc);
/* A limit of the sandbox itself was reached: say so, and end it. Both texts
 * must be constants. */
void sandbox_session_limit(struct sandbox_session *s, const char *limit,
                           const char *why);
void
sandbox_session_job_begin(struct sandbox_session *s, struct sandbox_job *job);
/* The command ended or never began: the session may run another. */
void sandbox_session_job_done(struct sandbox_session *s);

#endif
