/* Recognising credentials by their shape. */
#include "vault_svc/vault_shape.h"

#include <ctype.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/without.h"
#include "vault_svc/vault_file.h"
#include "vault_svc/vault_store.h"

enum { SHAPES_MAX = 256, FILE_MAX_BYTES = 1 << 18 };

static int
parse_word(ag_str_t word, struct vault_shape *s, struct ag_err *err)
{
    ag_str_t value = word, key;
    int64_t n;

    ag_str_cut(&value, '=', &key);
    if (ag_str_is(key, "prefix") && s->prefix == NULL && value.n > 0)
        s->prefix = ag_str_dup(value);
    else if (ag_str_is(key, "stub") && s->stub_prefix == NULL && value.n > 0
             && value.n <= 32)
        s->stub_prefix = ag_str_dup(value);
    else if (ag_str_is(key, "hosts") && s->hosts == NULL)
        s->hosts = ag_str_dup(value);
    else if (ag_str_is(key, "min") && ag_str_i64(value, &n) == 0 && n >= 16
             && n < 4096)
        s->min = (size_t)n;
    else
        return ag_err_set(err, AG_ERR_INVALID,
                          "\"%.*s\" is none of prefix=, min=16…, hosts=, "
                          "stub=, each once",
                          AG_FMT(word));
    return 0;
}

static int
parse_line(ag_str_t line, struct vault_shapes *out, struct ag_err *err)
{
    ag_str_t word;

    vault_file_word(&line, &word);
    if (!ag_str_is(word, "shape") || !vault_file_word(&line, &word))
        return ag_err_set(err, AG_ERR_INVALID,
                          "lines are \"shape NAME prefix=… min=… hosts=…\"");
    if (out->n == SHAPES_MAX)
        return ag_err_set(err, AG_ERR_LIMIT, "more than %d shapes", SHAPES_MAX);
    out->v = ag_xrealloc(out->v, (out->n + 1) * sizeof(*out->v));
    struct vault_shape *s = &out->v[out->n++];
    *s = (struct vault_shape){.name = ag_str_dup(word)};
    while (vault_file_word(&line, &word))
        if (parse_word(word, s, err) < 0)
            return -1;
    if (s->prefix == NULL || s->hosts == NULL || s->min == 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "shape %s lacks prefix=, min= or hosts=", s->name);
    return 0;
}

int
vault_shapes_parse(ag_str_t text, struct vault_shapes *out, struct ag_err *err)
{
    ag_str_t line;
    int number = 0;

    *out = (struct vault_shapes){0};
    while (ag_str_cut(&text, '\n', &line)) {
        number++;
        line = ag_str_trim(line);
        if (line.n > 0 && line.p[0] != '#' && parse_line(line, out, err) < 0)
            return ag_err_wrap(err, "line %d", number);
    }
    return 0;
}

int
vault_shapes_load(const char *path, struct vault_shapes *out,
                  struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(FILE_MAX_BYTES);

    *out = (struct vault_shapes){0};
    if (vault_file_read(path, &text, err) < 0)
        return -1;
    if (vault_shapes_parse(ag_buf_str(&text), out, err) < 0)
        return ag_err_wrap(err, "%s", path);
    return 0;
}

void
vault_shapes_release(struct vault_shapes *shapes)
{
    for (size_t i = 0; i < shapes->n; i++) {
        free(shapes->v[i].name);
        free(shapes->v[i].prefix);
        free(shapes->v[i].stub_prefix);
        free(shapes->v[i].hosts);
    }
    free(shapes->v);
    *shapes = (struct vault_shapes){0};
}

const struct vault_shape *
vault_shape_of(const struct vault_shapes *shapes, ag_str_t value)
{
    const struct vault_shape *best = NULL;

    for (size_t i = 0; i < shapes->n; i++) {
        const struct vault_shape *s = &shapes->v[i];
        if (value.n >= s->min && ag_str_starts(value, ag_str(s->prefix))
            && (best == NULL || strlen(s->prefix) > strlen(best->prefix)))
            best = s;
    }
    return best;
}

static size_t
distinct_chars(ag_str_t s)
{
    bool seen[256] = {false};
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        n += !seen[(unsigned char)s.p[i]];
        seen[(unsigned char)s.p[i]] = true;
    }
    return n;
}

/* One long word of mixed letters and digits, as random as tokens are. */
static bool
is_random_word(ag_str_t s)
{
    int digits = 0, letters = 0;

    if (s.n < 20 || s.p[0] == '/')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (!isalnum(c) && memchr("+/=_-.:", c, 7) == NULL)
            return false;
        digits += isdigit(c) != 0;
        letters += isalpha(c) != 0;
    }
    return digits >= 3 && letters >= 3 && distinct_chars(s) >= 10;
}

static bool
contains(ag_str_t s, const char *what)
{
    return memmem(s.p, s.n, what, strlen(what)) != NULL;
}

static bool
name_is_of_secret(ag_str_t name)
{
    static const char *const words[] = {
        "TOKEN",  "SECRET",      "PASSWORD",   "PASSWD",    "API_KEY",
        "APIKEY", "PRIVATE_KEY", "ACCESS_KEY", "CREDENTIAL"};
    char upper[128];
    size_t n = name.n < sizeof(upper) ? name.n : sizeof(upper);

    for (size_t i = 0; i < n; i++)
        upper[i] = (char)toupper((unsigned char)name.p[i]);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (contains(ag_str_n(upper, n), words[i]))
            return true;
    return false;
}

static bool
has_password_in_url(ag_str_t s)
{
    const char *at = memmem(s.p, s.n, "://", 3);
    if (at == NULL)
        return false;
    ag_str_t rest = ag_str_n(at + 3, s.n - (size_t)(at + 3 - s.p));
    ag_str_t authority;
    ag_str_cut(&rest, '/', &authority);
    ptrdiff_t end = ag_str_chr(authority, '@');
    ptrdiff_t colon = ag_str_chr(authority, ':');
    return end > 0 && colon >= 0 && colon < end - 1;
}

enum vault_looks
vault_shape_looks(const struct vault_shapes *shapes, ag_str_t name,
                  ag_str_t value)
{
    if (vault_shape_of(shapes, value) != NULL)
        return VAULT_LOOKS_KNOWN;
    if ((name_is_of_secret(name) && value.n >= 8) || is_random_word(value)
        || has_password_in_url(value) || contains(value, "PRIVATE KEY-----"))
        return VAULT_LOOKS_SECRET;
    return VAULT_LOOKS_PLAIN;
}

ag_str_t
vault_shape_stub_prefix(const struct vault_shapes *shapes, ag_str_t value)
{
    const struct vault_shape *s = vault_shape_of(shapes, value);
    ag_str_t prefix = ag_str(s == NULL ? NULL : s->stub_prefix);

    if (prefix.n + VAULT_STUB_BODY != value.n || ag_without("stub_length"))
        return prefix;
    return prefix.n > 0 ? (ag_str_t){NULL, 0} : AG_STR("stub_");
}
