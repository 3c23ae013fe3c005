/*
 * Scans files with the rule set, as egress does with what goes out.
 *
 *   rules_scan RULES FILE…          findings, a line each: FILE OFFSET SHAPE
 *   rules_scan -b RULES FILE…       read them all, then scan them again and
 *                                   again for a second: bytes, seconds, hits
 *
 * Exits with 1 when the rule set cannot be read. Files that cannot be are left
 * out. What was found is never printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/buf.h"
#include "ngx_agent_module/ngx_agent_rules.h"

enum { PIECE = 16 << 10, FILE_MAX = 64 << 20 };

static int
read_file(const char *path, struct ag_buf *out)
{
    FILE *f = fopen(path, "r");
    struct ag_err err = AG_ERR_INIT;
    static char chunk[65536];
    size_t n;

    if (f == NULL)
        return -1;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        if (ag_buf_append(out, ag_str_n(chunk, n), &err) < 0)
            break;
    fclose(f);
    return 0;
}

static unsigned
scan(const struct ngx_agent_rules *rules, ag_str_t text, const char *path)
{
    struct ngx_agent_rules_scan s;
    struct ag_err err = AG_ERR_INIT;

    if (ngx_agent_rules_scan_init(&s, rules, &err) < 0)
        return 0;
    for (size_t at = 0; at < text.n; at += PIECE) {
        size_t n = text.n - at < PIECE ? text.n - at : PIECE;
        if (ngx_agent_rules_scan_feed(&s, ag_str_n(text.p + at, n), &err) < 0)
            fprintf(stderr, "%s\n", err.msg);
    }
    ngx_agent_rules_scan_release(&s);
    for (unsigned i = 0; path != NULL && i < s.n_hits; i++)
        printf("%s %llu %s%s\n", path, (unsigned long long)s.hits[i].from,
               ngx_agent_rules_name(rules, s.hits[i].rule),
               ngx_agent_rules_only_log(rules, s.hits[i].rule) ? " (log)" : "");
    return s.n_hits;
}

static double
seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
bench(const struct ngx_agent_rules *rules, char **paths)
{
    struct ag_buf text = AG_BUF_INIT(FILE_MAX);
    unsigned hits = 0;
    double began, took;
    uint64_t n = 0;

    for (; *paths != NULL; paths++)
        read_file(*paths, &text);
    began = seconds();
    do {
        hits += scan(rules, ag_buf_str(&text), NULL);
        n += text.n;
        took = seconds() - began;
    } while (took < 1);
    printf("%llu %.3f %u\n", (unsigned long long)n, took, hits);
    ag_buf_release(&text);
}

int
main(int argc, char **argv)
{
    bool is_bench = argc > 1 && strcmp(argv[1], "-b") == 0;
    char **arg = argv + 1 + is_bench;
    struct ag_buf text = AG_BUF_INIT(1 << 20);
    struct ag_err err = AG_ERR_INIT;

    if (argc < 3 + is_bench) {
        fprintf(stderr, "usage: rules_scan [-b] RULES FILE…\n");
        return 2;
    }
    if (read_file(*arg, &text) < 0) {
        perror(*arg);
        return 1;
    }
    struct ngx_agent_rules *rules =
        ngx_agent_rules_new(ag_buf_str(&text), &err);
    if (rules == NULL) {
        fprintf(stderr, "%s: %s\n", *arg, err.msg);
        return 1;
    }
    if (is_bench)
        bench(rules, arg + 1);
    for (char **p = arg + 1; !is_bench && *p != NULL; p++) {
        ag_buf_clear(&text);
        read_file(*p, &text);
        scan(rules, ag_buf_str(&text), *p);
    }
    ngx_agent_rules_free(rules);
    ag_buf_release(&text);
    return 0;
}
