/* Paging of lists: one row more than the limit is read to know of a next page.
 */
#ifndef VAULT_PAGE_H
#define VAULT_PAGE_H

#include "vault_svc/vault.h"

struct vault_page {
    int limit;
};

/* 0 means 20. NULL with AG_ERR_INVALID when out of range. */
struct vault_page *
vault_page_new(struct vault_op *op, int limit, struct ag_err *err);

/* Rows of the page itself. */
static inline size_t
vault_page_rows(const struct vault_page *page, int rows)
{
    return (size_t)(rows > page->limit ? page->limit : rows);
}

#endif
