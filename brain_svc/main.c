/*
 * brain_svc: wiring and the order of shutdown, nothing else.
 */
#include <stdio.h>
#include <stdlib.h>

#include "brain_svc/brain.h"
#include "lib/http_client.h"
#include "brain_svc/brain_group.h"
#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_incident.h"
#include "brain_svc/brain_io.h"
#include "brain_svc/brain_metrics.h"
#include "brain_svc/brain_price.h"
#include "brain_svc/brain_replay.h"
#include "brain_svc/brain_run.h"
#include "brain_svc/brain_trace.h"
#include "brain_svc/brain_warm.h"
#include "brain_svc/brain_stop.h"
#include "lib/daemon.h"
#include "lib/migrate.h"

static int
migrate(const struct brain_conf *conf, struct ag_err *err)
{
    int applied;

    return ag_migrate(conf->database_owner, "brain", conf->sql_dir, &applied,
                      err);
}

/* ---- shutdown: server, then runs, then the loop -------------------------- */

static void
runs_stopped(void *arg)
{
    ag_loop_stop(((struct brain *)arg)->loop);
}

static void
server_stopped(void *arg)
{
    struct brain *brain = arg;

    brain_runs_stop(brain->runs, runs_stopped, brain);
}

static void
on_term(void *arg)
{
    struct brain *brain = arg;

    ag_log(AG_INFO, "service.stopping", AG_I("grace_ms", brain->conf.grace_ms));
    brain_incidents_stop(brain->incidents);
    /* Streams would outlast any grace: end them first. */
    brain_hub_free(brain->hub);
    brain->hub = brain_hub_new(brain);
    ag_rpc_server_stop(brain->server, brain->conf.grace_ms, server_stopped,
                       brain);
}

/* ---- start --------------------------------------------------------------- */

static int
start(struct brain *brain, struct ag_err *err)
{
    struct brain_conf *conf = &brain->conf;

    brain->key = ag_assertion_key_load(conf->assertion_key, err);
    if (brain->key == NULL)
        return -1;
    brain->prices = brain_prices_load(conf->model_prices, err);
    if (brain->prices == NULL)
        return -1;
    brain->loop = ag_loop_new(err);
    if (brain->loop == NULL
        || ag_loop_on_term(brain->loop, on_term, brain, err) < 0)
        return -1;
    brain->rpc = ag_rpc_new(brain->loop, err);
    brain->http = brain->rpc == NULL ? NULL : ag_http_new(brain->loop, err);
    if (brain->http == NULL)
        return -1;
    brain->db = ag_db_new(brain->loop, conf->database,
                          (int)conf->db_connections, conf->db_timeout_ms, err);
    if (brain->db == NULL)
        return -1;
    brain->vault = ag_rpc_channel_new(brain->rpc, conf->vault);
    brain->sandbox = ag_rpc_channel_new(brain->rpc, conf->sandbox);
    brain->io = &brain_io_live;
    if (conf->trace_file[0] != '\0'
        && (brain->trace = brain_trace_new(brain, err)) == NULL)
        return -1;
    brain->metrics = brain_metrics_new();
    brain->group = brain_group_new(brain);
    brain->hub = brain_hub_new(brain);
    brain->warm = brain_warm_new(brain);
    brain->runs = brain_runs_new(brain);
    brain->server = ag_rpc_server_new(brain->rpc, "brain-ingress");
    brain_agent_register(brain);
    brain_environment_register(brain);
    brain_session_register(brain);
    brain_event_register(brain);
    brain_stop_register(brain);
    brain_ops_register(brain);
    if (ag_rpc_server_listen_unix(brain->server, conf->listen_ingress, err) < 0
        || ag_rpc_server_start(brain->server, err) < 0)
        return -1;
    brain->incidents = brain_incidents_start(brain);
    return 0;
}

