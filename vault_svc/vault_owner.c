/* A table of places: an id has one, and takes it from whoever had it. */
#include "vault_svc/vault_owner.h"

#include <stdlib.h>

#include "lib/id.h"

enum { PLACES = 8192 };

struct owner {
    char id[AG_ID_TEXT];
    struct vault_tenant *tenant;
};

struct vault_owners {
    struct owner places[PLACES];
};

struct vault_owners *
vault_owners_new(void)
{
    return ag_xcalloc(1, sizeof(struct vault_owners));
}

void
vault_owners_free(struct vault_owners *owners)
{
    free(owners);
}

static struct owner *
place_of(const struct vault *v, ag_str_t id)
{
    return &v->owners->places[ag_generation_digest(id) % PLACES];
}

void
vault_owner_note(struct vault *v, ag_str_t id, struct vault_tenant *tenant)
{
    struct owner *o = place_of(v, id);

    if (id.n == 0 || id.n >= sizeof(o->id) || memchr(id.p, '\0', id.n) != NULL)
        return;
    memcpy(o->id, id.p, id.n);
    o->id[id.n] = '\0';
    o->tenant = tenant;
}

struct vault_tenant *
vault_owner_find(const struct vault *v, ag_str_t id)
{
    const struct owner *o = place_of(v, id);

    return id.n > 0 && ag_str_is(id, o->id) ? o->tenant : NULL;
}
