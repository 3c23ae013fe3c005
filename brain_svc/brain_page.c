/* Lists by page: their limit, and their answer. On the loop. */
#include "brain_svc/brain_page.h"

#include "lib/rpc_page.h"

struct page {
    const struct brain_list *list;
    int limit;
};

int64_t
brain_page_begin(struct brain_req *req, const struct brain_list *list,
                 int32_t limit)
{
    struct page *page = ag_arena_alloc(req->arena, sizeof(*page));
    struct ag_err err;

    if (brain_check_limit(limit, &page->limit, &err) < 0) {
        ag_rpc_fail(req->call, &err);
        return -1;
    }
    page->list = list;
    req->state = page;
    return page->limit + 1;
}

void
brain_page_reply(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct brain_req *req = arg;
    const struct page *page = req->state;
    ProtobufCMessage **data;
    int rows, n;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
        return;
    }
    rows = ag_db_rows(res);
    n = rows > page->limit ? page->limit : rows;
    data = ag_arena_alloc(req->arena, (size_t)(n + 1) * sizeof(*data));
    for (int i = 0; i < n; i++) {
        data[i] =
            ag_arena_alloc(req->arena, page->list->element->sizeof_message);
        page->list->fill(data[i], res, i, req->arena);
    }
    ag_rpc_reply(req->call, ag_rpc_page(req->arena, page->list->response, data,
                                        (size_t)n, rows > n));
}
