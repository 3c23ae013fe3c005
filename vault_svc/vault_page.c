/* Limits of list methods. */
#include "vault_svc/vault_page.h"

struct vault_page *
vault_page_new(struct vault_op *op, int limit, struct ag_err *err)
{
    struct vault_page *page = ag_arena_alloc(op->arena, sizeof(*page));

    if (limit < 0 || limit > 100) {
        ag_err_set(err, AG_ERR_INVALID, "limit: not between 1 and 100");
        return NULL;
    }
    page->limit = limit == 0 ? 20 : limit;
    return page;
}
