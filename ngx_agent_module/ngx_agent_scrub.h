/*
 * Takes values out of a stream of bytes. Plain C, no nginx.
 *
 * What is held back depends on the class of bytes alone: a trailing run
 * without control characters, up to the longest pattern less one. Values have
 * no control characters, nor have their encodings, so no match crosses one; and
 * the delay says nothing of how far a match has come. A hit becomes filler of
 * the same length.
 */
#ifndef NGX_AGENT_SCRUB_H
#define NGX_AGENT_SCRUB_H

#include "lib/buf.h"

#define NGX_AGENT_SCRUB_FILLER  '*'

struct ngx_agent_pattern {
    const unsigned char *p;
    size_t n;
    size_t most;                       /* longest text that stands for it */
    unsigned owner;                    /* index into hits */
    bool is_escaped;                   /* also where escapes stand for bytes */
};

struct ngx_agent_scrub {
    struct ngx_agent_pattern *patterns;
    size_t n, cap;
    size_t longest;                    /* `most` of all patterns */
    unsigned char *held;               /* room for `longest` bytes */
    size_t n_held;
    unsigned *hits;                    /* for each owner */
    unsigned n_owners;
    unsigned char first[65536 / 8];    /* pairs of bytes that begin a pattern */
    /* The same in eight classes, one a bit: the halves of either byte. More
     * pairs pass here, sixteen places at a time. */
    unsigned char low[2][16], high[2][16];
    unsigned char class_of[256];       /* of a first byte; 0: begins nothing */
    unsigned n_classes;
};

/* Holds copies of values: release wipes them. */
void ngx_agent_scrub_init(struct ngx_agent_scrub *s, unsigned n_owners);
void ngx_agent_scrub_release(struct ngx_agent_scrub *s);

/*
 * Look for `value` as it is, in base64 at its three offsets (also URL-safe) and
 * in hex; in the first two with any of its bytes percent-encoded (once or
 * twice) or escaped as JSON, C or HTML do. Values under 8 bytes are left out.
 * Not once bytes were fed.
 */
void ngx_agent_scrub_add(struct ngx_agent_scrub *s, ag_str_t value,
                         unsigned owner);

/*
 * Take `in` and write what may go on to `out`, which has room for in.n +
 * s->longest bytes. With `is_last` nothing stays behind. Returns the length.
 */
size_t ngx_agent_scrub_feed(struct ngx_agent_scrub *s, ag_str_t in,
                            bool is_last, unsigned char *out);

/* The same for a whole text in place. Returns the hits. */
unsigned ngx_agent_scrub_text(struct ngx_agent_scrub *s, unsigned char *p,
                              size_t n);

#endif
