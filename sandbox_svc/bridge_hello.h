/* Which name a TLS ClientHello asks for. A pure function over bytes from the
 * sandbox. */
#ifndef SANDBOX_SVC_BRIDGE_HELLO_H
#define SANDBOX_SVC_BRIDGE_HELLO_H

#include <stddef.h>

/* More than a ClientHello needs, with post-quantum key shares. */
#define BRIDGE_HELLO_MAX 16384

enum bridge_hello {
    BRIDGE_HELLO_MORE,  /* not whole yet */
    BRIDGE_HELLO_PLAIN, /* not TLS */
    BRIDGE_HELLO_BAD,   /* malformed, too long, or without a server name */
    BRIDGE_HELLO_NAME,  /* `name` is set */
};

/* `name` has AG_HOST_MAX bytes; lower case, no dot at the end. */
enum bridge_hello bridge_hello_parse(const void *data, size_t n, char *name);

#endif
