/* Fingerprints in a stream of bytes. */
#include "ngx_agent_module/ngx_agent_prints.h"

#include <stdlib.h>

#include "lib/secret.h"

#define NGX_AGENT_PRINTS_MAX  (1 << 24)


struct span {
    uint16_t before, behind;
};

struct ngx_agent_prints {
    struct ag_fingerprint hash;
    uint64_t *v;                       /* ascending */
    struct span *spans;
    size_t n, total;
    uint64_t *bits;                    /* by the upper bits of a print */
    unsigned shift;
};


/* ---- the table ---------------------------------------------------------- */

struct ngx_agent_prints *
ngx_agent_prints_new(ag_str_t key, size_t total, struct ag_err *err)
{
    unsigned                  log;
    struct ngx_agent_prints  *prints;

    if (key.n != AG_FINGERPRINT_KEY) {
        ag_err_set(err, AG_ERR_INVALID, "a key of %zu bytes, not %d", key.n,
                   AG_FINGERPRINT_KEY);
        return NULL;
    }

    if (total > NGX_AGENT_PRINTS_MAX) {
        ag_err_set(err, AG_ERR_LIMIT, "%zu fingerprints, over %d", total,
                   NGX_AGENT_PRINTS_MAX);
        return NULL;
    }

    /* One bit in sixteen set: most windows are done with a look at it. */

    for (log = 12; ((size_t) 1 << log) < total * 16; log++) { /* void */ }

    prints = ag_xcalloc(1, sizeof(*prints));
    prints->v = ag_xcalloc(total + 1, sizeof(*prints->v));
    prints->spans = ag_xcalloc(total + 1, sizeof(*prints->spans));
    prints->bits = ag_xcalloc((size_t) 1 << (log - 6), sizeof(uint64_t));
    prints->shift = 64 - log;
    prints->total = total;
    ag_fingerprint_init(&prints->hash, (const unsigned char *) key.p);

    return prints;
}


void
ngx_agent_prints_free(struct ngx_agent_prints *prints)
{
    if (prints == NULL) {
        return;
    }

    ag_wipe(&prints->hash, sizeof(prints->hash));
    free(prints->v);
    free(prints->spans);
    free(prints->bits);
    free(prints);
}


static uint64_t
read_le(const char *p, unsigned n)
{
    uint64_t  v;

    for (v = 0; n > 0; n--) {
        v = v << 8 | (unsigned char) p[n - 1];
    }

    return v;
}


int
ngx_agent_prints_add(struct ngx_agent_prints *prints, ag_str_t entries,
    ag_str_t spans, struct ag_err *err)
{
    size_t       i, n;
    uint64_t     print, bit;
    struct span  span;

    n = entries.n / 8;

    if (entries.n % 8 != 0 || spans.n != n * 4
        || n > prints->total - prints->n)
    {
        return ag_err_set(err, AG_ERR_INVALID,
                          "%zu bytes of fingerprints with %zu of spans, of "
                          "%zu entries",
                          entries.n, spans.n, prints->total);
    }

    for (i = 0; i < n; i++) {
        print = read_le(entries.p + 8 * i, 8);
        span.before = (uint16_t) read_le(spans.p + 4 * i, 2);
        span.behind = (uint16_t) read_le(spans.p + 4 * i + 2, 2);

        if ((prints->n > 0 && print < prints->v[prints->n - 1])
            || span.before > NGX_AGENT_PRINT_SPAN
            || span.behind > NGX_AGENT_PRINT_SPAN)
        {
            return ag_err_set(err, AG_ERR_INVALID,
                              "fingerprints out of order, or a span of over "
                              "%d bytes", NGX_AGENT_PRINT_SPAN);
        }

        prints->v[prints->n] = print;
        prints->spans[prints->n++] = span;
        bit = print >> prints->shift;
        prints->bits[bit / 64] |= UINT64_C(1) << bit % 64;
    }

    return 0;
}


size_t
ngx_agent_prints_count(const struct ngx_agent_prints *prints)
{
    return prints->n;
}


/* The first entry that is not less. */
static size_t
lower_bound(const struct ngx_agent_prints *prints, uint64_t print)
{
    size_t  low, high, mid;

    low = 0;
    high = prints->n;

    while (low < high) {
        mid = low + (high - low) / 2;

        if (prints->v[mid] < print) {
            low = mid + 1;

        } else {
            high = mid;
        }
    }

    return low;
}


/* ---- the search --------------------------------------------------------- */

void
ngx_agent_prints_scan_init(struct ngx_agent_prints_scan *s,
    const struct ngx_agent_prints *prints)
{
    memset(s, 0, offsetof(struct ngx_agent_prints_scan, tail));
    s->prints = prints;
    s->n_tail = 0;
    s->n_hits = 0;
    s->is_full = false;
}


/* Bytes [from, to) of the text, all of them in the tail or in `piece`. */
static void
copy_bytes(const struct ngx_agent_prints_scan *s, ag_str_t piece,
    uint64_t from, size_t n, unsigned char *out)
{
    size_t  old;

    old = 0;

    if (from < s->fed) {
        old = (size_t) (s->fed - from);

        if (old > n) {
            old = n;
        }

        memcpy(out, s->tail + s->n_tail - (size_t) (s->fed - from), old);
    }

    if (n > old) {
        memcpy(out + old, piece.p + (from + old - s->fed), n - old);
    }
}


