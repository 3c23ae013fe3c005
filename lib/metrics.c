/*
 * Counters, gauges and histograms, and their text. A metric has few series, so
 * they are a list that is searched from its start. One thread.
 */
#include "lib/metrics.h"

#include <stdlib.h>

/* Upper bounds of the buckets, in seconds: a warm command takes a
 * millisecond, a turn up to an hour. */
static const double seconds[AG_METRIC_BOUNDS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1,     2.5,    5,     10,   30,    60,   300, 1800, 3600};

struct series {
    struct series *next;
    char *labels[AG_METRIC_LABELS]; /* values; NULL as in the definition */
    double value;                   /* of a histogram: the sum */
    uint64_t count;
    uint64_t buckets[AG_METRIC_BOUNDS]; /* not cumulated */
};

struct metric {
    struct series *first, **last;
    size_t n;
};

struct ag_metrics {
    const struct ag_metric_def *defs;
    size_t n_defs;
    struct metric metrics[];
};

static bool
is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static struct series *
series_add(struct metric *metric, const char *const values[])
{
    struct series *s = ag_xcalloc(1, sizeof(*s));

    for (size_t i = 0; i < AG_METRIC_LABELS; i++)
        if (values[i] != NULL)
            s->labels[i] = ag_str_dup(ag_str(values[i]));
    *metric->last = s;
    metric->last = &s->next;
    metric->n++;
    return s;
}

static struct series *
series_find(struct metric *metric, const char *const values[])
{
    for (struct series *s = metric->first; s != NULL; s = s->next) {
        size_t i = 0;

        while (i < AG_METRIC_LABELS && is_same(s->labels[i], values[i]))
            i++;
        if (i == AG_METRIC_LABELS)
            return s;
    }
    return NULL;
}

/* The last place is that of "other". */
static struct series *
series_of(struct ag_metrics *m, size_t i,
          const char *const values[AG_METRIC_LABELS])
{
    const char *other[AG_METRIC_LABELS];
    struct series *s;

    ag_assert(i < m->n_defs);
    for (size_t k = 0; k < AG_METRIC_LABELS; k++)
        ag_assert((values[k] == NULL) == (m->defs[i].labels[k] == NULL));
    s = series_find(&m->metrics[i], values);
    if (s != NULL)
        return s;
    if (m->metrics[i].n < AG_METRIC_SERIES - 1)
        return series_add(&m->metrics[i], values);
    for (size_t k = 0; k < AG_METRIC_LABELS; k++)
        other[k] = values[k] == NULL ? NULL : "other";
    s = series_find(&m->metrics[i], other);
    return s != NULL ? s : series_add(&m->metrics[i], other);
}

static struct series *
series_of_pair(struct ag_metrics *m, size_t i, const char *first,
               const char *second)
{
    const char *const values[AG_METRIC_LABELS] = {first, second};

    return series_of(m, i, values);
}

struct ag_metrics *
ag_metrics_new(const struct ag_metric_def *defs, size_t n_defs)
{
    struct ag_metrics *m =
        ag_xcalloc(1, sizeof(*m) + n_defs * sizeof(m->metrics[0]));

    m->defs = defs;
    m->n_defs = n_defs;
    for (size_t i = 0; i < n_defs; i++) {
        m->metrics[i].last = &m->metrics[i].first;
        if (defs[i].labels[0] == NULL)
            (void)series_of_pair(m, i, NULL, NULL);
    }
    return m;
}

void
ag_metrics_free(struct ag_metrics *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->n_defs; i++)
        for (struct series *s = m->metrics[i].first, *next; s != NULL;
             s = next) {
            next = s->next;
            for (size_t k = 0; k < AG_METRIC_LABELS; k++)
                free(s->labels[k]);
            free(s);
        }
    free(m);
}

void
ag_metrics_add(struct ag_metrics *m, size_t metric, const char *first,
               const char *second, double by)
{
    if (m == NULL)
        return;
    ag_assert(m->defs[metric].kind != AG_HISTOGRAM);
    series_of_pair(m, metric, first, second)->value += by;
}

void
ag_metrics_set(struct ag_metrics *m, size_t metric, const char *first,
               const char *second, double to)
{
    if (m == NULL)
        return;
    ag_assert(m->defs[metric].kind == AG_GAUGE);
    series_of_pair(m, metric, first, second)->value = to;
}

static const double *
bounds_of(const struct ag_metric_def *def, size_t *n)
{
    const double *bounds = def->bounds == NULL ? seconds : def->bounds;

    for (*n = 0; *n < AG_METRIC_BOUNDS && bounds[*n] > 0;)
        ++*n;
    return bounds;
}

