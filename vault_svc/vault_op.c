/*
 * What every method of vault_svc begins and ends with: who asks, for which
 * tenant, and how an error leaves.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/scope.h"
#include "vault_svc/vault.h"

#define TENANT_METADATA "x-brainbox-tenant"

struct vault_tenant *
vault_tenant_find(struct vault *v, ag_str_t name)
{
    for (size_t i = 0; i < v->n_tenants; i++)
        if (ag_str_is(name, v->tenants[i]->name))
            return v->tenants[i];
    return NULL;
}

struct vault_op *
vault_op_plain(struct ag_rpc_call *call, const void *request,
               const struct vault_face *face)
{
    struct ag_arena *arena = ag_rpc_call_arena(call);
    struct vault_op *op = ag_arena_alloc(arena, sizeof(*op));
    op->v = face->v;
    op->call = call;
    op->arena = arena;
    op->request = request;
    return op;
}

/* Root at the admin socket: whoever reaches it is root, by its folder. */
static void
become_root(struct vault_op *op)
{
    ag_str_t tenant = ag_rpc_call_metadata(op->call, TENANT_METADATA);
    op->who.tenant = tenant.n > 0 ? tenant : AG_STR("default");
    op->who.subject = AG_STR("root");
    op->who.scopes = AG_SCOPES_ALL;
}

struct vault_op *
vault_op_begin(struct ag_rpc_call *call, const void *request,
               const struct vault_face *face, const ag_str_t *bound_to)
{
    struct vault_op *op = vault_op_plain(call, request, face);
    struct ag_err err = AG_ERR_INIT;
    /* An assertion made for one request holds for that request alone. */
    ag_str_t bytes = bound_to != NULL ? *bound_to : ag_rpc_call_bytes(call);

    if (face->is_admin) {
        become_root(op);
    } else if (ag_assertion_check(
                   op->v->assertion_key,
                   ag_rpc_call_metadata(call, AG_ASSERTION_METADATA), bytes,
                   bound_to != NULL, op->arena, &op->who, &err)
               < 0) {
        if (bound_to != NULL)
            err.kind = AG_ERR_DENIED;
        vault_op_fail(op, &err);
        return NULL;
    }
    op->tenant = vault_tenant_find(op->v, op->who.tenant);
    if (op->tenant == NULL) {
        vault_op_refuse(op, AG_ERR_DENIED, "the tenant does not exist");
        return NULL;
    }
    if (ag_scopes_check(op->who.scopes, ag_rpc_call_scopes(call), &err) < 0) {
        vault_op_fail(op, &err);
        return NULL;
    }
    return op;
}

void
vault_op_log(struct vault_op *op, const struct ag_err *err)
{
    if (err->kind == AG_ERR_CORRUPT || err->kind == AG_ERR_INTERNAL
        || err->kind == AG_ERR_IO || err->kind == AG_ERR_UNAVAILABLE)
        ag_log(AG_ERROR, "call.failed",
               AG_S("request_id", ag_rpc_call_request_id(op->call)), AG_E(err));
}

void
vault_op_fail(struct vault_op *op, const struct ag_err *err)
{
    vault_op_log(op, err);
    ag_rpc_fail(op->call, err);
}

void
vault_op_refuse(struct vault_op *op, enum ag_err_kind kind, const char *fmt,
                ...)
{
    struct ag_err err = {.kind = kind};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err.msg, sizeof(err.msg), fmt, ap);
    va_end(ap);
    vault_op_fail(op, &err);
}

char *
vault_op_text(struct vault_op *op, ag_str_t s)
{
    return ag_arena_cstr(op->arena, s);
}

char *
vault_op_time(struct vault_op *op, int64_t us)
{
    char *out = ag_arena_alloc(op->arena, AG_TIME_TEXT);
    ag_time_format(us, out);
    return out;
}

void
vault_add_text(struct ag_buf *b, const char *key, ag_str_t v)
{
    ag_buf_addf(b, ",\"%s\":", key);
    v.n = v.n > 160 ? 160 : v.n;
    ag_buf_add_json(b, v);
}

void
vault_generation_move(struct vault *v)
{
    v->changes++;
    if (v->generation != NULL)
        __atomic_add_fetch(&v->generation->counter, 1, __ATOMIC_RELEASE);
}

void
vault_generation_revoke(struct vault *v, ag_str_t id)
{
    struct ag_generation *g = v->generation;

    if (g != NULL) {
        __atomic_store_n(&g->revoked[g->n_revoked % AG_GENERATION_REVOKED],
                         ag_generation_digest(id), __ATOMIC_RELAXED);
        __atomic_add_fetch(&g->n_revoked, 1, __ATOMIC_RELEASE);
    }
    vault_generation_move(v);
}
