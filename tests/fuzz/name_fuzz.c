/*
 * Fuzz target of egress's reading of host names and authorities: what it takes
 * has one spelling, and reading that again gives the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "ngx_agent_module/ngx_agent_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char host[NGX_AGENT_NAME_MAX + 1], again[NGX_AGENT_NAME_MAX + 1];
    char text[NGX_AGENT_NAME_MAX + 16];
    unsigned port, port_again;

    if (!ngx_agent_authority_read(ag_str_n(data, size), host, &port))
        return 0;
    ag_assert(ngx_agent_name_is_canonical(ag_str(host)) && port <= 65535);
    for (const char *c = host; *c != '\0'; c++)
        ag_assert(strchr("abcdefghijklmnopqrstuvwxyz0123456789-.", *c) != NULL);
    snprintf(text, sizeof(text), port == 0 ? "%s" : "%s:%u", host, port);
    ag_assert(strlen(text) == size);
    ag_assert(ngx_agent_authority_read(ag_str(text), again, &port_again)
              && strcmp(host, again) == 0 && port == port_again);
    return 0;
}
