/*
 * sandbox_svc: wiring and shutdown order, nothing else.
 *
 * Unprivileged. Everything that needs a right is done by sandbox_launcher,
 * which is started before and apart; this process never forks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/daemon.h"
#include "lib/log.h"
#include "lib/migrate.h"
#include "lib/rpc_server.h"
#include "sandbox_svc/sandbox_ended.h"
#include "sandbox_svc/sandbox_journal.h"
#include "sandbox_svc/sandbox_link.h"
#include "sandbox_svc/sandbox_metrics.h"
#include "sandbox_svc/sandbox_pool.h"
#include "sandbox_svc/sandbox_recover.h"
#include "sandbox_svc/sandbox_rpc.h"
#include "sandbox_svc/sandbox_session.h"

#define DATABASE_TIMEOUT_MS 5000
#define WORKERS 1
#define JOBS_WAITING 256
/* For sandboxes to be destroyed and the vault to be told. */
#define STOP_MS 3000
#define STOP_TICK_MS 20

struct server {
    struct sandbox_svc svc;
    struct ag_rpc_server *rpc_server;
    struct ag_timer stop_timer;
    int64_t stop_by_ms;
};

static void
set_limits(struct sandbox_svc *svc)
{
    const struct sandbox_conf *c = &svc->conf;

    svc->limits = (struct sandbox_limits){
        .box = {.memory_bytes = c->memory_mib << 20,
                .cpu_milli = c->cpu_milli,
                .pids = c->pids,
                .disk_bytes = c->disk_mib << 20,
                .disk_inodes = c->disk_inodes,
                .open_files = c->open_files},
        .timeout_s = c->timeout_seconds,
        .timeout_max_s = c->timeout_max_seconds,
        .output_bytes = c->output_kib << 10,
        .output_file_bytes = c->output_file_mib << 20,
        .workspace_bytes = c->workspace_mib << 20,
        .workspace_inodes = c->workspace_inodes,
    };
}

