/*
 * Fuzz target of signing: method, path, query and headers as a sandbox sends
 * them, a line each. The value is one line, and the same each time.
 */
#include <stdint.h>

#include "vault_svc/vault_sigv4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADERS_MAX = 32 };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ag_arena *arena = ag_arena_new();
    struct vault_header headers[HEADERS_MAX];
    struct vault_signable what = {.host = AG_STR("api.example.com"),
                                  .headers = headers};
    ag_str_t rest = ag_str_n(data, size), line, first, second;
    struct ag_err err = AG_ERR_INIT;

    ag_str_cut(&rest, '\n', &what.method);
    ag_str_cut(&rest, '\n', &what.path);
    ag_str_cut(&rest, '\n', &what.query);
    while (what.n_headers < HEADERS_MAX && ag_str_cut(&rest, '\n', &line)) {
        struct vault_header *h = &headers[what.n_headers++];
        h->value = line;
        ag_str_cut(&h->value, ':', &h->name);
    }
    for (int i = 0; i < 2; i++) {
        const struct vault_sigv4 with = {AG_STR("AKID"), AG_STR("us-east-1"),
                                         i ? AG_STR("s3") : AG_STR("x")};
        if (vault_sigv4(&with, AG_STR("secret"), &what,
                        AG_STR("20150830T123600Z"), arena, &first, &err)
                < 0
            || vault_sigv4(&with, AG_STR("secret"), &what,
                           AG_STR("20150830T123600Z"), arena, &second, &err)
                   < 0)
            continue;
        ag_assert(ag_str_eq(first, second));
        ag_assert(memchr(first.p, '\n', first.n) == NULL);
    }
    ag_arena_free(arena);
    return 0;
}
