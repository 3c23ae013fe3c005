/* Scopes of keys and roles, as rows and messages have them. Pure. */
#include "vault_svc/vault_scope.h"

unsigned
vault_scopes_parse(ag_str_t text)
{
    unsigned scopes = 0;
    ag_str_t word;

    while (ag_str_cut(&text, ',', &word))
        scopes |= ag_scope_find(word);
    return scopes;
}

ag_str_t
vault_scopes_text(unsigned scopes, struct ag_arena *arena)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(256);

    for (int i = 0; i < AG_SCOPES_N; i++)
        if ((scopes & 1u << i) != 0)
            ag_buf_addf(&b, "%s%s", b.n > 0 ? "," : "", ag_scope_name(i));
    return ag_arena_copy(arena, ag_buf_str(&b));
}

int
vault_scopes_read(char **names, size_t n, unsigned *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf known = AG_BUF_INIT(256);
    unsigned scopes = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned bit = ag_scope_find(ag_str(names[i]));
        if (bit == 0) {
            ag_scopes_add_text(&known, AG_SCOPES_ALL);
            return ag_err_set(err, AG_ERR_INVALID, "scopes: not %s",
                              ag_buf_cstr(&known));
        }
        scopes |= bit;
    }
    *out = scopes;
    return 0;
}

size_t
vault_scopes_list(unsigned scopes, struct ag_arena *arena, char ***names)
{
    size_t n = 0;

    *names = ag_arena_alloc(arena, AG_SCOPES_N * sizeof(**names));
    for (int i = 0; i < AG_SCOPES_N; i++)
        if ((scopes & 1u << i) != 0)
            (*names)[n++] = ag_arena_cstr(arena, ag_str(ag_scope_name(i)));
    return n;
}

int
vault_scopes_check_given(const struct ag_principal *who, unsigned scopes,
                         struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf names = AG_BUF_INIT(256);
    unsigned beyond = ag_scopes_beyond(who->scopes, scopes);

    if (beyond == 0)
        return 0;
    ag_scopes_add_text(&names, beyond);
    return ag_err_set(err, AG_ERR_DENIED,
                      "scopes: nobody gives more than he holds, and the key "
                      "that asks does not hold %s",
                      ag_buf_cstr(&names));
}
