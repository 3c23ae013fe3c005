/*
 * Fuzz target of the bridge's ClientHello parser: it stays within what it is
 * given, a name that it finds is a host name, and what it says of the whole it
 * never contradicts on a shorter part.
 */
#include <stdint.h>
#include <string.h>

#include "lib/str.h"
#include "sandbox_svc/bridge_dns.h"
#include "sandbox_svc/bridge_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[AG_HOST_MAX], part[AG_HOST_MAX];
    enum bridge_hello whole = bridge_hello_parse(data, size, name);

    if (whole == BRIDGE_HELLO_NAME)
        ag_assert(ag_host_is_valid(name, strlen(name)));
    if (size < 2)
        return 0;
    enum bridge_hello half = bridge_hello_parse(data, size / 2, part);
    ag_assert(half == BRIDGE_HELLO_MORE || half == whole);
    if (half == BRIDGE_HELLO_NAME)
        ag_assert(strcmp(name, part) == 0);
    return 0;
}
