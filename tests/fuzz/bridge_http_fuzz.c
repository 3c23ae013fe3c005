/*
 * Fuzz target of the bridge's reading of plain requests and of requests to its
 * proxy: it stays within what it is given, a name that it finds is a host name,
 * and what it says of the whole it never contradicts on a shorter part.
 */
#include <stdint.h>
#include <string.h>

#include "lib/str.h"
#include "sandbox_svc/bridge_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum bridge_http
reader(const void *data, size_t n, struct bridge_http_head *out);

static void
check(reader *read, const uint8_t *data, size_t size)
{
    struct bridge_http_head whole, part;
    enum bridge_http a = read(data, size, &whole);
    enum bridge_http b = read(data, size / 2, &part);

    if (a == BRIDGE_HTTP_OK)
        ag_assert(bridge_name_is_valid(whole.name, strlen(whole.name))
                  && whole.n <= size);
    ag_assert(b == BRIDGE_HTTP_MORE || b == a);
    if (b == BRIDGE_HTTP_OK)
        ag_assert(strcmp(whole.name, part.name) == 0 && whole.n == part.n
                  && whole.port == part.port);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(bridge_http_host, data, size);
    check(bridge_http_proxy, data, size);
    return 0;
}
