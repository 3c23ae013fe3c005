/*
 * The matcher: a bitmap of two-byte beginnings, then comparison. Sessions have
 * few credentials bound to one host, so few patterns.
 */
#include "ngx_agent_module/ngx_agent_scrub.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/secret.h"

#define PATTERN_MIN  8


void
ngx_agent_scrub_init(struct ngx_agent_scrub *s, unsigned n_owners)
{
    memset(s, 0, sizeof(*s));
    s->n_owners = n_owners;
    s->hits = ag_xcalloc(n_owners + 1, sizeof(*s->hits));
}


void
ngx_agent_scrub_release(struct ngx_agent_scrub *s)
{
    for (size_t i = 0; i < s->n; i++) {
        ag_wipe((void *) s->patterns[i].p, s->patterns[i].n);
        free((void *) s->patterns[i].p);
    }

    if (s->held != NULL) {
        ag_wipe(s->held, s->longest);
    }

    free(s->held);
    free(s->patterns);
    free(s->hits);
    memset(s, 0, sizeof(*s));
}


static void
pattern_add(struct ngx_agent_scrub *s, const void *p, size_t n,
            unsigned owner)
{
    if (n < PATTERN_MIN) {
        return;
    }

    for (size_t i = 0; i < s->n; i++) {
        if (s->patterns[i].n == n && memcmp(s->patterns[i].p, p, n) == 0) {
            return;
        }
    }

    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 16 : 2 * s->cap;
        s->patterns = ag_xrealloc(s->patterns,
                                  s->cap * sizeof(*s->patterns));
    }

    unsigned char *copy = ag_xmalloc(n);
    memcpy(copy, p, n);
    s->patterns[s->n++] = (struct ngx_agent_pattern){copy, n, owner};

    unsigned pair = (unsigned) copy[0] << 8 | copy[1];
    s->first[pair / 8] |= 1u << pair % 8;

    if (n > s->longest) {
        s->longest = n;
        s->held = ag_xrealloc(s->held, n);
    }
}


/*
 * The characters of base64 that `value` alone decides when it stands behind
 * `skip` bytes of a group of three.
 */
static void
add_base64(struct ngx_agent_scrub *s, ag_str_t value, int skip,
           const char *alphabet, unsigned owner)
{
    struct ag_buf b = AG_BUF_INIT(value.n * 2 + 16);
    size_t bits = value.n * 8, from = skip == 0 ? 0 : skip == 1 ? 4 : 2;

    for (size_t at = from; at + 6 <= bits; at += 6) {
        unsigned char hi = (unsigned char) value.p[at / 8];
        unsigned char lo = at / 8 + 1 < value.n
                           ? (unsigned char) value.p[at / 8 + 1] : 0;
        unsigned v = (unsigned) hi << 8 | lo;
        ag_buf_addc(&b, alphabet[v >> (10 - at % 8) & 63]);
    }

    pattern_add(s, b.p, b.n, owner);
    ag_buf_wipe(&b);
}


static bool
is_unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'
           || c == '~';
}


/* Percent-encoding; `spare` stays as it is beside unreserved characters. */
static void
add_percent(struct ngx_agent_scrub *s, ag_str_t value, const char *format,
            const char *spare, unsigned owner)
{
    struct ag_buf b = AG_BUF_INIT(value.n * 3 + 16);

    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char) value.p[i];

        if (is_unreserved(c) || strchr(spare, c) != NULL) {
            ag_buf_addc(&b, (char) c);

        } else {
            ag_buf_addf(&b, format, c);
        }
    }

    pattern_add(s, b.p, b.n, owner);
    ag_buf_wipe(&b);
}


static void
add_json(struct ngx_agent_scrub *s, ag_str_t value, bool slash,
         unsigned owner)
{
    struct ag_buf b = AG_BUF_INIT(value.n * 2 + 16);

    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];

        if (c == '"' || c == '\\' || (c == '/' && slash)) {
            ag_buf_addc(&b, '\\');
        }

        ag_buf_addc(&b, c);
    }

    pattern_add(s, b.p, b.n, owner);
    ag_buf_wipe(&b);
}


static void
add_html(struct ngx_agent_scrub *s, ag_str_t value, const char *quote,
         unsigned owner)
{
    struct ag_buf b = AG_BUF_INIT(value.n * 6 + 16);

    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        const char *as = c == '&' ? "&amp;" : c == '<' ? "&lt;"
                         : c == '>' ? "&gt;" : c == '"' ? "&quot;"
                         : c == '\'' ? quote : NULL;

        if (as != NULL) {
            ag_buf_add(&b, ag_str(as));

        } else {
            ag_buf_addc(&b, c);
        }
    }

    pattern_add(s, b.p, b.n, owner);
    ag_buf_wipe(&b);
}


