/* Packets with descriptors over unix sockets. */
#ifndef SANDBOX_SVC_FDPASS_H
#define SANDBOX_SVC_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

/* Most descriptors in one packet. */
#define FDPASS_MAX 8

/* One packet, without waiting. Returns 0, or -1 with errno. */
int
fdpass_send(int sock, const void *data, size_t n, const int *fds, int n_fds);

/*
 * One packet of at most `max` bytes. `fds` (FDPASS_MAX of them) gets what came
 * along, close-on-exec, and *n_fds how many; the caller closes them. A packet
 * that did not fit is -1 with EMSGSIZE. Returns the size, 0 at the end.
 */
ssize_t fdpass_recv(int sock, void *data, size_t max, int fds[FDPASS_MAX],
                    int *n_fds, int flags);

void fdpass_close(int *fds, int n_fds);

#endif
