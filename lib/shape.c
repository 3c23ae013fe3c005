/* The rule set's lines. */
#include "lib/shape.h"

#include <stdlib.h>

/* "3", "3.5": tenths. Returns 0 or -1. */
static int
parse_tenths(ag_str_t s, unsigned *out)
{
    ag_str_t rest = s, whole;
    int64_t n, tenth = 0;

    ag_str_cut(&rest, '.', &whole);
    if (ag_str_i64(whole, &n) < 0 || n < 0 || n > 8)
        return -1;
    if (rest.n > 0 && (rest.n != 1 || ag_str_i64(rest, &tenth) < 0))
        return -1;
    *out = (unsigned)(n * 10 + tenth);
    return 0;
}

static bool
take_text(char **to, ag_str_t value, size_t most)
{
    if (*to != NULL || value.n > most)
        return false;
    *to = ag_str_dup(value);
    return true;
}

static bool
parse_pair(ag_str_t key, ag_str_t value, struct ag_shape *s)
{
    int64_t n;

    if (ag_str_is(key, "hosts"))
        return take_text(&s->hosts, value, 4096);
    if (value.n == 0)
        return false;
    if (ag_str_is(key, "prefix"))
        return take_text(&s->prefix, value, 64);
    if (ag_str_is(key, "stub"))
        return take_text(&s->stub_prefix, value, 32);
    if (ag_str_is(key, "pattern"))
        return take_text(&s->pattern, value, 1024);
    if (ag_str_is(key, "entropy"))
        return parse_tenths(value, &s->entropy_tenths) == 0;
    if (ag_str_is(key, "only")) {
        s->only_logs = true;
        return ag_str_is(value, "log");
    }
    if (!ag_str_is(key, "min") || ag_str_i64(value, &n) < 0 || n < 16
        || n >= 4096)
        return false;
    s->min = (size_t)n;
    return true;
}

static int
parse_line(ag_str_t line, struct ag_shapes *out, struct ag_err *err)
{
    ag_str_t word, value, key;

    ag_str_word(&line, &word);
    if (!ag_str_is(word, "shape") || !ag_str_word(&line, &word))
        return ag_err_set(err, AG_ERR_INVALID,
                          "lines are \"shape NAME prefix=… min=… hosts=…\" or "
                          "\"shape NAME pattern=…\"");
    if (out->n == AG_SHAPES_MAX)
        return ag_err_set(err, AG_ERR_LIMIT, "more than %d shapes",
                          AG_SHAPES_MAX);
    out->v = ag_xrealloc(out->v, (out->n + 1) * sizeof(*out->v));
    struct ag_shape *s = &out->v[out->n++];
    *s = (struct ag_shape){.name = ag_str_dup(word)};
    while (ag_str_word(&line, &word)) {
        value = word;
        ag_str_cut(&value, '=', &key);
        if (!parse_pair(key, value, s))
            return ag_err_set(err, AG_ERR_INVALID,
                              "\"%.*s\" is none of prefix=, min=16…, hosts=, "
                              "stub=, pattern=, entropy=0…8, only=log, each "
                              "once",
                              AG_FMT(word));
    }
    if (s->prefix == NULL ? s->pattern == NULL
                          : s->hosts == NULL || s->min <= strlen(s->prefix))
        return ag_err_set(err, AG_ERR_INVALID,
                          "shape %s lacks pattern=, or prefix= with min= "
                          "(longer than it) and hosts=",
                          s->name);
    return 0;
}

int
ag_shapes_parse(ag_str_t text, struct ag_shapes *out, struct ag_err *err)
{
    ag_str_t line;
    int number = 0;

    *out = (struct ag_shapes){0};
    while (ag_str_cut(&text, '\n', &line)) {
        number++;
        line = ag_str_trim(line);
        if (line.n > 0 && line.p[0] != '#' && parse_line(line, out, err) < 0)
            return ag_err_wrap(err, "line %d", number);
    }
    return 0;
}

void
ag_shapes_release(struct ag_shapes *shapes)
{
    for (size_t i = 0; i < shapes->n; i++) {
        struct ag_shape *s = &shapes->v[i];
        free(s->name);
        free(s->prefix);
        free(s->stub_prefix);
        free(s->hosts);
        free(s->pattern);
    }
    free(shapes->v);
    *shapes = (struct ag_shapes){0};
}