static void
stop(struct brain *brain)
{
    ag_rpc_server_free(brain->server);
    ag_db_free(brain->db);
    brain_group_free(brain->group);
    brain_runs_free(brain->runs);
    brain_warm_free(brain->warm);
    brain_trace_free(brain->trace);
    brain_hub_free(brain->hub);
    ag_http_free(brain->http);
    brain_incidents_free(brain->incidents);
    ag_rpc_channel_free(brain->vault);
    ag_rpc_channel_free(brain->sandbox);
    ag_rpc_free(brain->rpc);
    ag_loop_free(brain->loop);
    ag_assertion_key_free(brain->key);
    brain_prices_free(brain->prices);
    ag_metrics_free(brain->metrics);
}

/* Runs until told to stop. Returns -1 when it never came up. */
static int
serve(struct brain *brain, struct ag_err *err)
{
    if (ag_daemon_confine(brain->conf.user, err) < 0 || start(brain, err) < 0)
        return -1;
    ag_log(AG_INFO, "service.started",
           AG_S("listen", brain->conf.listen_ingress),
           AG_S("harness", brain_harness_default(brain)));
    ag_daemon_ready((int)brain->conf.notify_fd);
    ag_loop_run(brain->loop);
    stop(brain);
    ag_log(AG_INFO, "service.stopped", AG_S("instance", brain->conf.instance));
    return 0;
}

/* `brain_svc replay SESSION`, `stop-all REASON`, `resume-all`. */
static int
command(struct brain *brain, char **words, struct ag_err *err)
{
    int rc = -1;

    if (ag_daemon_confine(brain->conf.user, err) < 0)
        return -1;
    ag_log_init("brain", AG_WARN);
    brain->loop = ag_loop_new(err);
    brain->db = brain->loop == NULL
                    ? NULL
                    : ag_db_new(brain->loop, brain->conf.database, 1,
                                brain->conf.db_timeout_ms, err);
    if (brain->db != NULL)
        rc = strcmp(words[0], "replay") == 0
                 ? brain_replay(brain, words[1], err)
                 : brain_stop_all(brain,
                                  strcmp(words[0], "stop-all") == 0
                                      ? ag_str(words[1])
                                      : AG_STR(""),
                                  err);
    ag_db_free(brain->db);
    ag_loop_free(brain->loop);
    return rc;
}

static bool
is_command(char **words, int n)
{
    if (n == 2)
        return strcmp(words[0], "replay") == 0
               || (strcmp(words[0], "stop-all") == 0 && words[1][0] != '\0');
    return n == 1 && strcmp(words[0], "resume-all") == 0;
}

/* The words of the command line are argv[0..*n_words-1] afterwards. */
static int
configure(struct brain *brain, int argc, char **argv, int *n_words,
          struct ag_err *err)
{
    enum ag_log_level level;

    if (ag_conf_load(&brain_conf_table, argc, argv, &brain->conf, n_words, err)
            < 0
        || brain_conf_check(&brain->conf, err) < 0)
        return -1;
    if (*n_words > 0 && !is_command(argv, *n_words))
        return ag_err_set(err, AG_ERR_INVALID,
                          "brain_svc takes options and, at most, the words "
                          "\"replay SESSION\", \"stop-all REASON\" or "
                          "\"resume-all\" (--help)");
    if (ag_log_level_parse(ag_str(brain->conf.log_level), &level) < 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "log_level: must be debug, info, warn or error");
    ag_log_init("brain", level);
    return 0;
}

int
main(int argc, char **argv)
{
    struct brain brain = {0};
    struct ag_err err;
    int rc, n_words = 0;

    ag_log_init("brain", AG_INFO);
    rc = configure(&brain, argc, argv, &n_words, &err);
    if (rc == 0 && n_words > 0)
        rc = command(&brain, argv, &err);
    else if (rc == 0)
        rc = brain.conf.migrate ? migrate(&brain.conf, &err)
                                : serve(&brain, &err);
    if (rc < 0)
        ag_log(AG_ERROR, "service.failed", AG_E(&err));
    ag_conf_release(&brain_conf_table, &brain.conf);
    return rc < 0 ? 1 : 0;
}
