/*
 * Lists by page: one row more than the page holds is read, to know of a next
 * one. A list's response has `data`, messages with an `id`, newest first, and
 * `next_page`, the last of these ids.
 */
#ifndef VAULT_PAGE_H
#define VAULT_PAGE_H

#include "vault_svc/vault.h"

struct vault_list {
    const ProtobufCMessageDescriptor *response;
    /* A row as an element of `data`, in the op's arena. */
    ProtobufCMessage *(*message)(struct vault_op *op,
                                 const struct ag_db_result *res, int row);
};

struct vault_page {
    const struct vault_list *list;
    int limit;
};

/* 0 means 20. NULL with AG_ERR_INVALID when out of range. */
struct vault_page *
vault_page_new(struct vault_op *op, int limit, struct ag_err *err);

/*
 * Begin a list: it becomes the op's state. Returns how many rows to read, for
 * a query that ends in vault_page_reply with `op`, or -1: refused.
 */
int64_t
vault_page_begin(struct vault_op *op, const struct vault_list *list, int limit);
void vault_page_reply(void *op, const struct ag_db_result *res,
                      const struct ag_err *err);

/* Rows of the page itself. */
static inline size_t
vault_page_rows(const struct vault_page *page, int rows)
{
    return (size_t)(rows > page->limit ? page->limit : rows);
}

#endif
