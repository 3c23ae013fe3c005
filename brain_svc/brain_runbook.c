/*
 * The runbook parser: a scan over lines. Pure; fuzzed by
 * tests/fuzz/runbook_fuzz.c.
 */
#include "brain_svc/brain_runbook.h"

#include <stdlib.h>

struct fence {
    char mark;     /* '`' or '~' */
    size_t length; /* of the opening run */
    ag_str_t info;
};

/* Up to three spaces, then at least three marks. */
static bool
read_fence(ag_str_t line, struct fence *out)
{
    size_t i = 0;

    while (i < line.n && i < 3 && line.p[i] == ' ')
        i++;
    line = ag_str_n(line.p + i, line.n - i);
    if (line.n < 3 || (line.p[0] != '`' && line.p[0] != '~'))
        return false;
    out->mark = line.p[0];
    for (out->length = 0;
         out->length < line.n && line.p[out->length] == out->mark;)
        out->length++;
    if (out->length < 3)
        return false;
    out->info =
        ag_str_trim(ag_str_n(line.p + out->length, line.n - out->length));
    if (out->info.n > 0 && out->info.p[out->info.n - 1] == '\r')
        out->info = ag_str_trim(ag_str_n(out->info.p, out->info.n - 1));
    /* An info string behind backticks has none itself. */
    return out->mark == '~' || ag_str_chr(out->info, '`') < 0;
}

static bool
is_shell(ag_str_t info)
{
    ag_str_t word = info;
    size_t n = 0;

    while (n < info.n && info.p[n] != ' ' && info.p[n] != '\t')
        n++;
    word.n = n;
    return ag_str_is(word, "sh") || ag_str_is(word, "bash")
           || ag_str_is(word, "shell");
}

static void
add_step(struct brain_runbook *out, const char *start, const char *end)
{
    if ((out->n & (out->n - 1)) == 0)
        out->steps = ag_xrealloc(out->steps, (out->n == 0 ? 1 : out->n * 2)
                                                 * sizeof(*out->steps));
    out->steps[out->n++] = ag_str_n(start, (size_t)(end - start));
}

void
brain_runbook_parse(ag_str_t text, struct brain_runbook *out)
{
    const char *end = text.p + text.n, *start = NULL;
    struct fence open = {0}, f;
    ag_str_t line;
    bool is_open = false;

    *out = (struct brain_runbook){NULL, 0};
    if (text.n == 0)
        return;
    while (ag_str_cut(&text, '\n', &line)) {
        bool is_fence = read_fence(line, &f);

        if (is_open && is_fence && f.mark == open.mark
            && f.length >= open.length && f.info.n == 0) {
            if (is_shell(open.info))
                add_step(out, start, line.p);
            is_open = false;
        } else if (!is_open && is_fence) {
            open = f;
            start = text.p == NULL ? end : text.p;
            is_open = true;
        }
    }
    if (is_open && is_shell(open.info))
        add_step(out, start, end);
}

void
brain_runbook_release(struct brain_runbook *book)
{
    free(book->steps);
    *book = (struct brain_runbook){NULL, 0};
}
