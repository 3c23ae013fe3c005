/*
 * The matcher: a bitmap of two-byte beginnings, then comparison, byte for byte
 * as it is or as an escape of it: libraries escape different sets of bytes, so
 * no list of whole encodings is complete. Sessions have few credentials bound
 * to one host, so few patterns.
 */
#include "ngx_agent_module/ngx_agent_scrub.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif
#include <stdio.h>
#include <stdlib.h>

#include "lib/secret.h"
#include "lib/without.h"

#define PATTERN_MIN  8
#define ESCAPE_MAX   8                 /* "&#x0027;" */


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
pair_add(struct ngx_agent_scrub *s, unsigned char a, unsigned char b)
{
    unsigned  pair = (unsigned) a << 8 | b;

    s->first[pair / 8] |= 1u << pair % 8;

    if (s->class_of[a] == 0) {
        s->class_of[a] = (unsigned char) (1u << s->n_classes++ % 8);
    }

    s->low[0][a & 15] |= s->class_of[a];
    s->high[0][a >> 4] |= s->class_of[a];
    s->low[1][b & 15] |= s->class_of[a];
    s->high[1][b >> 4] |= s->class_of[a];
}


/* How a text may begin that stands for `p`: as few pairs as there can be,
 * since each costs a comparison where it stands. */
static void
pairs_add(struct ngx_agent_scrub *s, const unsigned char *p, bool is_escaped)
{
    static const char  digits[] = "0123456789abcdef";
    static const char  upper[] = "0123456789ABCDEF";
    static const char  named[] = "&a<l>g\"q'a";

    pair_add(s, p[0], p[1]);

    if (!is_escaped) {
        return;
    }

    pair_add(s, p[0], '%');
    pair_add(s, p[0], '&');
    pair_add(s, p[0], '\\');
    pair_add(s, '%', (unsigned char) digits[p[0] >> 4]);
    pair_add(s, '%', (unsigned char) upper[p[0] >> 4]);
    pair_add(s, '%', '2');
    pair_add(s, '&', '#');
    pair_add(s, '\\', 'u');
    pair_add(s, '\\', 'x');
    pair_add(s, '\\', p[0]);

    for (const char *c = named; *c != '\0'; c += 2) {
        if (p[0] == (unsigned char) c[0]) {
            pair_add(s, '&', (unsigned char) c[1]);
        }
    }

    if (p[1] == ' ') {
        pair_add(s, p[0], '+');
    }

    if (p[0] == ' ') {
        pair_add(s, '+', p[1]);
        pair_add(s, '+', '%');
        pair_add(s, '+', '&');
        pair_add(s, '+', '\\');
        pair_add(s, '+', '+');
    }
}


static void
text_free(unsigned char *p, size_t n)
{
    ag_wipe(p, n);
    free(p);
}


/* One more, of a text that becomes the scrubber's. */
static void
pattern_take(struct ngx_agent_scrub *s, unsigned char *p, size_t n,
             bool is_escaped, unsigned owner)
{
    if (n < PATTERN_MIN) {
        text_free(p, n);
        return;
    }

    for (size_t i = 0; i < s->n; i++) {
        if (s->patterns[i].n == n && memcmp(s->patterns[i].p, p, n) == 0) {
            text_free(p, n);
            return;
        }
    }

    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 16 : 2 * s->cap;
        s->patterns = ag_xrealloc(s->patterns,
                                  s->cap * sizeof(*s->patterns));
    }

    size_t most = is_escaped ? ESCAPE_MAX * n : n;

    s->patterns[s->n++] = (struct ngx_agent_pattern){p, n, most, owner,
                                                     is_escaped};
    pairs_add(s, p, is_escaped);

    if (most > s->longest) {
        s->longest = most;
        s->held = ag_xrealloc(s->held, most);
    }
}


/*
 * The characters of base64 that `value` alone decides when it stands behind
 * `skip` bytes of a group of three, in both alphabets. Built for each request:
 * no call for each character.
 */
