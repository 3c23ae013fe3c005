/*
 * Event streams: who listens to which session, and getting each listener every
 * stored event once, in order.
 *
 * A stream knows the seq it wants next. What is published with that seq is
 * sent at once; anything else makes the stream read from the database until it
 * has caught up. So nothing is lost between reading and listening, and a slow
 * reader costs no memory here.
 */
#ifndef BRAIN_HUB_H
#define BRAIN_HUB_H

#include "brain_svc/brain_preview.h"

struct brain_hub *brain_hub_new(struct brain *brain);
/* Ends every stream. */
void brain_hub_free(struct brain_hub *hub);

/* Stored events `first`, `first` + 1, … of a session. */
void brain_hub_publish(struct brain_hub *hub, ag_str_t session, int64_t first,
                       json_t *const *events, size_t n);
/* Of passing interest: to those who asked for previews of this kind. */
void brain_hub_preview(struct brain_hub *hub, ag_str_t session,
                       enum brain_preview kind, const json_t *event);
/* True when somebody would get one. */
bool brain_hub_wants(const struct brain_hub *hub, ag_str_t session,
                     enum brain_preview kind);
/* The session has ended: end its streams. */
void brain_hub_close(struct brain_hub *hub, ag_str_t session);

/* Open streams. */
size_t brain_hub_count(const struct brain_hub *hub);

/* Serve a StreamEvents call that has been let in. */
void brain_hub_stream(struct brain_req *req, const ProtobufCMessage *request);

#endif
