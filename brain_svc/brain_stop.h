/*
 * The kill switch from the command line: everything, until it is let go on.
 */
#ifndef BRAIN_STOP_H
#define BRAIN_STOP_H

#include "brain_svc/brain.h"

/* Needs brain->loop and brain->db. An empty reason lets everything go on. */
int brain_stop_all(struct brain *brain, ag_str_t reason, struct ag_err *err);

#endif
