/* Names and addresses of hosts. Any thread; no state. */
#include "lib/net.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

static bool
is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'
           || c == '_';
}

bool
ag_host_is_valid(const char *name, size_t n)
{
    size_t label = 0;
    bool has_letter = false;

    if (n == 0 || n >= AG_HOST_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (name[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (!is_name_char(name[i]) || ++label > 63) {
            return false;
        }
        has_letter = has_letter || (name[i] >= 'a' && name[i] <= 'z');
    }
    return label > 0 && has_letter;
}

static bool
is_public4(uint32_t ip)
{
    static const struct {
        uint32_t net;
        unsigned bits;
    } special[] = {
        {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},
        {0xa9fe0000, 16}, {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24},
        {0xc0586300, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xc6336400, 24},
        {0xcb007100, 24}, {0xe0000000, 3},  {0xa83f8110, 32} /* 168.63.129.16 */
    };

    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
        if ((ip ^ special[i].net) >> (32 - special[i].bits) == 0)
            return false;
    return true;
}

/* Only 2000::/3, without what tunnels to IPv4 or is set aside. */
static bool
is_public6(const unsigned char *a)
{
    if ((a[0] & 0xe0) != 0x20)
        return false;
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return false;
    if (a[0] == 0x20 && a[1] == 0x01
        && ((a[2] & 0xfe) == 0 /* 2001::/23 */
            || (a[2] == 0x0d && a[3] == 0xb8)))
        return false;
    return !(a[0] == 0x3f && a[1] == 0xff); /* 3fff::/20 */
}

bool
ag_address_is_public(const struct sockaddr *sa)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    switch (sa->sa_family) {
    case AF_INET:
        memcpy(&v4, sa, sizeof(v4));
        return is_public4(ntohl(v4.sin_addr.s_addr));
    case AF_INET6:
        memcpy(&v6, sa, sizeof(v6));
        return is_public6(v6.sin6_addr.s6_addr);
    default:
        return false;
    }
}

static bool
is_same(const struct sockaddr *a, const struct sockaddr *b)
{
    if (b == NULL || a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)a)->sin_addr,
                      &((const struct sockaddr_in *)b)->sin_addr,
                      sizeof(struct in_addr))
               == 0;
    return a->sa_family == AF_INET6
           && memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                     &((const struct sockaddr_in6 *)b)->sin6_addr,
                     sizeof(struct in6_addr))
                  == 0;
}

bool
ag_address_is_own(const struct sockaddr *sa, const struct ifaddrs *own)
{
    for (; own != NULL; own = own->ifa_next)
        if (is_same(sa, own->ifa_addr))
            return true;
    return false;
}
