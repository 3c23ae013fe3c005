/* Shapes of credentials in a stream of bytes. */
#include "ngx_agent_module/ngx_agent_rules.h"

#include <math.h>
#include <stdlib.h>

#include <hs/hs.h>

#define PCRE2_CODE_UNIT_WIDTH  8
#include <pcre2.h>

#include "lib/buf.h"
#include "lib/secret.h"
#include "ngx_agent_module/ngx_agent_swap.h"


struct rule {
    pcre2_code *code;                  /* anchored at its end, too */
};

struct ngx_agent_rules {
    struct ag_shapes shapes;
    struct rule *v;                    /* as many as shapes */
    pcre2_match_data *match;
    hs_database_t *db;
    hs_scratch_t *scratch;
};


/* ---- compiling ---------------------------------------------------------- */

static int
pattern_of(const struct ag_shape *s, struct ag_buf *out, struct ag_err *err)
{
    const char  *p;

    if (s->pattern != NULL) {
        return ag_buf_append(out, ag_str(s->pattern), err);
    }

    for (p = s->prefix; *p != '\0'; p++) {
        if (ag_buf_printf(out, err, "\\x%02x", (unsigned char) *p) < 0) {
            return -1;
        }
    }

    return ag_buf_printf(out, err, "[A-Za-z0-9_-]{%zu}",
                         s->min - strlen(s->prefix));
}


static int
compile_pcre(struct rule *rule, const struct ag_shape *s, ag_str_t pattern,
    struct ag_err *err)
{
    int                         code;
    size_t                      at;
    char                        why[128];
    AG_AUTO(ag_buf_release)
    struct ag_buf               whole = AG_BUF_INIT(4096);

    if (ag_buf_printf(&whole, err, "(?:(?<![A-Za-z0-9_])|(?<=\\\\[bfnrt]))(?:%.*s)\\z",
                      AG_FMT(pattern)) < 0)
    {
        return -1;
    }

    rule->code = pcre2_compile((PCRE2_SPTR) whole.p, whole.n, 0, &code, &at,
                               NULL);
    if (rule->code != NULL) {
        return 0;
    }

    pcre2_get_error_message(code, (PCRE2_UCHAR *) why, sizeof(why));

    return ag_err_set(err, AG_ERR_INVALID, "shape %s, pattern=: %s", s->name,
                      why);
}


static int
compile_all(struct ngx_agent_rules *rules, char **patterns,
    struct ag_err *err)
{
    size_t               i, n;
    unsigned            *flags, *ids;
    hs_error_t           rc;
    hs_compile_error_t  *why;

    n = rules->shapes.n;
    flags = ag_xcalloc(n, sizeof(*flags));
    ids = ag_xcalloc(n, sizeof(*ids));

    for (i = 0; i < n; i++) {
        ids[i] = (unsigned) i;
    }

    why = NULL;
    rc = hs_compile_multi((const char *const *) patterns, flags, ids,
                          (unsigned) n, HS_MODE_STREAM, NULL, &rules->db,
                          &why);
    free(flags);
    free(ids);

    if (rc == HS_SUCCESS) {
        return 0;
    }

    ag_err_set(err, AG_ERR_INVALID, "shape %s, pattern=: %s",
               why != NULL && why->expression >= 0
                   ? rules->shapes.v[why->expression].name : "(all)",
               why != NULL ? why->message : "Hyperscan refused");
    hs_free_compile_error(why);

    return -1;
}


