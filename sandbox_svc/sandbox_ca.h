/*
 * The root certificate inside of sandboxes. It hardly ever changes, so that
 * one that is made gets what the vault named last, before it is claimed.
 */
#ifndef SANDBOX_SVC_SANDBOX_CA_H
#define SANDBOX_SVC_SANDBOX_CA_H

#include "lib/buf.h"
#include "sandbox_svc/sandbox_box.h"
#include "sandbox_svc/sandbox_svc.h"

/* The vault named it; returns its version. */
int64_t sandbox_ca_note(struct sandbox_svc *svc, const char *pem);

/*
 * Write what was noted last: alone into one file, appended to the bundle in
 * another, and as the only root of a key store for Java. The INIT_PUT_DONE with
 * box->ca_put_id stands for all. -1 when it could not be sent.
 */
int sandbox_ca_put(struct sandbox_svc *svc, struct sandbox_box *box,
                   struct ag_err *err);

/* The certificate as a Java key store (JKS), which has no password that anybody
 * checks. AG_ERR_INVALID when `pem` is none. */
int sandbox_ca_jks(ag_str_t pem, struct ag_buf *out, struct ag_err *err);

#endif
