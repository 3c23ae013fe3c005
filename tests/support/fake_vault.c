/*
 * A vault for tests of sandbox_svc: WorkloadService on a unix socket, with
 * answers from the command line.
 *
 *   fake_vault PATH CA_FILE [deny=SESSION] [env=NAME=VALUE] [stub=NAME=VALUE]
 *              [host=NAME]...
 *
 * Every call is a line on standard output: "open SESSION WORKLOAD ENVIRONMENT
 * ADDRESS" or "close WORKLOAD". A session has the tenant "tenant-a", or
 * "tenant-b" when its id ends with b; environments env_a and env_b exist.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/log.h"
#include "lib/rpc_server.h"
#include "vault.pb-c.h"

#define LIST_MAX 32
#define CA_MAX 65536

static char ca_pem[CA_MAX];
static const char *denied[LIST_MAX], *hosts[LIST_MAX];
static Agent__Vault__V1__EnvironmentVariable vars[LIST_MAX];
static size_t n_denied, n_hosts, n_vars;
static struct ag_rpc_server *server;
static struct ag_loop *loop;

static int
check(const Agent__Vault__V1__OpenWorkloadRequest *r, struct ag_err *err)
{
    for (size_t i = 0; i < n_denied; i++)
        if (strcmp(denied[i], r->session_id) == 0)
            return ag_err_set(err, AG_ERR_DENIED, "the session is frozen");
    if (*r->environment_id != 0 && strcmp(r->environment_id, "env_a") != 0
        && strcmp(r->environment_id, "env_b") != 0)
        return ag_err_set(err, AG_ERR_DENIED,
                          "the grant does not name environment %s",
                          r->environment_id);
    return 0;
}

static void
open_workload(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Vault__V1__OpenWorkloadRequest *r
        = (const Agent__Vault__V1__OpenWorkloadRequest *)m;
    Agent__Vault__V1__OpenWorkloadResponse reply
        = AGENT__VAULT__V1__OPEN_WORKLOAD_RESPONSE__INIT;
    Agent__Vault__V1__EnvironmentVariable *list[LIST_MAX];
    struct ag_err err = AG_ERR_INIT;

    (void)arg;
    printf("open %s %s %s %s\n", r->session_id, r->workload_id,
           *r->environment_id ? r->environment_id : "-", r->address);
    fflush(stdout);
    if (check(r, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    size_t n = strlen(r->session_id);
    reply.tenant = r->session_id[n - 1] == 'b' ? "tenant-b" : "tenant-a";
    reply.environment_id = *r->environment_id ? r->environment_id : "env_a";
    for (size_t i = 0; i < n_vars; i++)
        list[i] = &vars[i];
    reply.env = list;
    reply.n_env = n_vars;
    reply.allowed_hosts = (char **)hosts;
    reply.n_allowed_hosts = n_hosts;
    reply.ca_pem = ca_pem;
    ag_rpc_reply(call, &reply.base);
}

static void
close_workload(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    Agent__Vault__V1__CloseWorkloadResponse reply
        = AGENT__VAULT__V1__CLOSE_WORKLOAD_RESPONSE__INIT;

    (void)arg;
    printf("close %s\n",
           ((const Agent__Vault__V1__CloseWorkloadRequest *)m)->workload_id);
    fflush(stdout);
    ag_rpc_reply(call, &reply.base);
}

static void
add_variable(char *text, bool is_stub)
{
    char *value = strchr(text, '=');

    if (value == NULL || n_vars == LIST_MAX)
        exit(2);
    *value = 0;
    agent__vault__v1__environment_variable__init(&vars[n_vars]);
    vars[n_vars].name = text;
    vars[n_vars].value = value + 1;
    vars[n_vars++].is_stub = is_stub;
}

static void
take_argument(char *a)
{
    if (strncmp(a, "deny=", 5) == 0 && n_denied < LIST_MAX)
        denied[n_denied++] = a + 5;
    else if (strncmp(a, "host=", 5) == 0 && n_hosts < LIST_MAX)
        hosts[n_hosts++] = a + 5;
    else if (strncmp(a, "env=", 4) == 0)
        add_variable(a + 4, false);
    else if (strncmp(a, "stub=", 5) == 0)
        add_variable(a + 5, true);
    else
        exit(2);
}

static void
on_stopped(void *arg)
{
    (void)arg;
    ag_loop_stop(loop);
}

static void
on_term(void *arg)
{
    (void)arg;
    ag_rpc_server_stop(server, 0, on_stopped, NULL);
}

int
main(int argc, char **argv)
{
    struct ag_err err = AG_ERR_INIT;
    FILE *f = argc < 3 ? NULL : fopen(argv[2], "re");

    if (f == NULL) {
        fprintf(stderr, "usage: fake_vault PATH CA_FILE [KEY=VALUE]...\n");
        return 2;
    }
    ca_pem[fread(ca_pem, 1, CA_MAX - 1, f)] = 0;
    fclose(f);
    for (int i = 3; i < argc; i++)
        take_argument(argv[i]);
    ag_log_init("fake_vault", AG_INFO);
    loop = ag_loop_new(&err);
    if (loop == NULL || ag_loop_on_term(loop, on_term, NULL, &err) < 0)
        return 1;
    struct ag_rpc *rpc = ag_rpc_new(loop, &err);
    server = ag_rpc_server_new(rpc, "fake-vault");
    ag_rpc_server_add(server,
                      &agent__vault__v1__workload_service__open_workload__rpc,
                      open_workload, NULL);
    ag_rpc_server_add(server,
                      &agent__vault__v1__workload_service__close_workload__rpc,
                      close_workload, NULL);
    if (ag_rpc_server_listen_unix(server, argv[1], &err) < 0
        || ag_rpc_server_start(server, &err) < 0) {
        ag_log(AG_ERROR, "service.failed", AG_E(&err));
        return 1;
    }
    ag_loop_run(loop);
    ag_rpc_server_free(server);
    ag_rpc_free(rpc);
    ag_loop_free(loop);
    return 0;
}
