/*
 * What tokens cost, when the gateway does not say: a table by model, from a
 * file. Money is counted in nano-dollars, integers of 1e-9 USD.
 */
#ifndef BRAIN_PRICE_H
#define BRAIN_PRICE_H

#include "brain_svc/brain_answer.h"

struct brain_prices;

/*
 * The table in `path`: lines "MODEL INPUT OUTPUT [CACHE_READ [CACHE_WRITE]]" in
 * USD for a million tokens; `#` begins a comment; the model "*" is any other.
 * What is left out costs as input. "" is an empty table. NULL with
 * AG_ERR_INVALID that names the line, or AG_ERR_IO.
 */
struct brain_prices *brain_prices_load(const char *path, struct ag_err *err);
struct brain_prices *brain_prices_parse(ag_str_t text, struct ag_err *err);
void brain_prices_free(struct brain_prices *prices);

/* False when the model has no price. */
bool brain_price_of(const struct brain_prices *prices, ag_str_t model,
                    const struct brain_usage *usage, int64_t *nano_usd);

/* A decimal amount of USD, as a gateway's header has it. Returns 0 or -1. */
int brain_price_parse(ag_str_t text, int64_t *nano_usd);

#endif
