/*
 * Fuzz target of the runbook parser: each step is a view into the text, in
 * order, and the steps do not overlap.
 */
#include <stdint.h>

#include "brain_svc/brain_runbook.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ag_str_t text = ag_str_n(data, size);
    struct brain_runbook book;
    const char *at = text.p;

    brain_runbook_parse(text, &book);
    for (size_t i = 0; i < book.n; i++) {
        ag_assert(book.steps[i].p >= at);
        at = book.steps[i].p + book.steps[i].n;
        ag_assert(at <= text.p + text.n);
    }
    brain_runbook_release(&book);
    return 0;
}
