/*
 * Fuzz target of the bridge's name queries: whatever a sandbox sends, the
 * parser stays within it, what it accepts is a host name, and the answer fits.
 */
#include <stdint.h>
#include <string.h>

#include "lib/str.h"
#include "sandbox_svc/bridge_dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char out[BRIDGE_DNS_MAX];
    struct bridge_dns_query q;
    int code = bridge_dns_parse(data, size, &q);

    if (code < 0)
        return 0;
    ag_assert(q.question_n <= size);
    if (code == BRIDGE_DNS_OK)
        ag_assert(ag_host_is_valid(q.name, strlen(q.name)));
    size_t n = bridge_dns_answer(data, &q, (enum bridge_dns_code)code,
                                 0xc6120100, out);
    ag_assert(n >= 12 && n <= sizeof(out));
    return 0;
}
