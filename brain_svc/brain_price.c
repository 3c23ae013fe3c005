/*
 * The price table. Read at start, looked up by the model client; pure but for
 * brain_prices_load.
 */
#include "brain_svc/brain_price.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX (1024 * 1024)
#define MODELS_MAX 1000
#define NANO 1e9
#define USD_MAX 1e6

enum { INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, N_PRICES };

struct price {
    char *model;
    double nano[N_PRICES]; /* for one token */
};

struct brain_prices {
    struct price *at;
    size_t n;
};

static int
parse_usd(ag_str_t text, double *usd)
{
    char copy[64], *end;

    if (text.n == 0 || text.n >= sizeof(copy))
        return -1;
    (void)snprintf(copy, sizeof(copy), "%.*s", AG_FMT(text));
    *usd = strtod(copy, &end);
    return *end != '\0' || !isfinite(*usd) || *usd < 0 || *usd > USD_MAX ? -1
                                                                         : 0;
}

int
brain_price_parse(ag_str_t text, int64_t *nano_usd)
{
    double usd;

    if (parse_usd(text, &usd) < 0)
        return -1;
    *nano_usd = (int64_t)(usd * NANO + 0.5);
    return 0;
}

static bool
next_word(ag_str_t *line, ag_str_t *word)
{
    *line = ag_str_trim(*line);
    for (word->p = line->p, word->n = 0;
         word->n < line->n && line->p[word->n] != ' '
         && line->p[word->n] != '\t';
         word->n++)
        ;
    *line = ag_str_n(line->p + word->n, line->n - word->n);
    return word->n > 0;
}

static int
parse_line(struct price *p, ag_str_t model, ag_str_t line, struct ag_err *err)
{
    ag_str_t word;
    int n = 0;

    for (; n < N_PRICES && next_word(&line, &word); n++) {
        if (parse_usd(word, &p->nano[n]) < 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "\"%.*s\" is no price in USD", AG_FMT(word));
        p->nano[n] = p->nano[n] * NANO / 1e6;
    }
    if (n < CACHE_READ || ag_str_trim(line).n > 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "must be MODEL INPUT OUTPUT [CACHE_READ "
                          "[CACHE_WRITE]]");
    for (; n < N_PRICES; n++)
        p->nano[n] = p->nano[INPUT];
    p->model = ag_str_dup(model);
    return 0;
}

struct brain_prices *
brain_prices_parse(ag_str_t text, struct ag_err *err)
{
    struct brain_prices *prices = ag_xcalloc(1, sizeof(*prices));
    ag_str_t line, word;

    prices->at = ag_xcalloc(MODELS_MAX, sizeof(*prices->at));
    for (int number = 1; ag_str_cut(&text, '\n', &line); number++) {
        ag_str_t rest = line;

        (void)ag_str_cut(&rest, '#', &line);
        if (!next_word(&line, &word))
            continue;
        if (prices->n == MODELS_MAX)
            ag_err_set(err, AG_ERR_LIMIT, "more than %d models", MODELS_MAX);
        else if (parse_line(&prices->at[prices->n], word, line, err) == 0) {
            prices->n++;
            continue;
        }
        (void)ag_err_wrap(err, "line %d", number);
        brain_prices_free(prices);
        return NULL;
    }
    return prices;
}

struct brain_prices *
brain_prices_load(const char *path, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(FILE_MAX);
    struct brain_prices *prices;
    FILE *f;
    char *room;
    size_t n = 1;

    if (path[0] == '\0')
        return brain_prices_parse(AG_STR(""), err);
    f = fopen(path, "re");
    if (f == NULL) {
        ag_err_sys(err, "model_prices: %s", path);
        return NULL;
    }
    while (n > 0 && (room = ag_buf_reserve(&text, 4096, err)) != NULL) {
        n = fread(room, 1, 4096, f);
        text.n += n;
    }
    (void)fclose(f);
    prices = n > 0 ? NULL : brain_prices_parse(ag_buf_str(&text), err);
    if (prices == NULL)
        (void)ag_err_wrap(err, "model_prices: %s", path);
    return prices;
}

void
brain_prices_free(struct brain_prices *prices)
{
    if (prices == NULL)
        return;
    for (size_t i = 0; i < prices->n; i++)
        free(prices->at[i].model);
    free(prices->at);
    free(prices);
}

bool
brain_price_of(const struct brain_prices *prices, ag_str_t model,
               const struct brain_usage *usage, int64_t *nano_usd)
{
    const struct price *p = NULL;

    for (size_t i = 0; i < prices->n; i++) {
        if (ag_str_is(model, prices->at[i].model)) {
            p = &prices->at[i];
            break;
        }
        if (strcmp(prices->at[i].model, "*") == 0)
            p = &prices->at[i];
    }
    if (p == NULL)
        return false;
    *nano_usd =
        (int64_t)((double)usage->input * p->nano[INPUT]
                  + (double)usage->output * p->nano[OUTPUT]
                  + (double)usage->cache_read * p->nano[CACHE_READ]
                  + (double)usage->cache_write * p->nano[CACHE_WRITE] + 0.5);
    return true;
}
