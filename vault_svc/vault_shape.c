/* Recognising credentials by their shape. */
#include "vault_svc/vault_shape.h"

#include <ctype.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/without.h"
#include "vault_svc/vault_file.h"
#include "vault_svc/vault_store.h"

enum { FILE_MAX_BYTES = 1 << 18 };

int
vault_shapes_load(const char *path, struct ag_shapes *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(FILE_MAX_BYTES);

    *out = (struct ag_shapes){0};
    if (vault_file_read(path, &text, err) < 0)
        return -1;
    if (ag_shapes_parse(ag_buf_str(&text), out, err) < 0)
        return ag_err_wrap(err, "%s", path);
    return 0;
}

const struct ag_shape *
vault_shape_of(const struct ag_shapes *shapes, ag_str_t value)
{
    const struct ag_shape *best = NULL;

    for (size_t i = 0; i < shapes->n; i++) {
        const struct ag_shape *s = &shapes->v[i];
        if (s->prefix != NULL && value.n >= s->min
            && ag_str_starts(value, ag_str(s->prefix))
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
vault_shape_looks(const struct ag_shapes *shapes, ag_str_t name, ag_str_t value)
{
    if (vault_shape_of(shapes, value) != NULL)
        return VAULT_LOOKS_KNOWN;
    if ((name_is_of_secret(name) && value.n >= 8) || is_random_word(value)
        || has_password_in_url(value) || contains(value, "PRIVATE KEY-----"))
        return VAULT_LOOKS_SECRET;
    return VAULT_LOOKS_PLAIN;
}

ag_str_t
vault_shape_stub_prefix(const struct ag_shapes *shapes, ag_str_t value)
{
    const struct ag_shape *s = vault_shape_of(shapes, value);
    ag_str_t prefix = ag_str(s == NULL ? NULL : s->stub_prefix);

    if (prefix.n + VAULT_STUB_BODY != value.n || ag_without("stub_length"))
        return prefix;
    return prefix.n > 0 ? (ag_str_t){NULL, 0} : AG_STR("stub_");
}
