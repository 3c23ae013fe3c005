/* Unix sockets by their path; non-blocking and close-on-exec. */
#ifndef LIB_UNIX_H
#define LIB_UNIX_H

#include "lib/err.h"

/*
 * Listen on a socket of `type` at `path`, mode 0660 and the group of its
 * folder: takes an flock on "<path>.lock", kept for the life of the process,
 * and removes a stale socket. AG_ERR_EXISTS when another process listens there.
 */
int ag_unix_listen(const char *path, int type, struct ag_err *err);
/* Connect to one; AG_ERR_UNAVAILABLE when nobody listens. */
int ag_unix_connect(const char *path, int type, struct ag_err *err);

#endif
