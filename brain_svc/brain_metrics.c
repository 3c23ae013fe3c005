/*
 * The table of the brain's numbers. Those of model calls are there twice: by
 * wire and outcome for who runs the brain, and as OpenTelemetry's conventions
 * for generative AI name them, so that a ready-made dashboard finds them:
 * https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
 */
#include "brain_svc/brain_metrics.h"

#include <stdlib.h>

#include "brain_svc/brain_wire.h"

/* The buckets that the conventions advise. */
static const double durations[] = {0.01,  0.02,  0.04,  0.08,  0.16,
                                   0.32,  0.64,  1.28,  2.56,  5.12,
                                   10.24, 20.48, 40.96, 81.92, 0};
static const double sizes[] = {1,       4,       16,       64,       256,
                               1024,    4096,    16384,    65536,    262144,
                               1048576, 4194304, 16777216, 67108864, 0};

static const struct ag_metric_def defs[BRAIN_METRICS] = {
    [BRAIN_METRIC_TURNS] = {"brainbox_brain_turns_total",
                            "Turns that ended, by reason.",
                            AG_COUNTER,
                            {"reason", NULL},
                            NULL},
    [BRAIN_METRIC_TURN_SECONDS] = {"brainbox_brain_turn_seconds",
                                   "Time of a turn, by where it went.",
                                   AG_HISTOGRAM,
                                   {"part", NULL},
                                   NULL},
    [BRAIN_METRIC_EVENTS] = {"brainbox_brain_events_total",
                             "Events that runs appended.",
                             AG_COUNTER,
                             {NULL, NULL},
                             NULL},
    [BRAIN_METRIC_MODEL_CALLS] = {"brainbox_brain_model_calls_total",
                                  "Model calls, by wire and outcome.",
                                  AG_COUNTER,
                                  {"wire", "outcome"},
                                  NULL},
    [BRAIN_METRIC_TOKENS] = {"brainbox_brain_tokens_total",
                             "Tokens of model calls, by direction.",
                             AG_COUNTER,
                             {"direction", NULL},
                             NULL},
    [BRAIN_METRIC_COST] = {"brainbox_brain_cost_dollars_total",
                           "Known cost of model calls.",
                           AG_COUNTER,
                           {NULL, NULL},
                           NULL},
    [BRAIN_METRIC_GEN_AI_DURATION] =
        {"gen_ai_client_operation_duration_seconds",
         "Tries of model calls.",
         AG_HISTOGRAM,
         {"gen_ai_operation_name", "gen_ai_provider_name",
          "gen_ai_request_model", "error_type"},
         durations},
    [BRAIN_METRIC_GEN_AI_TOKENS] = {"gen_ai_client_token_usage",
                                    "Tokens of a model call.",
                                    AG_HISTOGRAM,
                                    {"gen_ai_operation_name",
                                     "gen_ai_provider_name",
                                     "gen_ai_request_model",
                                     "gen_ai_token_type"},
                                    sizes},
    [BRAIN_METRIC_RUNS] = {"brainbox_brain_runs",
                           "Runs under way in this brain.",
                           AG_GAUGE,
                           {NULL, NULL},
                           NULL},
    [BRAIN_METRIC_LISTENERS] = {"brainbox_brain_listeners",
                                "Open event streams.",
                                AG_GAUGE,
                                {NULL, NULL},
                                NULL},
};

struct ag_metrics *
brain_metrics_new(void)
{
    return ag_metrics_new(defs, BRAIN_METRICS);
}

static const char *
provider_of(const struct brain_wire *wire)
{
    return wire == &brain_wire_messages ? "anthropic" : "openai";
}

/* An agent may name any model: until one has answered, its name is no label. */
static void
observe_try(struct ag_metrics *m, const struct brain_route *route,
            const char *model, const char *error, int64_t took_us)
{
    const char *const values[AG_METRIC_LABELS] = {
        "chat", provider_of(route->wire), model, error};

    ag_metrics_observe(m, BRAIN_METRIC_GEN_AI_DURATION, values,
                       (double)took_us / 1e6);
}

static void
observe_tokens(struct ag_metrics *m, const struct brain_route *route,
               const char *model, const char *type, int64_t n)
{
    const char *const values[AG_METRIC_LABELS] = {
        "chat", provider_of(route->wire), model, type};

    ag_metrics_observe(m, BRAIN_METRIC_GEN_AI_TOKENS, values, (double)n);
}

void
brain_metrics_failed(struct ag_metrics *m, const struct brain_route *route,
                     const char *kind, int64_t took_us)
{
    ag_metrics_add(m, BRAIN_METRIC_MODEL_CALLS, route->wire->name, kind, 1);
    observe_try(m, route, "", kind, took_us);
}

void
brain_metrics_answered(struct ag_metrics *m, const struct brain_route *route,
                       const struct brain_usage *u, int64_t cost_nano_usd,
                       int64_t took_us)
{
    AG_AUTO(ag_freep) char *model = ag_str_dup(route->model);

    ag_metrics_add(m, BRAIN_METRIC_MODEL_CALLS, route->wire->name, "ok", 1);
    ag_metrics_add(m, BRAIN_METRIC_TOKENS, "input", NULL, (double)u->input);
    ag_metrics_add(m, BRAIN_METRIC_TOKENS, "cache_read", NULL,
                   (double)u->cache_read);
    ag_metrics_add(m, BRAIN_METRIC_TOKENS, "cache_write", NULL,
                   (double)u->cache_write);
    ag_metrics_add(m, BRAIN_METRIC_TOKENS, "output", NULL, (double)u->output);
    ag_metrics_add(m, BRAIN_METRIC_COST, NULL, NULL,
                   (double)cost_nano_usd / 1e9);
    observe_try(m, route, model, "", took_us);
    observe_tokens(m, route, model, "input",
                   u->input + u->cache_read + u->cache_write);
    observe_tokens(m, route, model, "output", u->output);
}
