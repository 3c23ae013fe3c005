/* Lists by page: their limits (rows, page_bytes), and their answer. On the
 * loop.
 */
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
    int rows, max, n;
    int64_t bytes = 0;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
        return;
    }
    rows = ag_db_rows(res);
    max = rows > page->limit ? page->limit : rows;
    data = ag_arena_alloc(req->arena, (size_t)(max + 1) * sizeof(*data));
    for (n = 0; n < max && bytes < req->brain->conf.page_bytes; n++) {
        data[n] =
            ag_arena_alloc(req->arena, page->list->element->sizeof_message);
        page->list->fill(data[n], res, n, req->arena);
        bytes += (int64_t)protobuf_c_message_get_packed_size(data[n]);
    }
    ag_rpc_reply(req->call, ag_rpc_page(req->arena, page->list->response, data,
                                        (size_t)n, rows > n));
}
