/*
 * The rule set, compiled: credentials of known shapes are looked for in what
 * goes out. Plain C, no nginx.
 *
 * Hyperscan reads all patterns in one pass and says where one ends; PCRE2 then
 * finds the same pattern's beginning in the bytes before, and what it matched
 * must be as random as the rule asks (Shannon's entropy of its bytes) and hold
 * no stub. So a pattern has to mean the same to both: PCRE2 syntax without
 * look-around and back references, case-sensitive, of at most
 * NGX_AGENT_RULE_BYTES, best of a fixed length. A shape without a pattern is
 * its prefix and the rest of its length in [A-Za-z0-9_-]. A match counts only
 * where the byte before it is not a letter, a digit or '_', but for the letter
 * of an escape such as "\n".
 */
#ifndef NGX_AGENT_RULES_H
#define NGX_AGENT_RULES_H

#include "lib/shape.h"

#define NGX_AGENT_RULE_BYTES  512      /* longest text of a match */
#define NGX_AGENT_RULE_HITS   16       /* that a scan remembers */

struct ngx_agent_rules;

struct ngx_agent_rule_hit {
    unsigned rule;
    uint64_t from, to;                 /* offsets in the stream */
};

struct ngx_agent_rules_scan {
    const struct ngx_agent_rules *rules;
    void *stream;                      /* hs_stream_t */
    uint64_t at;                       /* bytes fed before this piece */
    ag_str_t piece;                    /* that is being fed */
    unsigned char tail[NGX_AGENT_RULE_BYTES];  /* before it */
    size_t n_tail;
    struct ngx_agent_rule_hit hits[NGX_AGENT_RULE_HITS];
    unsigned n_hits;
    bool is_full;                      /* there were more hits */
};

/*
 * From the text of the rule set. One database, not for two threads at a time.
 * NULL with AG_ERR_INVALID, which names shape and position, or AG_ERR_LIMIT.
 */
struct ngx_agent_rules *ngx_agent_rules_new(ag_str_t text,
                                            struct ag_err *err);
void ngx_agent_rules_free(struct ngx_agent_rules *rules);

unsigned ngx_agent_rules_count(const struct ngx_agent_rules *rules);
const char *ngx_agent_rules_name(const struct ngx_agent_rules *rules,
                                 unsigned rule);
/* Never more than a line in the log. */
bool ngx_agent_rules_only_log(const struct ngx_agent_rules *rules,
                              unsigned rule);

/*
 * A scan of bytes that come in pieces; matches may lie across them. Release
 * also after an error. Returns 0 or -1 with AG_ERR_LIMIT (no memory).
 */
int ngx_agent_rules_scan_init(struct ngx_agent_rules_scan *s,
                              const struct ngx_agent_rules *rules,
                              struct ag_err *err);
int ngx_agent_rules_scan_feed(struct ngx_agent_rules_scan *s, ag_str_t piece,
                              struct ag_err *err);
/* The end of a text: the next piece begins another, with offsets from 0. Hits
 * stay until they are taken (n_hits = 0). */
void ngx_agent_rules_scan_end(struct ngx_agent_rules_scan *s);
void ngx_agent_rules_scan_release(struct ngx_agent_rules_scan *s);

#endif
