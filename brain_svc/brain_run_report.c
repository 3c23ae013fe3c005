/*
 * What a turn that is over tells: to the service's log, to the metrics and to
 * the traces. Called by brain_run_write.c on the loop.
 */
#include "brain_svc/brain_run_internal.h"

#include "brain_svc/brain_metrics.h"
#include "brain_svc/brain_trace.h"
#include "lib/clock.h"

/* What a turn cost, and whom. */
static void
log_turn(const struct brain_run *run)
{
    const struct brain_times *s = &run->times;
    int64_t busy =
        s->model_us + s->provision_us + s->execute_us + s->destroy_us;

    ag_log(AG_INFO, "turn.ended", AG_S("session", run->session),
           AG_I("wall_ms", (ag_now_us() - run->turn_started_us) / 1000),
           AG_I("own_us", ag_mono_us() - s->begun_us - busy),
           AG_I("model_us", s->model_us - s->vault_us),
           AG_I("vault_us", s->vault_us), AG_I("provision_us", s->provision_us),
           AG_I("execute_us", s->execute_us),
           AG_I("destroy_us", s->destroy_us));
}

void
brain_run_count(const struct brain_run *run, const json_t *idle)
{
    struct ag_metrics *m = run->brain->metrics;
    const struct brain_times *s = &run->times;
    const char *reason = json_string_value(
        json_object_get(json_object_get(idle, "stop_reason"), "type"));
    int64_t busy =
        s->model_us + s->provision_us + s->execute_us + s->destroy_us;
    const struct {
        const char *part;
        int64_t us;
    } parts[] = {{"wall", ag_now_us() - run->turn_started_us},
                 {"own", ag_mono_us() - s->begun_us - busy},
                 {"model", s->model_us - s->vault_us},
                 {"vault", s->vault_us},
                 {"provision", s->provision_us},
                 {"execute", s->execute_us},
                 {"destroy", s->destroy_us}};

    if (run->is_frozen)
        reason = "frozen";
    else if (run->is_over_time)
        reason = "time_limit";
    ag_metrics_add(m, BRAIN_METRIC_TURNS, reason == NULL ? "unknown" : reason,
                   NULL, 1);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        ag_metrics_observe_us(m, BRAIN_METRIC_TURN_SECONDS, parts[i].part, NULL,
                              parts[i].us);
}

void
brain_run_tell(const struct brain_run *run)
{
    log_turn(run);
    brain_trace_put(run->brain->trace,
                    &(struct brain_trace_turn){
                        .tenant = run->tenant,
                        .session = ag_str(run->session),
                        .instance = ag_str(run->brain->conf.instance),
                        .model = run->model,
                        .log = &run->log,
                        .start = run->turn.start,
                    });
}
