/* Incidents of the vault: a frozen session's turn ends here, with its sandbox.
 */
#ifndef BRAIN_INCIDENT_H
#define BRAIN_INCIDENT_H

#include "brain_svc/brain.h"

struct brain_incidents;

/* Watch until freed; a stream that breaks is opened again. */
struct brain_incidents *brain_incidents_start(struct brain *brain);
/* Before the channel to the vault is freed. */
void brain_incidents_stop(struct brain_incidents *in);
void brain_incidents_free(struct brain_incidents *in);

#endif