void
ag_metrics_observe(struct ag_metrics *m, size_t metric,
                   const char *const values[AG_METRIC_LABELS], double value)
{
    const double *bounds;
    struct series *s;
    size_t n, i = 0;

    if (m == NULL)
        return;
    ag_assert(m->defs[metric].kind == AG_HISTOGRAM);
    s = series_of(m, metric, values);
    s->count++;
    s->value += value;
    bounds = bounds_of(&m->defs[metric], &n);
    while (i < n && value > bounds[i])
        i++;
    if (i < n)
        s->buckets[i]++;
}

void
ag_metrics_observe_us(struct ag_metrics *m, size_t metric, const char *first,
                      const char *second, int64_t us)
{
    const char *const values[AG_METRIC_LABELS] = {first, second};

    ag_metrics_observe(m, metric, values, us < 0 ? 0 : (double)us / 1e6);
}

/* ---- the text ---------------------------------------------------------- */

/* A label's value, or with `is_help` a help text: a quote is only escaped in
 * the former. */
static int
put_escaped(struct ag_buf *out, const char *text, bool is_help,
            struct ag_err *err)
{
    for (const char *p = text; *p != '\0'; p++) {
        ag_str_t c = ag_str_n(p, 1);

        if (*p == '\n')
            c = AG_STR("\\n");
        else if (*p == '\\')
            c = AG_STR("\\\\");
        else if (*p == '"' && !is_help)
            c = AG_STR("\\\"");
        if (ag_buf_append(out, c, err) < 0)
            return -1;
    }
    return 0;
}

/* `{first="…",le="…"}`, or nothing without labels. */
static int
put_labels(struct ag_buf *out, const struct ag_metric_def *def,
           const struct series *s, const char *le, struct ag_err *err)
{
    const char *before = "{";

    for (size_t i = 0; i < AG_METRIC_LABELS; i++) {
        if (def->labels[i] == NULL)
            continue;
        if (ag_buf_printf(out, err, "%s%s=\"", before, def->labels[i]) < 0
            || put_escaped(out, s->labels[i], false, err) < 0
            || ag_buf_append(out, AG_STR("\""), err) < 0)
            return -1;
        before = ",";
    }
    if (le != NULL) {
        if (ag_buf_printf(out, err, "%sle=\"%s\"", before, le) < 0)
            return -1;
        before = ",";
    }
    return *before == ',' ? ag_buf_append(out, AG_STR("}"), err) : 0;
}

static int
put_line(struct ag_buf *out, const struct ag_metric_def *def,
         const struct series *s, const char *suffix, const char *le,
         double value, struct ag_err *err)
{
    if (ag_buf_printf(out, err, "%s%s", def->name, suffix) < 0
        || put_labels(out, def, s, le, err) < 0)
        return -1;
    return ag_buf_printf(out, err, " %.15g\n", value);
}

static int
put_histogram(struct ag_buf *out, const struct ag_metric_def *def,
              const struct series *s, struct ag_err *err)
{
    size_t n;
    const double *bounds = bounds_of(def, &n);
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++) {
        AG_AUTO(ag_buf_release) struct ag_buf le = AG_BUF_INIT(32);

        ag_buf_addf(&le, "%.15g", bounds[i]);
        total += s->buckets[i];
        if (put_line(out, def, s, "_bucket", ag_buf_cstr(&le), (double)total,
                     err)
            < 0)
            return -1;
    }
    if (put_line(out, def, s, "_bucket", "+Inf", (double)s->count, err) < 0
        || put_line(out, def, s, "_sum", NULL, s->value, err) < 0)
        return -1;
    return put_line(out, def, s, "_count", NULL, (double)s->count, err);
}

static int
put_metric(struct ag_buf *out, const struct ag_metric_def *def,
           const struct metric *metric, struct ag_err *err)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    if (ag_buf_printf(out, err, "# HELP %s ", def->name) < 0
        || put_escaped(out, def->help, true, err) < 0
        || ag_buf_printf(out, err, "\n# TYPE %s %s\n", def->name,
                         kinds[def->kind])
               < 0)
        return -1;
    for (const struct series *s = metric->first; s != NULL; s = s->next)
        if ((def->kind == AG_HISTOGRAM
                 ? put_histogram(out, def, s, err)
                 : put_line(out, def, s, "", NULL, s->value, err))
            < 0)
            return -1;
    return 0;
}

int
ag_metrics_write(const struct ag_metrics *m, struct ag_buf *out,
                 struct ag_err *err)
{
    for (size_t i = 0; i < m->n_defs; i++)
        if (put_metric(out, &m->defs[i], &m->metrics[i], err) < 0)
            return -1;
    return 0;
}
