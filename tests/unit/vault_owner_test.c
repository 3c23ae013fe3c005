/* vault_svc/vault_owner.c: a bounded table that never answers for another id.
 */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "vault_svc/vault_owner.h"

enum { IDS = 50000 };

static void
an_id_is_found_with_its_own_tenant_or_not_at_all(void **state)
{
    struct vault v = {.owners = vault_owners_new()};
    struct vault_tenant tenants[7];
    size_t n_found = 0;
    char id[32];
    (void)state;

    for (size_t i = 0; i < IDS; i++) {
        (void)snprintf(id, sizeof(id), "sesn_%zu", i);
        vault_owner_note(&v, ag_str(id), &tenants[i % 7]);
        assert_ptr_equal(vault_owner_find(&v, ag_str(id)), &tenants[i % 7]);
    }
    for (size_t i = 0; i < IDS; i++) {
        (void)snprintf(id, sizeof(id), "sesn_%zu", i);
        struct vault_tenant *t = vault_owner_find(&v, ag_str(id));
        assert_true(t == NULL || t == &tenants[i % 7]);
        n_found += t != NULL;
    }
    assert_in_range(n_found, 1, IDS - 1);
    vault_owners_free(v.owners);
}

static void
what_is_no_id_is_not_noted(void **state)
{
    struct vault v = {.owners = vault_owners_new()};
    struct vault_tenant tenant;
    char text[200];
    (void)state;

    memset(text, 'x', sizeof(text));
    vault_owner_note(&v, ag_str_n(text, sizeof(text)), &tenant);
    assert_null(vault_owner_find(&v, ag_str_n(text, sizeof(text))));
    /* One of these has the place of "a", which it begins with. */
    for (int i = 0; i < IDS; i++) {
        int n = snprintf(text, sizeof(text), "a%c%d", '\0', i);

        vault_owner_note(&v, ag_str_n(text, (size_t)n), &tenant);
        assert_null(vault_owner_find(&v, ag_str_n(text, (size_t)n)));
    }
    assert_null(vault_owner_find(&v, AG_STR("a")));
    vault_owner_note(&v, AG_STR(""), &tenant);
    assert_null(vault_owner_find(&v, AG_STR("")));
    vault_owners_free(v.owners);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_found_with_its_own_tenant_or_not_at_all),
        cmocka_unit_test(what_is_no_id_is_not_noted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