static int
compile(struct ngx_agent_rules *rules, struct ag_err *err)
{
    int             rc;
    size_t          i, n;
    char          **patterns;
    struct ag_buf   b = AG_BUF_INIT(4096);

    n = rules->shapes.n;
    patterns = ag_xcalloc(n + 1, sizeof(*patterns));
    rules->v = ag_xcalloc(n + 1, sizeof(*rules->v));
    rc = 0;

    for (i = 0; i < n && rc == 0; i++) {
        ag_buf_clear(&b);
        rc = pattern_of(&rules->shapes.v[i], &b, err);

        if (rc == 0) {
            patterns[i] = ag_str_dup(ag_buf_str(&b));
            rc = compile_pcre(&rules->v[i], &rules->shapes.v[i],
                              ag_buf_str(&b), err);
        }
    }

    if (rc == 0 && n > 0) {
        rc = compile_all(rules, patterns, err);
    }

    for (i = 0; i < n; i++) {
        free(patterns[i]);
    }

    free(patterns);
    ag_buf_release(&b);

    return rc;
}


struct ngx_agent_rules *
ngx_agent_rules_new(ag_str_t text, struct ag_err *err)
{
    struct ngx_agent_rules  *rules;

    rules = ag_xcalloc(1, sizeof(*rules));

    if (ag_shapes_parse(text, &rules->shapes, err) < 0
        || compile(rules, err) < 0)
    {
        ngx_agent_rules_free(rules);
        return NULL;
    }

    rules->match = pcre2_match_data_create(1, NULL);

    if (rules->match == NULL
        || (rules->db != NULL
            && hs_alloc_scratch(rules->db, &rules->scratch) != HS_SUCCESS))
    {
        ag_err_set(err, AG_ERR_LIMIT, "no memory for the rule set");
        ngx_agent_rules_free(rules);
        return NULL;
    }

    return rules;
}


void
ngx_agent_rules_free(struct ngx_agent_rules *rules)
{
    size_t  i;

    if (rules == NULL) {
        return;
    }

    for (i = 0; rules->v != NULL && i < rules->shapes.n; i++) {
        pcre2_code_free(rules->v[i].code);
    }

    pcre2_match_data_free(rules->match);
    hs_free_scratch(rules->scratch);
    hs_free_database(rules->db);
    free(rules->v);
    ag_shapes_release(&rules->shapes);
    free(rules);
}


unsigned
ngx_agent_rules_count(const struct ngx_agent_rules *rules)
{
    return (unsigned) rules->shapes.n;
}


const char *
ngx_agent_rules_name(const struct ngx_agent_rules *rules, unsigned rule)
{
    return rules->shapes.v[rule].name;
}


bool
ngx_agent_rules_only_log(const struct ngx_agent_rules *rules, unsigned rule)
{
    return rules->shapes.v[rule].only_logs;
}


/* ---- scanning ----------------------------------------------------------- */

/* Bits of a byte. */
static double
entropy(ag_str_t s)
{
    size_t    i;
    double    sum, p;
    unsigned  count[256] = { 0 };

    for (i = 0; i < s.n; i++) {
        count[(unsigned char) s.p[i]]++;
    }

    sum = 0;

    for (i = 0; i < 256; i++) {
        if (count[i] > 0) {
            p = (double) count[i] / (double) s.n;
            sum -= p * log2(p);
        }
    }

    return sum;
}


/* The bytes before `end`, at most NGX_AGENT_RULE_BYTES, in one piece. */
static ag_str_t
bytes_before(const struct ngx_agent_rules_scan *s, uint64_t end,
    unsigned char room[NGX_AGENT_RULE_BYTES])
{
    size_t  n, here;

    here = (size_t) (end - s->at);

    if (here >= NGX_AGENT_RULE_BYTES) {
        return ag_str_n(s->piece.p + here - NGX_AGENT_RULE_BYTES,
                        NGX_AGENT_RULE_BYTES);
    }

    n = NGX_AGENT_RULE_BYTES - here;

    if (n > s->n_tail) {
        n = s->n_tail;
    }

    memcpy(room, s->tail + s->n_tail - n, n);

    if (here > 0) {
        memcpy(room + n, s->piece.p, here);
    }

    return ag_str_n(room, n + here);
}


