/*
 * Names and addresses of hosts: which names are any, and which addresses are on
 * the open internet. Pure functions, but for ag_address_is_own.
 */
#ifndef LIB_NET_H
#define LIB_NET_H

#include <stdbool.h>
#include <stddef.h>

/* Longest name in text, and its NUL. */
#define AG_HOST_MAX 254

struct sockaddr;
struct ifaddrs;

/* True for a host name as DNS and TLS use it: lower-case letters, digits, '-'
 * and '_' in labels of 1 to 63, and some letter, or it would be an address. */
bool ag_host_is_valid(const char *name, size_t n);

/* False for everything that is not the open internet (IANA's special-purpose
 * registry), what clouds use for metadata, and families but IPv4 and IPv6. */
bool ag_address_is_public(const struct sockaddr *sa);

/* Is it one of `own`, a list of getifaddrs()? Public as it may be, such an
 * address leads to services that take who connects from here for theirs. */
bool ag_address_is_own(const struct sockaddr *sa, const struct ifaddrs *own);

#endif
