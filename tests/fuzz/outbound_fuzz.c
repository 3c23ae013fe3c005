/*
 * Fuzz target of the search of what goes out: in whatever pieces a text comes,
 * the same shapes and the same windows are found at the same places, and every
 * window is one of the table's.
 *
 * Input: size of a piece, then the text, in which 0xff stands for a value and
 * 0xfe for a credential of a shape.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ngx_agent_module/ngx_agent_prints.h"
#include "ngx_agent_module/ngx_agent_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 16384, BEFORE = 6, BEHIND = 13 };

static const char key[] = "0123456789abcdef0123456789abcdef";
static const char value[] = "token-9f2c8e1a7b3d5f60-and-its-tail";
static const char shape[] = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6";
static struct ngx_agent_rules *rules;
static struct ngx_agent_prints *prints;
static uint64_t print;

static void
set_up(void)
{
    char entry[8], span[4] = {BEFORE, 0, BEHIND, 0};
    struct ag_err err = AG_ERR_INIT;
    struct ag_fingerprint f;

    rules = ngx_agent_rules_new(
        AG_STR("shape a pattern=gh[ps]_[A-Za-z0-9]{36} entropy=3\n"
               "shape b prefix=AKIA min=20 hosts= pattern=AKIA[A-Z2-7]{16}\n"
               "shape c pattern=eyJ[a-z]{2,40}\\.[a-z]{4} only=log\n"),
        &err);
    ag_assert(rules != NULL);
    ag_fingerprint_init(&f, (const unsigned char *)key);
    print = ag_fingerprint_of(&f, value + BEFORE);
    for (int i = 0; i < 8; i++)
        entry[i] = (char)(print >> 8 * i);
    prints = ngx_agent_prints_new(ag_str_n(key, 32), 1, &err);
    ag_assert(ngx_agent_prints_add(prints, ag_str_n(entry, 8),
                                   ag_str_n(span, 4), &err)
              == 0);
}

static size_t
make_text(const uint8_t *data, size_t n, char *out)
{
    size_t at = 0;

    for (size_t i = 0; i < n && at + 64 < TEXT_MAX; i++) {
        const char *s = data[i] == 0xff ? value : data[i] == 0xfe ? shape : "";
        memcpy(out + at, s, strlen(s));
        at += strlen(s);
        if (*s == '\0')
            out[at++] = (char)data[i];
    }
    return at;
}

static void
scan(ag_str_t text, size_t step, struct ngx_agent_rules_scan *r,
     struct ngx_agent_prints_scan *p)
{
    struct ag_err err = AG_ERR_INIT;

    ag_assert(ngx_agent_rules_scan_init(r, rules, &err) == 0);
    ngx_agent_prints_scan_init(p, prints);
    for (size_t at = 0; at < text.n; at += step) {
        size_t n = text.n - at < step ? text.n - at : step;
        char *piece = ag_str_dup(ag_str_n(text.p + at, n));
        ag_assert(ngx_agent_rules_scan_feed(r, ag_str_n(piece, n), &err) == 0);
        ngx_agent_prints_scan_feed(p, ag_str_n(piece, n));
        free(piece);
    }
    ngx_agent_prints_scan_end(p);
    ngx_agent_rules_scan_release(r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[TEXT_MAX];
    struct ngx_agent_rules_scan r1, r2;
    struct ngx_agent_prints_scan p1, p2;

    if (size < 2)
        return 0;
    if (rules == NULL)
        set_up();
    ag_str_t whole = ag_str_n(text, make_text(data + 1, size - 1, text));
    scan(whole, TEXT_MAX, &r1, &p1);
    scan(whole, (size_t)data[0] + 1, &r2, &p2);
    ag_assert(r1.n_hits == r2.n_hits && p1.n_hits == p2.n_hits);
    for (unsigned i = 0; i < r1.n_hits; i++) {
        ag_assert(r1.hits[i].from == r2.hits[i].from
                  && r1.hits[i].to == r2.hits[i].to
                  && r1.hits[i].to <= whole.n);
    }
    for (unsigned i = 0; i < p1.n_hits; i++) {
        ag_assert(p1.hits[i].n == BEFORE + 16 + BEHIND
                  && p2.hits[i].n == p1.hits[i].n);
        ag_assert(memcmp(p1.hits[i].data, p2.hits[i].data, p1.hits[i].n) == 0);
        ag_assert(memcmp(p1.hits[i].data + BEFORE, value + BEFORE, 16) == 0);
    }
    ngx_agent_prints_scan_release(&p1);
    ngx_agent_prints_scan_release(&p2);
    return 0;
}
