/*
 * The forms that a value may take on its way out, and the one window of each
 * whose fingerprint stands for it. Pure, any thread. Forms are numbered from 0;
 * the number of a form means the same for every value.
 */
#ifndef VAULT_FORM_H
#define VAULT_FORM_H

#include "lib/secret.h"

enum {
    VAULT_FORM_N = 11,
    VAULT_FORM_MAX = 6 * 64 * 1024 + 64, /* bytes: JSON escapes */
    VAULT_FORM_SPAN_MAX = 4096, /* bytes compared on each side of the window */
};

/*
 * Make form `i` of `value` in `out` (AG_BUF_INIT(VAULT_FORM_MAX)), which is
 * wiped before, and by the caller afterwards. False when that form is the same
 * as an earlier one, or too short for a window.
 */
bool vault_form_make(ag_str_t value, int i, struct ag_buf *out);

/* Where the window stands: in the middle, since values often begin and end as
 * others do; and how much on each side of it is compared. */
struct vault_form_window {
    size_t at;
    size_t before, after;
};
struct vault_form_window vault_form_window(ag_str_t form);

#endif
