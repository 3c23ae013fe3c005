/*
 * A walk over JSON that the parser of lib/json has accepted, so it looks for
 * ends of strings and of nesting alone. Ends of the text are checked all the
 * same.
 */
#include "ngx_agent_module/ngx_agent_mint.h"

#include "lib/json.h"

#define MINT_KEY_MAX  512


static size_t
skip_space(ag_str_t t, size_t at)
{
    while (at < t.n && memchr(" \t\r\n", t.p[at], 4) != NULL)
        at++;
    return at;
}


/* Behind the string that begins at `at`. */
static size_t
skip_string(ag_str_t t, size_t at)
{
    for (at++; at < t.n && t.p[at] != '"'; at++)
        if (t.p[at] == '\\')
            at++;
    return at < t.n ? at + 1 : t.n;
}


/* Behind the value that begins at `at`. */
static size_t
skip_value(ag_str_t t, size_t at)
{
    static const char ends[] = ",:]}[{\" \t\r\n";
    size_t depth = 0;

    while (at < t.n) {
        char c = t.p[at];

        if (c == '"') {
            at = skip_string(t, at);
        } else if (memchr(ends, c, sizeof(ends) - 1) != NULL) {
            depth += c == '{' || c == '[';
            if ((c == '}' || c == ']') && depth-- == 0)
                return at;
            at++;
        } else {
            while (at < t.n && memchr(ends, t.p[at], sizeof(ends) - 1) == NULL)
                at++;
        }

        if (depth == 0)
            return at;
    }

    return at;
}


/* Is the key, with its quotes, the token of a pointer? */
static bool
key_is(ag_str_t raw, ag_str_t token)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    struct ag_err ignored = AG_ERR_INIT;
    char key[MINT_KEY_MAX];
    size_t n = 0;

    for (size_t i = 0; i < token.n && n < sizeof(key); i++) {
        bool is_tilde = token.p[i] == '~' && i + 1 < token.n;
        key[n++] = !is_tilde ? token.p[i]
                             : (token.p[++i] == '1' ? '/' : '~');
    }

    if (memchr(raw.p, '\\', raw.n) == NULL)
        return ag_str_eq(ag_str_n(raw.p + 1, raw.n - 2), ag_str_n(key, n));

    j = ag_json_parse(raw, &ignored);
    return j != NULL && ag_str_eq(ag_json_str(j), ag_str_n(key, n));
}


/* The value of the member; t.n when there is none. */
static size_t
find_member(ag_str_t t, size_t at, ag_str_t token)
{
    at = skip_space(t, at + 1);

    while (at < t.n && t.p[at] == '"') {
        size_t end = skip_string(t, at);
        ag_str_t key = ag_str_n(t.p + at, end - at);

        at = skip_space(t, end);
        if (at >= t.n || t.p[at] != ':' || key.n < 2)
            return t.n;
        at = skip_space(t, at + 1);
        if (key_is(key, token))
            return at;
        at = skip_space(t, skip_value(t, at));
        if (at < t.n && t.p[at] == ',')
            at = skip_space(t, at + 1);
    }

    return t.n;
}


static size_t
find_element(ag_str_t t, size_t at, ag_str_t token)
{
    int64_t index;

    if (token.n == 0 || token.p[0] == '-' || (token.p[0] == '0' && token.n > 1)
        || ag_str_i64(token, &index) < 0)
        return t.n;

    at = skip_space(t, at + 1);

    /* Behind a value stands a comma, or the array has ended; what is neither
     * would be looked at again and again. */
    for (int64_t i = 0; at < t.n && t.p[at] != ']'; i++) {
        if (i == index)
            return at;
        at = skip_space(t, skip_value(t, at));
        if (at >= t.n || t.p[at] != ',')
            return t.n;
        at = skip_space(t, at + 1);
    }

    return t.n;
}


bool
ngx_agent_mint_is_json(ag_str_t text)
{
    struct ag_err ignored = AG_ERR_INIT;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(text, &ignored);

    return j != NULL;
}


bool
ngx_agent_mint_find(ag_str_t text, ag_str_t pointer,
                    struct ngx_agent_mint_span *out)
{
    ag_str_t token, rest = pointer;
    size_t at = skip_space(text, 0);

    if (pointer.n > MINT_KEY_MAX || !ag_str_cut(&rest, '/', &token)
        || token.n != 0)
        return false;

    while (ag_str_cut(&rest, '/', &token)) {
        if (at < text.n && text.p[at] == '{')
            at = find_member(text, at, token);
        else if (at < text.n && text.p[at] == '[')
            at = find_element(text, at, token);
        else
            return false;
    }

    if (at >= text.n || text.p[at] != '"')
        return false;

    out->begin = at;
    out->end = skip_string(text, at);
    return true;
}
