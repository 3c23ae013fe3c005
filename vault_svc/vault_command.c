/*
 * `vault_svc key create`: a client of the admin socket, which only root
 * reaches. The key is printed once and is stored nowhere.
 */
#include "vault_svc/vault_command.h"

#include <stdio.h>
#include <unistd.h>

#include "agent_rpc.h"
#include "lib/arena.h"
#include "lib/rpc_client.h"
#include "vault.pb-c.h"

enum { SCOPES_MAX = 8, TIMEOUT_MS = 10000 };

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

int
vault_command_key_create(const struct vault_conf *conf, struct ag_err *err)
{
    Agent__Vault__V1__CreateKeyRequest req =
        AGENT__VAULT__V1__CREATE_KEY_REQUEST__INIT;
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    char *scopes[SCOPES_MAX], target[128];

    if (geteuid() != 0)
        return ag_err_set(err, AG_ERR_DENIED, "`key create` is root's");
    struct ag_loop *loop = ag_loop_new(err);
    struct ag_rpc *rpc = loop == NULL ? NULL : ag_rpc_new(loop, err);
    if (rpc == NULL) {
        ag_loop_free(loop);
        return -1;
    }
    snprintf(target, sizeof(target), "unix:%s", conf->listen_admin);
    struct ag_rpc_channel *ch = ag_rpc_channel_new(rpc, target);
    struct ag_rpc_metadata tenant = {"x-brainbox-tenant", ag_str(conf->tenant)};
    struct ag_rpc_call_opts opts = {TIMEOUT_MS, &tenant, 1};
    struct answer a = {.loop = loop};
    req.name = conf->name;
    req.scopes = scopes;
    req.n_scopes = split(ag_str(conf->scopes), arena, scopes);
    ag_rpc_unary(ch, &agent__vault__v1__key_service__create_key__rpc, &req.base,
                 &opts, on_key, &a);
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
