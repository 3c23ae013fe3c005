/*
 * Clients of the admin socket, which only root reaches. A key that is made is
 * printed once and is stored nowhere.
 */
#include "vault_svc/vault_command.h"

#include <stdio.h>
#include <unistd.h>

#include "agent_rpc.h"
#include "lib/arena.h"
#include "lib/rpc_client.h"
#include "vault.pb-c.h"

enum { SCOPES_MAX = 32, TIMEOUT_MS = 10000, REKEY_TIMEOUT_MS = 3600000 };

struct answer {
    struct ag_loop *loop;
    int rc;
    struct ag_err err;
};

static void
on_key(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct answer *a = arg;
    const Agent__Vault__V1__Key *key = (const void *)reply;

    if (reply == NULL) {
        a->rc = -1;
        a->err = *err;
    } else {
        printf("%s\n", key->secret);
        if (fflush(stdout) != 0)
            a->rc = ag_err_sys(&a->err, "write the key");
    }
    ag_loop_stop(a->loop);
}

static size_t
split(ag_str_t text, struct ag_arena *arena, char **out)
{
    size_t n = 0;
    ag_str_t word;

    while (n < SCOPES_MAX && ag_str_cut(&text, ',', &word))
        out[n++] = ag_arena_cstr(arena, word);
    return n;
}

/* One call to the running vault; `done` stops the loop. */
static int
call_admin(const struct vault_conf *conf, const struct ag_rpc_method *method,
           const ProtobufCMessage *req, int64_t timeout_ms,
           ag_rpc_unary_done *done, struct ag_err *err)
{
    char target[128];

    if (geteuid() != 0)
        return ag_err_set(err, AG_ERR_DENIED, "this command is root's");
    struct ag_loop *loop = ag_loop_new(err);
    struct ag_rpc *rpc = loop == NULL ? NULL : ag_rpc_new(loop, err);
    if (rpc == NULL) {
        ag_loop_free(loop);
        return -1;
    }
    snprintf(target, sizeof(target), "unix:%s", conf->listen_admin);
    struct ag_rpc_channel *ch = ag_rpc_channel_new(rpc, target);
    struct ag_rpc_metadata tenant = {"x-brainbox-tenant", ag_str(conf->tenant)};
    struct ag_rpc_call_opts opts = {timeout_ms, &tenant, 1};
    struct answer a = {.loop = loop};
    ag_rpc_unary(ch, method, req, &opts, done, &a);
    ag_loop_run(loop);
    ag_rpc_channel_free(ch);
    ag_rpc_free(rpc);
    ag_loop_free(loop);
    if (a.rc < 0) {
        *err = a.err;
        return ag_err_wrap(err, "vault at %s", conf->listen_admin);
    }
    return 0;
}

int
vault_command_key_create(const struct vault_conf *conf, struct ag_err *err)
{
    Agent__Vault__V1__CreateKeyRequest req =
        AGENT__VAULT__V1__CREATE_KEY_REQUEST__INIT;
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    char *scopes[SCOPES_MAX];

    req.name = conf->name;
    req.role_id = conf->role;
    if (*conf->role == '\0') {
        req.scopes = scopes;
        req.n_scopes = split(ag_str(conf->scopes), arena, scopes);
    }
    return call_admin(conf, &agent__vault__v1__key_service__create_key__rpc,
                      &req.base, TIMEOUT_MS, on_key, err);
}

static void
on_rekeyed(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct answer *a = arg;
    const Agent__Vault__V1__DataKey *key = (const void *)reply;

    if (reply == NULL) {
        a->rc = -1;
        a->err = *err;
    } else {
        printf("data key %d: %lld credentials sealed anew\n", (int)key->version,
               (long long)key->resealed);
        if (fflush(stdout) != 0)
            a->rc = ag_err_sys(&a->err, "write the answer");
    }
    ag_loop_stop(a->loop);
}

int
vault_command_rekey(const struct vault_conf *conf, struct ag_err *err)
{
    const Agent__Vault__V1__RotateDataKeyRequest req =
        AGENT__VAULT__V1__ROTATE_DATA_KEY_REQUEST__INIT;

    return call_admin(conf,
                      &agent__vault__v1__data_key_service__rotate_data_key__rpc,
                      &req.base, REKEY_TIMEOUT_MS, on_rekeyed, err);
}

static void
on_explained(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct answer *a = arg;
    const Agent__Vault__V1__ExplainResponse *e = (const void *)reply;

    if (reply == NULL) {
        a->rc = -1;
        a->err = *err;
        ag_loop_stop(a->loop);
        return;
    }
    printf("%s: %s\n", e->verdict, e->reason);
    if (*e->message != '\0')
        printf("  %s\n", e->message);
    printf("policy: %s version %d%s%s\n", e->environment_id,
           (int)e->policy_version, *e->policy_reason != '\0' ? ", " : "",
           e->policy_reason);
    if (*e->swapped_credential_id != '\0')
        printf("%s: %s in %s\n", e->is_signed ? "signs" : "swaps",
               e->swapped_credential_id, e->swapped_slot);
    for (size_t i = 0; i < e->n_credentials; i++)
        printf("bound here: %s %s %.*s\n", e->credentials[i]->credential_id,
               e->credentials[i]->variable,
               (int)e->credentials[i]->binding_json.len,
               (const char *)e->credentials[i]->binding_json.data);
    if (fflush(stdout) != 0)
        a->rc = ag_err_sys(&a->err, "write the answer");
    ag_loop_stop(a->loop);
}

int
vault_command_explain(const struct vault_conf *conf, char **words, int n_words,
                      struct ag_err *err)
{
    Agent__Vault__V1__ExplainRequest req =
        AGENT__VAULT__V1__EXPLAIN_REQUEST__INIT;
    char **fields[] = {&req.session_id, &req.url, &req.method, &req.credential,
                       &req.slot};

    for (int i = 0; i < n_words && i < 5; i++)
        *fields[i] = words[i];
    return call_admin(conf, &agent__vault__v1__explain_service__explain__rpc,
                      &req.base, TIMEOUT_MS, on_explained, err);
}
