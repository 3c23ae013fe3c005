/*
 * Events as callers send them. Pure.
 */
#ifndef BRAIN_EVENT_CHECK_H
#define BRAIN_EVENT_CHECK_H

#include "lib/json.h"

/*
 * Make the event that is stored from what a caller sent: a new id, the time,
 * and the fields of its type. AG_ERR_INVALID names the field. The caller
 * releases *out.
 */
int brain_event_check(const json_t *in, json_t **out, struct ag_err *err);

#endif
