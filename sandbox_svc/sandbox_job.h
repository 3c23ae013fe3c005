/*
 * The inside of a job, shared by sandbox_exec.c (start, kill, who waits),
 * sandbox_job_io.c (pipes), sandbox_job_end.c (result and record) and
 * sandbox_job_limits.c (which limit it met). Nobody
 * else includes it.
 */
#ifndef SANDBOX_SVC_SANDBOX_JOB_H
#define SANDBOX_SVC_SANDBOX_JOB_H

#include "lib/rpc_server.h"
#include "sandbox_svc/sandbox_journal.h"
#include "sandbox_svc/sandbox_output.h"
#include "sandbox_svc/sandbox_session.h"
#include "sandbox_svc/sandbox_store.h"

/* So many refused forks are no build that asks for too much. */
#define SANDBOX_FORKS_REFUSED_MAX 64

enum sandbox_reason {
    SANDBOX_REASON_NONE,
    SANDBOX_REASON_TIMEOUT,
    SANDBOX_REASON_CANCELLED,
    SANDBOX_REASON_OUTPUT,
    SANDBOX_REASON_MEMORY,
    SANDBOX_REASON_PIDS,
    SANDBOX_REASON_DISK,
    SANDBOX_REASON_OPEN_FILES,
    SANDBOX_REASON_CPU, /* only slower */
    SANDBOX_REASON_LOST,
};

enum sandbox_job_state {
    SANDBOX_JOB_RECORDING, /* "started" is being committed; no note */
    SANDBOX_JOB_RUNNING,
    SANDBOX_JOB_DRAINING, /* the shell has ended, its pipes have not */
    SANDBOX_JOB_SAVING,   /* the result is being committed */
};

struct sandbox_stream {
    struct ag_io io;
    struct sandbox_job *job;
    struct sandbox_output output;
    char name[160];
    /* Read when there is something, or, when there is much, at intervals. */
    bool is_watched, is_paced;
    struct ag_timer pace;
};

/* What is written to the command as it reads: its input, and its script. */
struct sandbox_feed {
    struct ag_io io;
    struct sandbox_job *job;
    struct ag_buf data;
    size_t at;
    bool is_watched;
};

struct sandbox_watcher {
    struct sandbox_watcher *next;
    struct sandbox_job *job;
    struct ag_rpc_call *call;
};

struct sandbox_job {
    struct sandbox_job *next;
    struct sandbox_svc *svc;
    /* NULL from the end of the command on. */
    struct sandbox_session *session;
    enum sandbox_job_state state;
    enum sandbox_reason reason;
    char *tenant, *session_id, *call_id, *command, *task;
    struct sandbox_watcher *watchers; /* the first gets the stream */
    uint32_t run_id;
    struct sandbox_stream streams[2];
    struct sandbox_feed input, script;
    bool is_paused, is_restarted;
    int exit_code, signal;
    int64_t begun_us, timeout_s;
    int64_t oom_before, refused_before, periods_before, throttled_before;
    bool is_disk_full; /* init saw it when the command failed */
    /* It runs before its record is committed, by a note in the journal; -1
     * when it has none. */
    struct sandbox_note start;
    int note;
    bool is_new, is_recording;
    struct ag_timer record;
    struct ag_timer timer; /* time limit, then kill, drain or save */
    struct ag_timer watch;
    struct ag_timer orphan; /* runs while nobody waits for the result */
    int save_tries;
    /* The result, once it is made. */
    struct ag_buf text[2];
    struct sandbox_result result;
    char output_file[200];
};

/* ---- sandbox_exec.c -------------------------------------------------- */

struct sandbox_call_key sandbox_job_key(const struct sandbox_job *job);
void sandbox_job_free(struct sandbox_job *job);
/* Hand the command to a shell, started if none waits. */
int sandbox_job_launch(struct sandbox_job *job, struct ag_err *err);
/* SIGKILL to everything in the sandbox. The first reason is the one that is
 * told. */
void sandbox_job_kill(struct sandbox_job *job, enum sandbox_reason reason);
/* The next of those who wait, now the caller's to answer; NULL for none. */
struct ag_rpc_call *sandbox_job_take_watcher(struct sandbox_job *job);
/* Answer all with `err` and free the job. */
void sandbox_job_fail(struct sandbox_job *job, const struct ag_err *err);

/* ---- sandbox_job_record.c -------------------------------------------- */

/* Record that it starts, and start it: `is_first`, before that is committed.
 * Otherwise, a call that is known is answered from its record instead. */
void sandbox_job_record(struct sandbox_job *job, bool is_first);

/* ---- sandbox_job_io.c ------------------------------------------------ */

/* Take over the pipes of `shell`, watch the outputs, and begin to write the
 * input and the script. */
int sandbox_job_open_pipes(struct sandbox_job *job, struct sandbox_shell *shell,
                           struct ag_err *err);
/* The shell ended before it had read anything of its script. */
bool sandbox_job_is_unread(const struct sandbox_job *job);
void sandbox_job_close_pipes(struct sandbox_job *job);
/* Take what is there, in so many reads. */
void sandbox_job_read_all(struct sandbox_job *job, int rounds);
bool sandbox_job_has_open_stream(const struct sandbox_job *job);
void sandbox_job_set_reading(struct sandbox_job *job, bool is_reading);

/* ---- sandbox_job_end.c ----------------------------------------------- */

/* The command is over, or its sandbox is: make the result, record it, answer.
 */
void sandbox_job_finish(struct sandbox_job *job);
/* The result is there and can be recorded: what was started is. */
void sandbox_job_save(struct sandbox_job *job);

/* ---- sandbox_job_limits.c -------------------------------------------- */

void sandbox_job_count_begin(struct sandbox_job *job);
/* Since the command began. */
int64_t sandbox_job_forks_refused(const struct sandbox_job *job);
int64_t sandbox_job_oom_kills(const struct sandbox_job *job);
/* The command has ended and its text is made: sets the reason. */
void sandbox_job_notice_limits(struct sandbox_job *job);

#endif