/* The window that ends before byte `end` of the text has this print. */
static void
add_hit(struct ngx_agent_prints_scan *s, ag_str_t piece, uint64_t end,
    size_t entry)
{
    size_t                       n, have;
    uint64_t                     from;
    struct span                  span;
    struct ngx_agent_print_hit  *hit;

    span = s->prints->spans[entry];
    n = (size_t) span.before + AG_FINGERPRINT_WINDOW;

    if (n > end) {
        return;
    }

    if (s->n_hits == NGX_AGENT_PRINT_HITS) {
        s->is_full = true;
        return;
    }

    from = end - n;
    hit = &s->hits[s->n_hits++];
    hit->print = s->prints->v[entry];
    hit->need = n + span.behind;
    hit->data = ag_xmalloc(hit->need);

    have = (size_t) (s->fed + piece.n - from);
    hit->n = have < hit->need ? have : hit->need;
    copy_bytes(s, piece, from, hit->n, hit->data);
}


/* What stands behind the windows that were met in earlier pieces. */
static void
complete_hits(struct ngx_agent_prints_scan *s, ag_str_t piece)
{
    size_t                       n;
    unsigned                     i;
    struct ngx_agent_print_hit  *hit;

    for (i = 0; i < s->n_hits; i++) {
        hit = &s->hits[i];
        n = hit->need - hit->n;

        if (n > piece.n) {
            n = piece.n;
        }

        if (n > 0) {
            memcpy(hit->data + hit->n, piece.p, n);
            hit->n += n;
        }
    }
}


static void
check(struct ngx_agent_prints_scan *s, ag_str_t piece, uint64_t end,
    uint64_t h)
{
    size_t                          i;
    const struct ngx_agent_prints  *prints = s->prints;

    for (i = lower_bound(prints, h); i < prints->n && prints->v[i] == h; i++)
    {
        add_hit(s, piece, end, i);
    }
}


static void
keep_tail(struct ngx_agent_prints_scan *s, ag_str_t piece)
{
    size_t  keep;

    if (piece.n >= sizeof(s->tail)) {
        memcpy(s->tail, piece.p + piece.n - sizeof(s->tail),
               sizeof(s->tail));
        s->n_tail = sizeof(s->tail);

    } else {
        keep = sizeof(s->tail) - piece.n;

        if (keep > s->n_tail) {
            keep = s->n_tail;
        }

        memmove(s->tail, s->tail + s->n_tail - keep, keep);
        memcpy(s->tail + keep, piece.p, piece.n);
        s->n_tail = keep + piece.n;
    }

    s->fed += piece.n;
}


static inline void
look_up(struct ngx_agent_prints_scan *s, ag_str_t piece, uint64_t end,
    uint64_t h)
{
    uint64_t  bit;

    bit = h >> s->prints->shift;

    if (s->prints->bits[bit / 64] >> bit % 64 & 1) {
        check(s, piece, end, h);
    }
}


void
ngx_agent_prints_scan_feed(struct ngx_agent_prints_scan *s, ag_str_t piece)
{
    size_t                        i;
    uint64_t                      h;
    const unsigned char          *p;
    const struct ag_fingerprint  *hash;

    if (s->prints == NULL || s->prints->n == 0 || piece.n == 0) {
        return;
    }

    complete_hits(s, piece);
    hash = &s->prints->hash;
    p = (const unsigned char *) piece.p;
    h = s->h;

    /* The first window of the text fills. */

    for (i = 0; i < piece.n && s->fed + i < AG_FINGERPRINT_WINDOW; i++) {
        h = ag_fingerprint_add(hash, h, p[i]);

        if (s->fed + i + 1 == AG_FINGERPRINT_WINDOW) {
            look_up(s, piece, AG_FINGERPRINT_WINDOW, h);
        }
    }

    /* What leaves the window came in an earlier piece. */

    for ( /* void */ ; i < piece.n && i < AG_FINGERPRINT_WINDOW; i++) {
        h = ag_fingerprint_roll(hash, h,
                                s->tail[s->n_tail + i - AG_FINGERPRINT_WINDOW],
                                p[i]);
        look_up(s, piece, s->fed + i + 1, h);
    }

    for ( /* void */ ; i < piece.n; i++) {
        h = ag_fingerprint_roll(hash, h, p[i - AG_FINGERPRINT_WINDOW], p[i]);
        look_up(s, piece, s->fed + i + 1, h);
    }

    s->h = h;
    keep_tail(s, piece);
}


static void
drop_hit(struct ngx_agent_print_hit *hit)
{
    ag_wipe(hit->data, hit->need);
    free(hit->data);
}


void
ngx_agent_prints_scan_end(struct ngx_agent_prints_scan *s)
{
    unsigned  i, n;

    for (i = n = 0; i < s->n_hits; i++) {

        if (s->hits[i].n < s->hits[i].need) {
            drop_hit(&s->hits[i]);

        } else {
            s->hits[n++] = s->hits[i];
        }
    }

    s->n_hits = n;
    s->h = 0;
    s->fed = 0;
    s->n_tail = 0;
}


void
ngx_agent_prints_scan_release(struct ngx_agent_prints_scan *s)
{
    unsigned  i;

    for (i = 0; i < s->n_hits; i++) {
        drop_hit(&s->hits[i]);
    }

    s->n_hits = 0;
    ag_wipe(s->tail, sizeof(s->tail));
}