static void
add_base64(struct ngx_agent_scrub *s, ag_str_t value, int skip,
           unsigned owner)
{
    static const char  alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "abcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t bits = value.n * 8, from = skip == 0 ? 0 : skip == 1 ? 4 : 2;
    unsigned char *p = ag_xmalloc(value.n * 2);
    unsigned char *url_safe = NULL;
    size_t n = 0;

    for (size_t at = from; at + 6 <= bits; at += 6) {
        unsigned char hi = (unsigned char) value.p[at / 8];
        unsigned char lo = at / 8 + 1 < value.n
                           ? (unsigned char) value.p[at / 8 + 1] : 0;
        unsigned v = (unsigned) hi << 8 | lo;
        p[n++] = (unsigned char) alphabet[v >> (10 - at % 8) & 63];
    }

    if (memchr(p, '+', n) != NULL || memchr(p, '/', n) != NULL) {
        url_safe = ag_xmalloc(value.n * 2);

        for (size_t i = 0; i < n; i++) {
            url_safe[i] = p[i] == '+' ? '-' : p[i] == '/' ? '_' : p[i];
        }
    }

    pattern_take(s, p, n, true, owner);

    if (url_safe != NULL) {
        pattern_take(s, url_safe, n, true, owner);
    }
}


static void
add_hex(struct ngx_agent_scrub *s, ag_str_t value, const char *digits,
        unsigned owner)
{
    unsigned char *p = ag_xmalloc(value.n * 2);

    for (size_t i = 0; i < value.n; i++) {
        p[2 * i] = (unsigned char) digits[(unsigned char) value.p[i] >> 4];
        p[2 * i + 1] = (unsigned char) digits[(unsigned char) value.p[i] & 15];
    }

    pattern_take(s, p, 2 * value.n, false, owner);
}


void
ngx_agent_scrub_add(struct ngx_agent_scrub *s, ag_str_t value,
                    unsigned owner)
{
    if (value.n < PATTERN_MIN) {
        return;
    }

    unsigned char *copy = ag_xmalloc(value.n);

    memcpy(copy, value.p, value.n);
    pattern_take(s, copy, value.n, true, owner);

    for (int skip = 0; skip < 3 && !ag_without("scrub_base64"); skip++) {
        add_base64(s, value, skip, owner);
    }

    if (ag_without("scrub_hex")) {
        return;
    }

    add_hex(s, value, "0123456789abcdef", owner);
    add_hex(s, value, "0123456789ABCDEF", owner);
}


static int
hex_at(const unsigned char *p, size_t n)
{
    int  v = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = p[i] | 0x20;

        if (p[i] >= '0' && p[i] <= '9') {
            v = v << 4 | (p[i] - '0');

        } else if (c >= 'a' && c <= 'f') {
            v = v << 4 | (c - 'a' + 10);

        } else {
            return -1;
        }
    }

    return v;
}


/* "&#39;", "&#x27;" with zeros in front, or one of the five names. */
static size_t
entity_len(const unsigned char *p, size_t n, unsigned char c)
{
    static const struct {
        const char *text;
        char c;
    }  names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'},
                  {"&quot;", '"'}, {"&apos;", '\''}};
    const unsigned char *end = memchr(p, ';', n < ESCAPE_MAX ? n : ESCAPE_MAX);

    if (end == NULL) {
        return 0;
    }

    size_t len = (size_t) (end - p) + 1;

    if (len > 3 && p[1] == '#' && (p[2] | 0x20) == 'x') {
        return hex_at(p + 3, len - 4) == c && len > 4 ? len : 0;
    }

    if (len > 3 && p[1] == '#') {
        unsigned v = 0;

        for (size_t i = 2; i < len - 1; i++) {
            if (p[i] < '0' || p[i] > '9') {
                return 0;
            }
            v = v * 10 + (unsigned) (p[i] - '0');
        }

        return v == c ? len : 0;
    }

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].c == (char) c && len == strlen(names[i].text)
            && memcmp(p, names[i].text, len) == 0)
        {
            return len;
        }
    }

    return 0;
}


/* The length of an escape at p that stands for `c`, or 0. */
static size_t
escape_len(const unsigned char *p, size_t n, unsigned char c)
{
    switch (p[0]) {

    case '%':
        if (n >= 5 && p[1] == '2' && p[2] == '5' && hex_at(p + 3, 2) == c) {
            return 5;
        }

        return n >= 3 && hex_at(p + 1, 2) == c ? 3 : 0;

    case '\\':
        if (n >= 6 && p[1] == 'u' && hex_at(p + 2, 4) == c) {
            return 6;
        }

        if (n >= 4 && p[1] == 'x' && hex_at(p + 2, 2) == c) {
            return 4;
        }

        return n >= 2 && p[1] == c && strchr("\"'/\\", c) != NULL ? 2 : 0;

    case '&':
        return entity_len(p, n, c);

    case '+':
        return c == ' ' ? 1 : 0;

    default:
        return 0;
    }
}