static void
add_hex(struct ngx_agent_scrub *s, ag_str_t value, const char *format,
        unsigned owner)
{
    struct ag_buf b = AG_BUF_INIT(value.n * 2 + 16);

    for (size_t i = 0; i < value.n; i++) {
        ag_buf_addf(&b, format, (unsigned char) value.p[i]);
    }

    pattern_add(s, b.p, b.n, owner);
    ag_buf_wipe(&b);
}


void
ngx_agent_scrub_add(struct ngx_agent_scrub *s, ag_str_t value,
                    unsigned owner)
{
    static const char  standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "abcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char  url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "abcdefghijklmnopqrstuvwxyz0123456789-_";

    if (value.n < PATTERN_MIN) {
        return;
    }

    pattern_add(s, value.p, value.n, owner);

    for (int skip = 0; skip < 3; skip++) {
        add_base64(s, value, skip, standard, owner);
        add_base64(s, value, skip, url_safe, owner);
    }

    add_percent(s, value, "%%%02X", "", owner);
    add_percent(s, value, "%%%02x", "", owner);
    add_percent(s, value, "%%%02X", "/:@!$&'()*+,;=", owner);
    add_json(s, value, false, owner);
    add_json(s, value, true, owner);
    add_html(s, value, "&#39;", owner);
    add_html(s, value, "&#x27;", owner);
    add_hex(s, value, "%02x", owner);
    add_hex(s, value, "%02X", owner);
}


/* The longest pattern that begins at p, or NULL. */
static const struct ngx_agent_pattern *
match_at(const struct ngx_agent_scrub *s, const unsigned char *p, size_t n)
{
    const struct ngx_agent_pattern  *best = NULL;

    if (n < PATTERN_MIN) {
        return NULL;
    }

    unsigned pair = (unsigned) p[0] << 8 | p[1];

    if (!(s->first[pair / 8] & 1u << pair % 8)) {
        return NULL;
    }

    for (size_t i = 0; i < s->n; i++) {
        const struct ngx_agent_pattern *t = &s->patterns[i];

        if (t->n <= n && (best == NULL || t->n > best->n)
            && memcmp(p, t->p, t->n) == 0)
        {
            best = t;
        }
    }

    return best;
}


/* How many bytes at the end stay behind. */
static size_t
hold_back(const struct ngx_agent_scrub *s, const unsigned char *p, size_t n)
{
    size_t  run = 0, most = s->longest == 0 ? 0 : s->longest - 1;

    while (run < n && run < most) {
        unsigned char c = p[n - run - 1];

        if (c < 0x20 || c == 0x7f) {
            break;
        }

        run++;
    }

    return run;
}


/* Put filler over every match that begins before `end`. */
static unsigned
cover(struct ngx_agent_scrub *s, unsigned char *p, size_t n, size_t end)
{
    unsigned  hits = 0;

    for (size_t i = 0; i < end; /* void */) {
        const struct ngx_agent_pattern *t = match_at(s, p + i, n - i);

        if (t == NULL) {
            i++;
            continue;
        }

        memset(p + i, NGX_AGENT_SCRUB_FILLER, t->n);
        s->hits[t->owner]++;
        hits++;
        i += t->n;
    }

    return hits;
}


size_t
ngx_agent_scrub_feed(struct ngx_agent_scrub *s, ag_str_t in, bool is_last,
                     unsigned char *out)
{
    size_t  n = s->n_held + in.n;

    if (s->n_held > 0) {
        memcpy(out, s->held, s->n_held);
    }

    if (in.n > 0) {
        memcpy(out + s->n_held, in.p, in.n);
    }

    size_t stay = is_last ? 0 : hold_back(s, out, n);

    /*
     * A match that begins before the part that stays is whole: were its end
     * still to come, the run behind its beginning would be shorter than the
     * longest pattern and would stay.
     */
    cover(s, out, n, n - stay);

    if (stay > 0) {
        memcpy(s->held, out + n - stay, stay);
    }

    s->n_held = stay;

    return n - stay;
}


unsigned
ngx_agent_scrub_text(struct ngx_agent_scrub *s, unsigned char *p, size_t n)
{
    return cover(s, p, n, n);
}
