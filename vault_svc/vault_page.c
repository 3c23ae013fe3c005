/* Lists by page: their limit, and their answer. */
#include "vault_svc/vault_page.h"

#include "lib/rpc_page.h"

#define PAGE_DEFAULT 20
#define PAGE_MAX 100

struct vault_page *
vault_page_new(struct vault_op *op, int limit, struct ag_err *err)
{
    struct vault_page *page = ag_arena_alloc(op->arena, sizeof(*page));

    if (limit < 0 || limit > PAGE_MAX) {
        ag_err_set(err, AG_ERR_INVALID, "limit: not between 1 and %d",
                   PAGE_MAX);
        return NULL;
    }
    page->list = NULL;
    page->limit = limit == 0 ? PAGE_DEFAULT : limit;
    return page;
}

int64_t
vault_page_begin(struct vault_op *op, const struct vault_list *list, int limit)
{
    struct ag_err err = AG_ERR_INIT;
    struct vault_page *page = vault_page_new(op, limit, &err);

    if (page == NULL) {
        vault_op_fail(op, &err);
        return -1;
    }
    page->list = list;
    op->state = page;
    return page->limit + 1;
}

void
vault_page_reply(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_page *page = op->state;
    ProtobufCMessage **data;
    size_t n;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    n = vault_page_rows(page, ag_db_rows(res));
    data = ag_arena_alloc(op->arena, (n + 1) * sizeof(*data));
    for (size_t i = 0; i < n; i++)
        data[i] = page->list->message(op, res, (int)i);
    ag_rpc_reply(op->call, ag_rpc_page(op->arena, page->list->response, data, n,
                                       n < (size_t)ag_db_rows(res)));
}
