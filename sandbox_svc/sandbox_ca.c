/*
 * The root certificate inside of sandboxes, for sandbox_pool.c, which puts it
 * into what it makes, and sandbox_session.c, which looks whether it is the
 * right one.
 */
#include "sandbox_svc/sandbox_ca.h"

#include <stdlib.h>

#include "sandbox_svc/sandbox_env.h"

int64_t
sandbox_ca_note(struct sandbox_svc *svc, const char *pem)
{
    if (svc->ca_pem == NULL || strcmp(svc->ca_pem, pem) != 0) {
        free(svc->ca_pem);
        svc->ca_pem = ag_str_dup(ag_str(pem));
        svc->ca_version++;
    }
    return svc->ca_version;
}

int
sandbox_ca_put(struct sandbox_svc *svc, struct sandbox_box *box,
               struct ag_err *err)
{
    ag_str_t pem = ag_str(svc->ca_pem);

    box->ca_put_id = 0;
    /* Init answers in order, so the second answer stands for both. */
    if (sandbox_box_put(box, SANDBOX_CA_FILE, 0644, false, pem, err) != 0)
        box->ca_put_id =
            sandbox_box_put(box, SANDBOX_CA_BUNDLE, 0644, true, pem, err);
    return box->ca_put_id == 0 ? -1 : 0;
}