static void
add_hit(struct ngx_agent_rules_scan *s, unsigned rule, uint64_t from,
    uint64_t to)
{
    struct ngx_agent_rule_hit  *last;

    last = s->n_hits > 0 ? &s->hits[s->n_hits - 1] : NULL;

    /* One that goes on, or that two shapes fit. */

    if (last != NULL && from < last->to && to >= last->to) {
        if (from < last->from) {
            last->from = from;
        }

        if (s->rules->shapes.v[last->rule].only_logs) {
            last->rule = rule;
        }

        last->to = to;
        return;
    }

    if (s->n_hits == NGX_AGENT_RULE_HITS) {
        s->is_full = true;
        return;
    }

    s->hits[s->n_hits++] = (struct ngx_agent_rule_hit) { rule, from, to };
}


static int
on_match(unsigned id, unsigned long long from, unsigned long long to,
    unsigned flags, void *arg)
{
    ag_str_t                      text, match, token;
    PCRE2_SIZE                   *at;
    unsigned char                 room[NGX_AGENT_RULE_BYTES];
    const struct ag_shape        *shape;
    struct ngx_agent_rules_scan  *s = arg;

    (void) from;
    (void) flags;
    shape = &s->rules->shapes.v[id];
    text = bytes_before(s, to, room);

    if (pcre2_match(s->rules->v[id].code, (PCRE2_SPTR) text.p, text.n, 0, 0,
                    s->rules->match, NULL) < 0)
    {
        return 0;
    }

    at = pcre2_get_ovector_pointer(s->rules->match);
    match = ag_str_n(text.p + at[0], text.n - at[0]);

    /* A stub has the shape of what it stands for. */

    if (entropy(match) * 10 >= shape->entropy_tenths
        && !ngx_agent_stub_next(match, 0, &token))
    {
        add_hit(s, id, to - match.n, to);
    }

    return 0;
}


int
ngx_agent_rules_scan_init(struct ngx_agent_rules_scan *s,
    const struct ngx_agent_rules *rules, struct ag_err *err)
{
    *s = (struct ngx_agent_rules_scan) { .rules = rules };

    if (rules->db != NULL
        && hs_open_stream(rules->db, 0, (hs_stream_t **) &s->stream)
           != HS_SUCCESS)
    {
        return ag_err_set(err, AG_ERR_LIMIT, "no memory for a scan");
    }

    return 0;
}


/* The last bytes fed stay for matches that end in the next piece. */
static void
keep_tail(struct ngx_agent_rules_scan *s)
{
    ag_str_t       last;
    unsigned char  room[NGX_AGENT_RULE_BYTES];

    last = bytes_before(s, s->at + s->piece.n, room);
    memcpy(s->tail, last.p, last.n);
    s->n_tail = last.n;
    s->at += s->piece.n;
    s->piece = ag_str_n(NULL, 0);
}


int
ngx_agent_rules_scan_feed(struct ngx_agent_rules_scan *s, ag_str_t piece,
    struct ag_err *err)
{
    if (s->stream == NULL || piece.n == 0) {
        return 0;
    }

    if (piece.n > UINT32_MAX) {
        return ag_err_set(err, AG_ERR_LIMIT, "a piece of over 4 GiB");
    }

    s->piece = piece;

    if (hs_scan_stream(s->stream, piece.p, (unsigned) piece.n, 0,
                       s->rules->scratch, on_match, s)
        != HS_SUCCESS)
    {
        return ag_err_set(err, AG_ERR_LIMIT, "Hyperscan could not scan");
    }

    keep_tail(s);

    return 0;
}


void
ngx_agent_rules_scan_end(struct ngx_agent_rules_scan *s)
{
    if (s->stream != NULL && s->at > 0) {
        (void) hs_reset_stream(s->stream, 0, s->rules->scratch, NULL, NULL);
    }

    s->at = 0;
    s->n_tail = 0;
}


void
ngx_agent_rules_scan_release(struct ngx_agent_rules_scan *s)
{
    if (s->stream != NULL) {
        (void) hs_close_stream(s->stream, s->rules->scratch, NULL, NULL);
    }

    ag_wipe(s->tail, sizeof(s->tail));
    s->stream = NULL;
}