static void
raise_descriptors(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static int
open_output_dir(struct sandbox_svc *svc, struct ag_err *err)
{
    const char *path = svc->conf.output_dir;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return ag_err_sys(err, "make %s", path);
    svc->output_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return svc->output_dir < 0 ? ag_err_sys(err, "open %s", path) : 0;
}

/* ---- shutdown -------------------------------------------------------- */

/*
 * Stop accepting; calls get the grace period and are then cancelled, which
 * kills and records their commands; then the sandboxes go; then the loop ends
 * and everything is freed in the order it was made, backwards.
 */

static void
on_stop_tick(struct ag_timer *timer)
{
    struct server *s =
        (struct server *)((char *)timer - offsetof(struct server, stop_timer));
    const struct sandbox_svc *svc = &s->svc;

    if ((svc->sessions == NULL && svc->jobs == NULL && svc->n_vault_calls == 0)
        || ag_mono_ms() > s->stop_by_ms)
        ag_loop_stop(svc->loop);
    else
        ag_timer_start(svc->loop, timer, STOP_TICK_MS);
}

static void
on_calls_gone(void *arg)
{
    struct server *s = arg;

    struct sandbox_session *session, *next;

    for (session = s->svc.sessions; session != NULL; session = next) {
        next = session->next;
        sandbox_session_end(session, "shutdown", NULL, NULL);
    }
    s->stop_by_ms = ag_mono_ms() + STOP_MS;
    s->stop_timer.fn = on_stop_tick;
    ag_timer_start(s->svc.loop, &s->stop_timer, 0);
}

static void
on_term(void *arg)
{
    struct server *s = arg;

    ag_log(AG_INFO, "service.stopping", AG_I("grace_ms", s->svc.conf.grace_ms));
    s->svc.is_stopping = true;
    ag_rpc_server_set_serving(s->rpc_server, false);
    ag_rpc_server_stop(s->rpc_server, s->svc.conf.grace_ms, on_calls_gone, s);
}

/* ---- start ----------------------------------------------------------- */

static void
on_launcher_up(void *arg)
{
    sandbox_pool_up(((struct sandbox_svc *)arg)->pool);
}

static void
on_launcher_down(void *arg)
{
    struct sandbox_svc *svc = arg;

    sandbox_pool_down(svc->pool);
    sandbox_session_all_lost(svc);
}

static int
migrate(const struct sandbox_conf *conf, struct ag_err *err)
{
    int applied = 0;

    if (ag_migrate(conf->database_owner, "sandbox", conf->sql_dir, &applied,
                   err)
        < 0)
        return -1;
    ag_log(AG_INFO, "migration.finished", AG_I("applied", applied));
    return 0;
}

static int
open_loop(struct server *s, struct ag_err *err)
{
    struct sandbox_svc *svc = &s->svc;

    svc->loop = ag_loop_new(err);
    if (svc->loop == NULL || ag_loop_on_term(svc->loop, on_term, s, err) < 0)
        return -1;
    svc->db = ag_db_new(svc->loop, svc->conf.database,
                        (int)svc->conf.database_connections,
                        DATABASE_TIMEOUT_MS, err);
    if (svc->db == NULL)
        return -1;
    svc->workq = ag_workq_new(svc->loop, WORKERS, JOBS_WAITING, err);
    svc->rpc = svc->workq == NULL ? NULL : ag_rpc_new(svc->loop, err);
    if (svc->rpc == NULL)
        return -1;
    svc->vault = ag_rpc_channel_new(svc->rpc, svc->conf.vault);
    return 0;
}

static int
start(struct server *s, struct ag_err *err)
{
    struct sandbox_svc *svc = &s->svc;
    struct sandbox_link_events events = {on_launcher_up, on_launcher_down, svc};

    set_limits(svc);
    raise_descriptors();
    if (ag_daemon_confine(svc->conf.user, err) < 0
        || open_output_dir(svc, err) < 0 || open_loop(s, err) < 0)
        return -1;
    svc->journal = sandbox_journal_open(svc->output_dir, ".journal", err);
    if (svc->journal == NULL)
        return -1;
    sandbox_recover(svc);
    svc->metrics = sandbox_metrics_new();
    svc->pool = sandbox_pool_new(svc);
    svc->ended = sandbox_ended_new();
    svc->link = sandbox_link_new(svc->loop, svc->conf.launcher, &events);
    s->rpc_server = ag_rpc_server_new(svc->rpc, "sandbox-brain");
    sandbox_rpc_add(s->rpc_server, svc);
    if (ag_rpc_server_listen_unix(s->rpc_server, svc->conf.listen_brain, err)
        < 0)
        return -1;
    return ag_rpc_server_start(s->rpc_server, err);
}

static void
finish(struct server *s)
{
    struct sandbox_svc *svc = &s->svc;

    ag_rpc_server_free(s->rpc_server);
    sandbox_link_free(svc->link);
    sandbox_pool_free(svc->pool);
    sandbox_ended_free(svc->ended);
    ag_workq_free(svc->workq);
    ag_rpc_channel_free(svc->vault);
    ag_rpc_free(svc->rpc);
    ag_db_free(svc->db);
    ag_loop_free(svc->loop);
    ag_metrics_free(svc->metrics);
    sandbox_journal_close(svc->journal, svc->jobs == NULL);
    ag_closep(&svc->output_dir);
    ag_freep(&svc->ca_pem);
}

int
main(int argc, char **argv)
{
    struct server s = {.svc = {.output_dir = -1}};
    struct sandbox_conf *conf = &s.svc.conf;
    enum ag_log_level level = AG_INFO;
    struct ag_err err = AG_ERR_INIT;
    int n_words = 0, rc = 0;

    ag_log_init("sandbox", level);
    if (ag_conf_load(&sandbox_conf_table, argc, argv, conf, &n_words, &err) < 0
        || ag_log_level_parse(ag_str(conf->log_level), &level) < 0) {
        if (err.kind == AG_ERR_NONE)
            ag_err_set(&err, AG_ERR_INVALID, "log_level: \"%s\"",
                       conf->log_level);
        ag_log(AG_ERROR, "service.failed", AG_E(&err));
        ag_conf_release(&sandbox_conf_table, conf);
        return 1;
    }
    ag_log_init("sandbox", level);
    if (conf->migrate)
        rc = migrate(conf, &err);
    else
        rc = start(&s, &err);
    if (rc < 0) {
        ag_log(AG_ERROR, "service.failed", AG_E(&err));
        ag_conf_release(&sandbox_conf_table, conf);
        return 1;
    }
    if (!conf->migrate) {
        ag_log(AG_INFO, "service.started", AG_S("listen", conf->listen_brain));
        ag_daemon_ready((int)conf->notify_fd);
        ag_loop_run(s.svc.loop);
        finish(&s);
        ag_log(AG_INFO, "service.stopped", AG_S("listen", conf->listen_brain));
    }
    ag_conf_release(&sandbox_conf_table, conf);
    return 0;
}
