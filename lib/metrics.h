/*
 * Numbers that a service keeps of itself: counters, gauges and histograms, with
 * a few labels each, written in Prometheus' text format 0.0.4.
 *
 * A service has one table of `ag_metric_def`; its rows are named by their place
 * in it. Everything here is used on the loop, and takes no lock.
 * Label values are the program's own words, never a tenant's or a person's; of
 * one metric there are at most AG_METRIC_SERIES, what comes later is counted
 * under the value "other".
 */
#ifndef LIB_METRICS_H
#define LIB_METRICS_H

#include "lib/buf.h"

enum ag_metric_kind { AG_COUNTER, AG_GAUGE, AG_HISTOGRAM };

#define AG_METRIC_LABELS 4
#define AG_METRIC_SERIES 64
#define AG_METRIC_BOUNDS 18
/* Content type of what ag_metrics_write writes. */
#define AG_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct ag_metric_def {
    const char *name; /* "brainbox_brain_turns_total" */
    const char *help;
    enum ag_metric_kind kind;
    const char *labels[AG_METRIC_LABELS]; /* names; NULL: fewer */
    /* Of a histogram: rising upper bounds of its buckets, ended by 0 or by
     * AG_METRIC_BOUNDS of them; NULL: of seconds, from a millisecond to an
     * hour. */
    const double *bounds;
};

struct ag_metrics;

/* `defs` lives as long as the metrics. A metric without labels is there from
 * the start, at zero. */
struct ag_metrics *
ag_metrics_new(const struct ag_metric_def *defs, size_t n_defs);
void ag_metrics_free(struct ag_metrics *m);

/*
 * Counters and gauges: add, or set, the series with these label values (NULL
 * where the metric has no such label). Histograms: observe seconds. With `m`
 * NULL nothing happens.
 */
void ag_metrics_add(struct ag_metrics *m, size_t metric, const char *first,
                    const char *second, double by);
void ag_metrics_set(struct ag_metrics *m, size_t metric, const char *first,
                    const char *second, double to);
void ag_metrics_observe_us(struct ag_metrics *m, size_t metric,
                           const char *first, const char *second, int64_t us);
/* The same for any histogram: in its own unit, with a value for each label. */
void
ag_metrics_observe(struct ag_metrics *m, size_t metric,
                   const char *const values[AG_METRIC_LABELS], double value);

/* Append all of them. Returns 0, or -1 with AG_ERR_LIMIT. */
int ag_metrics_write(const struct ag_metrics *m, struct ag_buf *out,
                     struct ag_err *err);

#endif
