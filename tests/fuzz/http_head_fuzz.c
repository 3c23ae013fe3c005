/*
 * Fuzz target of the bridge's reading of plain requests and of requests to its
 * proxy: it stays within what it is given, a name that it finds is a host name,
 * and what it says of the whole it never contradicts on a shorter part.
 */
#include <stdint.h>
#include <string.h>

#include "lib/str.h"
#include "lib/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum ag_http_head_rc
reader(const void *data, size_t n, struct ag_http_head *out);

static void
check(reader *read, const uint8_t *data, size_t size)
{
    struct ag_http_head whole, part;
    enum ag_http_head_rc a = read(data, size, &whole);
    enum ag_http_head_rc b = read(data, size / 2, &part);

    if (a == AG_HTTP_HEAD_OK)
        ag_assert(ag_host_is_valid(whole.name, strlen(whole.name))
                  && whole.n <= size);
    ag_assert(b == AG_HTTP_HEAD_MORE || b == a);
    if (b == AG_HTTP_HEAD_OK)
        ag_assert(strcmp(whole.name, part.name) == 0 && whole.n == part.n
                  && whole.port == part.port);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(ag_http_head_host, data, size);
    check(ag_http_head_proxy, data, size);
    return 0;
}
