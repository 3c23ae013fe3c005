/*
 * Fuzz target of ngx_agent_mint: a pointer, a line feed, a text. What is found
 * in JSON is what jansson finds by the same pointer.
 */
#include <stdint.h>

#include "lib/json.h"
#include "ngx_agent_module/ngx_agent_mint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
unescape(ag_str_t token, struct ag_buf *out)
{
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] != '~') {
            ag_buf_addc(out, token.p[i]);
            continue;
        }
        if (++i == token.n || (token.p[i] != '0' && token.p[i] != '1'))
            return false;
        ag_buf_addc(out, token.p[i] == '0' ? '~' : '/');
    }
    return true;
}

/* By another way; NULL when there is no such value. */
static const json_t *
walk(const json_t *j, ag_str_t pointer, bool *is_good)
{
    ag_str_t token, rest = pointer;

    *is_good = ag_str_cut(&rest, '/', &token) && token.n == 0;
    while (*is_good && ag_str_cut(&rest, '/', &token)) {
        AG_AUTO(ag_buf_release) struct ag_buf key = AG_BUF_INIT(4096);
        int64_t i;

        *is_good = unescape(token, &key);
        if (json_is_object(j))
            j = json_object_getn(j, key.n > 0 ? key.p : "", key.n);
        else if (json_is_array(j)
                 && !(token.n > 0 && (token.p[0] == '-'
                      || (token.p[0] == '0' && token.n > 1)))
                 && ag_str_i64(token, &i) == 0)
            j = json_array_get(j, (size_t)i);
        else
            return NULL;
    }
    return j;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ag_str_t text = ag_str_n(data, size), pointer;
    struct ag_err err = AG_ERR_INIT;
    struct ngx_agent_mint_span span = {0, 0};
    bool is_good;

    if (!ag_str_cut(&text, '\n', &pointer) || text.p == NULL
        || pointer.n > 256)
        return 0;
    bool is_json = ngx_agent_mint_is_json(text);
    bool found = ngx_agent_mint_find(text, pointer, &span);
    ag_assert(!found || (span.begin < span.end && span.end <= text.n));
    if (!is_json)
        return 0;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(text, &err);
    const json_t *want = walk(j, pointer, &is_good);
    if (!is_good)
        return 0;
    ag_assert(found == json_is_string(want));
    if (!found)
        return 0;
    AG_AUTO(ag_json_decref)
    json_t *got = ag_json_parse(
        ag_str_n(text.p + span.begin, span.end - span.begin), &err);
    ag_assert(got != NULL && json_equal(got, want));
    return 0;
}
