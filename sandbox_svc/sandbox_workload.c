/*
 * What a session's sandbox is given, beside the machine: what the vault allows,
 * checked, and the folder of its whole outputs. For sandbox_session.c.
 */
#include "sandbox_svc/sandbox_workload.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox_svc/sandbox_env.h"
#include "sandbox_svc/sandbox_journal.h"

#define PEM_MAX (64 * 1024)
#define LIST_MAX 1024

static char **
copy_strings(char *const *list, size_t n)
{
    char **out = ag_xcalloc(n + 1, sizeof(*out));

    for (size_t i = 0; i < n; i++)
        out[i] = ag_str_dup(ag_str(list[i]));
    return out;
}

static int
take_env(struct sandbox_session *s,
         const Agent__Vault__V1__OpenWorkloadResponse *r, struct ag_err *err)
{
    if (r->n_env > SANDBOX_ENV_COUNT_MAX)
        return ag_err_set(err, AG_ERR_LIMIT, "environment: %zu variables",
                          r->n_env);
    s->env_names = ag_xcalloc(r->n_env + 1, sizeof(char *));
    s->n_env = 0;
    for (size_t i = 0; i < r->n_env; i++) {
        if (sandbox_env_add(&s->env, r->env[i]->name, r->env[i]->value, err)
            < 0)
            return -1;
        s->env_names[s->n_env_names++] = ag_str_dup(ag_str(r->env[i]->name));
        s->n_env++;
    }
    s->n_env += sandbox_env_base(&s->env);
    return 0;
}

int
sandbox_workload_take(struct sandbox_session *s,
                      const Agent__Vault__V1__OpenWorkloadResponse *r,
                      struct ag_err *err)
{
    if (*r->tenant == 0 || strlen(r->tenant) > SANDBOX_JOURNAL_TENANT_MAX
        || strlen(r->environment_id) >= AG_ID_TEXT
        || strlen(r->ca_pem) > PEM_MAX || r->n_allowed_hosts > LIST_MAX)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "vault: malformed OpenWorkloadResponse");
    s->tenant = ag_str_dup(ag_str(r->tenant));
    s->environment_id = ag_str_dup(ag_str(r->environment_id));
    s->ca_pem = ag_str_dup(ag_str(r->ca_pem));
    s->hosts = copy_strings(r->allowed_hosts, r->n_allowed_hosts);
    s->n_hosts = r->n_allowed_hosts;
    return take_env(s, r, err);
}

int
sandbox_workload_output_dir(struct sandbox_svc *svc, const char *session_id,
                            struct ag_err *err)
{
    if (mkdirat(svc->output_dir, session_id, 0755) < 0 && errno != EEXIST)
        return ag_err_sys(err, "make output folder of %s", session_id);
    int fd = openat(svc->output_dir, session_id,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return ag_err_sys(err, "open output folder of %s", session_id);
    /* The sandbox reads it as "other", whatever the umask. */
    if (fchmod(fd, 0755) < 0) {
        ag_err_sys(err, "open output folder of %s to its sandbox", session_id);
        close(fd);
        return -1;
    }
    return fd;
}
