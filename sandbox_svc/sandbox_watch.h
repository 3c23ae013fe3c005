/*
 * The size of a session's workspace, measured again and again while it has a
 * sandbox. A command that runs while it is over the limit and does not get
 * smaller is killed; an agent may still remove files.
 */
#ifndef SANDBOX_SVC_SANDBOX_WATCH_H
#define SANDBOX_SVC_SANDBOX_WATCH_H

#include "sandbox_svc/sandbox_session.h"

void sandbox_watch_start(struct sandbox_session *s);
void sandbox_watch_stop(struct sandbox_session *s);

#endif
