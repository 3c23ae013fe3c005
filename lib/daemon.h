/*
 * How a process comes up: what it may see and what it gives up.
 *
 * Started as root by the supervisor, a service opens what only root may, then
 * calls ag_daemon_confine, then starts threads. Started as another user (in
 * tests) it stays what it is.
 */
#ifndef LIB_DAEMON_H
#define LIB_DAEMON_H

#include "lib/err.h"

/*
 * Become `user` with its groups (skipped when not root or `user` is ""), with
 * no capability left, no_new_privs, no core dump, not traceable, and umask 027.
 * For binaries that keep no privilege; before any thread is made.
 */
int ag_daemon_confine(const char *user, struct ag_err *err);

/*
 * Tell the supervisor that the service answers: writes a newline to
 * descriptor `fd` and closes it (s6 notification-fd); -1 does nothing. Under
 * systemd (NOTIFY_SOCKET) sends READY=1.
 */
void ag_daemon_ready(int fd);

#endif
