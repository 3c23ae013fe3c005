/*
 * Fuzz target of the scrubber: in whatever pieces a text comes, what goes out is
 * what the text as a whole becomes, as long, and without the value; and what is
 * held back is never longer than the longest pattern.
 *
 * Input: length of the value, size of a piece, the value, the text, in which
 * 0xff stands for the value.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ngx_agent_module/ngx_agent_scrub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 4096 };

/* Letters and digits, so that filler is no part of it. */
static size_t
make_value(const uint8_t *data, size_t n, char *out)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
                                "UVWXYZ0123456789+/";

    for (size_t i = 0; i < n; i++)
        out[i] = chars[data[i] & 63];
    return n;
}

static size_t
make_text(const uint8_t *data, size_t n, ag_str_t value, unsigned char *out)
{
    size_t at = 0;

    for (size_t i = 0; i < n && at + value.n < TEXT_MAX; i++) {
        if (data[i] != 0xff) {
            out[at++] = data[i];
            continue;
        }
        memcpy(out + at, value.p, value.n);
        at += value.n;
    }
    return at;
}

static size_t
stream(struct ngx_agent_scrub *s, const unsigned char *text, size_t n,
       size_t step, unsigned char *out)
{
    size_t at = 0, done = 0;

    do {
        size_t take = n - at < step ? n - at : step;
        bool is_last = at + take == n;
        done += ngx_agent_scrub_feed(s, ag_str_n(text + at, take), is_last,
                                     out + done);
        at += take;
        ag_assert(s->n_held < s->longest || s->longest == 0);
        ag_assert(done + s->n_held == at);
    } while (at < n);
    return done;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char text[TEXT_MAX], whole[TEXT_MAX];
    static unsigned char out[TEXT_MAX + 8 * 255 * 2];
    char value[255];
    struct ngx_agent_scrub s;

    if (size < 3 || size < (size_t)data[0] + 2)
        return 0;
    ag_str_t v = ag_str_n(value, make_value(data + 2, data[0], value));
    size_t n = make_text(data + 2 + v.n, size - 2 - v.n, v, text);
    ngx_agent_scrub_init(&s, 1);
    ngx_agent_scrub_add(&s, v, 0);
    memcpy(whole, text, n);
    (void)ngx_agent_scrub_text(&s, whole, n);
    ag_assert(stream(&s, text, n, (size_t)data[1] + 1, out) == n);
    ag_assert(memcmp(out, whole, n) == 0);
    if (v.n >= 8)
        ag_assert(memmem(whole, n, v.p, v.n) == NULL);
    ngx_agent_scrub_release(&s);
    return 0;
}
