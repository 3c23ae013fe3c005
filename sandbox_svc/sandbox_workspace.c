/*
 * DeleteWorkspace, step by step: the sandbox, the workspace (the launcher's,
 * since its files are root's), the outputs (ours, on a worker thread), the
 * rows. Each step can be repeated, so that a call that failed half way is
 * simply made again.
 */
#include "sandbox_svc/sandbox_workspace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/log.h"
#include "sandbox_svc/sandbox_link.h"
#include "sandbox_svc/sandbox_session.h"
#include "sandbox_svc/sandbox_store.h"

struct removal {
    struct ag_job job;
    struct sandbox_svc *svc;
    int output_dir;
    char session_id[LAUNCHER_ID_MAX];
    char *tenant;
    sandbox_workspace_done *done;
    void *arg;
    struct ag_err err;
};

static void
finish(struct removal *r, const struct ag_err *err)
{
    r->done(r->arg, err);
    ag_freep(&r->tenant);
    ag_freep(&r);
}

static void
on_deleted(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    (void)res;
    finish(arg, err);
}

static void
on_tenant(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct removal *r = arg;

    if (err != NULL) {
        finish(r, err);
        return;
    }
    if (ag_db_rows(res) == 0 || ag_db_is_null(res, 0, 0)) {
        finish(r, NULL);
        return;
    }
    r->tenant = ag_str_dup(ag_db_get(res, 0, 0));
    sandbox_store_delete(r->svc->db, ag_str(r->tenant), ag_str(r->session_id),
                         on_deleted, r);
}

/* The folder holds plain files of this service only. Worker thread. */
static void
remove_outputs(struct ag_job *job)
{
    struct removal *r = (struct removal *)job;
    int fd = openat(r->output_dir, r->session_id,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
    if (unlinkat(r->output_dir, r->session_id, AT_REMOVEDIR) < 0
        && errno != ENOENT)
        ag_err_sys(&r->err, "remove outputs of %s", r->session_id);
}

static void
on_outputs_removed(struct ag_job *job)
{
    struct removal *r = (struct removal *)job;

    if (r->err.kind != AG_ERR_NONE)
        finish(r, &r->err);
    else
        sandbox_store_tenant(r->svc->db, ag_str(r->session_id), on_tenant, r);
}

static void
on_wiped(void *arg, const struct launcher_reply *reply, const int *fds,
         const struct ag_err *err)
{
    struct removal *r = arg;

    (void)reply;
    (void)fds;
    if (err != NULL) {
        finish(r, err);
        return;
    }
    r->job.work = remove_outputs;
    r->job.done = on_outputs_removed;
    if (ag_workq_submit(r->svc->workq, &r->job, &r->err) < 0)
        finish(r, &r->err);
}

static void
wipe(void *arg)
{
    struct removal *r = arg;
    struct launcher_request req = {.type = LAUNCHER_WIPE};

    memcpy(req.session_id, r->session_id, sizeof(req.session_id));
    if (sandbox_link_send(r->svc->link, &req, on_wiped, r, &r->err) < 0)
        finish(r, &r->err);
}

void
sandbox_workspace_delete(struct sandbox_svc *svc, const char *session_id,
                         sandbox_workspace_done *done, void *arg)
{
    struct sandbox_session *s = sandbox_session_find(svc, ag_str(session_id));
    struct removal *r = ag_xcalloc(1, sizeof(*r));

    snprintf(r->session_id, sizeof(r->session_id), "%s", session_id);
    r->svc = svc;
    r->output_dir = svc->output_dir;
    r->done = done;
    r->arg = arg;
    if (s != NULL)
        sandbox_session_end(s, "deleted", wipe, r);
    else
        wipe(r);
}
