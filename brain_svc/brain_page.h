/*
 * Lists by page: one row more than the page holds is read, to know of a next
 * one. A list's response is that of lib/rpc_page.h.
 */
#ifndef BRAIN_PAGE_H
#define BRAIN_PAGE_H

#include "brain_svc/brain.h"
#include "brain_svc/brain_check.h"

struct brain_list {
    const ProtobufCMessageDescriptor *response, *element;
    brain_fill *fill; /* an element from a row */
};

/*
 * Begin a list: it becomes the request's state. Returns how many rows to read,
 * for a query that ends in brain_page_reply with `req`, or -1: refused.
 */
int64_t brain_page_begin(struct brain_req *req, const struct brain_list *list,
                         int32_t limit);
void brain_page_reply(void *req, const struct ag_db_result *res,
                      const struct ag_err *err);

#endif