/* How much of the text at p stands for the pattern: all of it, or 0. */
static size_t
match_len(const struct ngx_agent_pattern *t, const unsigned char *p, size_t n)
{
    size_t  at = 0;

    if (p[0] == t->p[0] && t->n <= n && memcmp(p, t->p, t->n) == 0) {
        return t->n;
    }

    if (ag_without("scrub_escapes")) {
        return 0;
    }

    for (size_t i = 0; i < t->n && t->is_escaped; i++) {
        size_t len = at < n ? escape_len(p + at, n - at, t->p[i]) : 0;

        if (len == 0 && at < n && p[at] == t->p[i]) {
            len = 1;
        }

        if (len == 0) {
            return 0;
        }

        at += len;
    }

    return at;
}


/* The pattern whose text is the longest that begins at p, or NULL. */
static const struct ngx_agent_pattern *
match_at(const struct ngx_agent_scrub *s, const unsigned char *p, size_t n,
         size_t *len)
{
    const struct ngx_agent_pattern  *best = NULL;

    *len = 0;

    if (n < PATTERN_MIN) {
        return NULL;
    }

    unsigned pair = (unsigned) p[0] << 8 | p[1];

    if (!(s->first[pair / 8] & 1u << pair % 8)) {
        return NULL;
    }

    for (size_t i = 0; i < s->n; i++) {
        size_t most = match_len(&s->patterns[i], p, n);

        if (most > *len) {
            *len = most;
            best = &s->patterns[i];
        }
    }

    return best;
}


/* How many bytes at the end stay behind. */
static size_t
hold_back(const struct ngx_agent_scrub *s, const unsigned char *p, size_t n)
{
    size_t  run = 0, most = s->longest == 0 ? 0 : s->longest - 1;

    if (ag_without("hold_back")) {
        return 0;
    }

    while (run < n && run < most) {
        unsigned char c = p[n - run - 1];

        if (c < 0x20 || c == 0x7f) {
            break;
        }

        run++;
    }

    return run;
}


#ifdef __x86_64__

/* The halves of the bytes at p, as classes of the first or the second byte. */
__attribute__((target("ssse3")))
static inline __m128i
classes(const struct ngx_agent_scrub *s, int which, const unsigned char *p)
{
    const __m128i  half = _mm_set1_epi8(15);
    __m128i        v = _mm_loadu_si128((const void *) p);
    __m128i        low = _mm_loadu_si128((const void *) s->low[which]);
    __m128i        high = _mm_loadu_si128((const void *) s->high[which]);

    return _mm_and_si128(
        _mm_shuffle_epi8(low, _mm_and_si128(v, half)),
        _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi16(v, 4), half)));
}


/* The first place from i on where a text may begin; or one less than 17 bytes
 * before n, from where on this does not look. */
__attribute__((target("ssse3")))
static size_t
skip_by_16(const struct ngx_agent_scrub *s, const unsigned char *p, size_t i,
           size_t n)
{
    for ( /* void */ ; i + 17 <= n; i += 16) {
        __m128i   both = _mm_and_si128(classes(s, 0, p + i),
                                       classes(s, 1, p + i + 1));
        unsigned  none = (unsigned) _mm_movemask_epi8(
                             _mm_cmpeq_epi8(both, _mm_setzero_si128()));

        if (none != 0xffff) {
            return i + (size_t) __builtin_ctz(~none);
        }
    }

    return i;
}

#endif


/* Where the next text may begin, from i on: places before it need no look. */
static size_t
skip(const struct ngx_agent_scrub *s, const unsigned char *p, size_t i,
     size_t n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("ssse3")) {
        return skip_by_16(s, p, i, n);
    }
#endif

    return i;
}


/* Put filler over every match that begins before `end`. */
static unsigned
cover(struct ngx_agent_scrub *s, unsigned char *p, size_t n, size_t end)
{
    unsigned  hits = 0;

    for (size_t i = skip(s, p, 0, n); i < end; i = skip(s, p, i, n)) {
        size_t len;
        const struct ngx_agent_pattern *t = match_at(s, p + i, n - i, &len);

        if (t == NULL) {
            i++;
            continue;
        }

        memset(p + i, NGX_AGENT_SCRUB_FILLER, len);
        s->hits[t->owner]++;
        hits++;
        i += len;
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
