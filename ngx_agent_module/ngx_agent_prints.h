/*
 * A tenant's values are looked for in what goes out, by the fingerprints of
 * one window of each (lib/fingerprint.h): who searches holds no value. Plain C,
 * no nginx.
 */
#ifndef NGX_AGENT_PRINTS_H
#define NGX_AGENT_PRINTS_H

#include "lib/err.h"
#include "lib/fingerprint.h"

#define NGX_AGENT_PRINT_SPAN  4096     /* bytes beside a window, at most */
#define NGX_AGENT_PRINT_HITS  16       /* that a scan remembers */

struct ngx_agent_prints;

/* A window was met, with the bytes around it that its span asks for. */
struct ngx_agent_print_hit {
    uint64_t print;
    unsigned char *data;               /* before, window, behind */
    size_t n, need;                    /* complete when n == need */
};

struct ngx_agent_prints_scan {
    const struct ngx_agent_prints *prints;
    uint64_t h;
    uint64_t fed;                      /* bytes of this text */
    unsigned char tail[NGX_AGENT_PRINT_SPAN + AG_FINGERPRINT_WINDOW];
    size_t n_tail;
    struct ngx_agent_print_hit hits[NGX_AGENT_PRINT_HITS];
    unsigned n_hits;
    bool is_full;                      /* there were more hits */
};

/*
 * An empty table for `total` entries, under a key of AG_FINGERPRINT_KEY bytes.
 * NULL with AG_ERR_LIMIT for over 2^24 entries, AG_ERR_INVALID for another
 * length of the key.
 */
struct ngx_agent_prints *ngx_agent_prints_new(ag_str_t key, size_t total,
                                              struct ag_err *err);
void ngx_agent_prints_free(struct ngx_agent_prints *prints);

/*
 * The next entries, as the vault writes them: 8 bytes each, little-endian,
 * ascending over the whole table; 4 bytes each of spans. AG_ERR_INVALID when
 * they are not.
 */
int ngx_agent_prints_add(struct ngx_agent_prints *prints, ag_str_t entries,
                         ag_str_t spans, struct ag_err *err);

/* Entries that are there. */
size_t ngx_agent_prints_count(const struct ngx_agent_prints *prints);

/*
 * A search over texts that come in pieces. Hits gather over all texts until
 * the release, which wipes them; _end is the end of a text: a hit whose bytes
 * did not all come is dropped. `prints` outlives the scan.
 */
void ngx_agent_prints_scan_init(struct ngx_agent_prints_scan *s,
                                const struct ngx_agent_prints *prints);
void ngx_agent_prints_scan_feed(struct ngx_agent_prints_scan *s,
                                ag_str_t piece);
void ngx_agent_prints_scan_end(struct ngx_agent_prints_scan *s);
void ngx_agent_prints_scan_release(struct ngx_agent_prints_scan *s);

#endif
