/*
 * What a killed predecessor had noted and not recorded. On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_RECOVER_H
#define SANDBOX_SVC_SANDBOX_RECOVER_H

#include "sandbox_svc/sandbox_svc.h"

/* Record all notes of the journal as started; svc->n_unrecovered of them are
 * left, and until it is 0 no command may run. Tried again each second. */
void sandbox_recover(struct sandbox_svc *svc);

#endif
