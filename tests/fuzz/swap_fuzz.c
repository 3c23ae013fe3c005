/*
 * Fuzz target of the search for stubs and of the swap: a body's scan in pieces
 * finds what a scan of the whole finds, tokens and parameters lie within the
 * text, base64 goes there and back, and no escape is longer than it may be.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ngx_agent_module/ngx_agent_swap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
within(ag_str_t part, ag_str_t whole)
{
    ag_assert(part.n == 0
              || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

/* A stub that shows at once is found in whatever pieces it comes. */
static void
check_scan(ag_str_t text, size_t step)
{
    static struct ngx_agent_stub_scan scan;
    ag_str_t token;

    memset(&scan, 0, sizeof(scan));
    for (size_t at = 0; at < text.n; at += step)
        ngx_agent_stub_scan_feed(
            &scan, ag_str_n(text.p + at,
                            text.n - at < step ? text.n - at : step));
    if (!ngx_agent_stub_next(text, 0, &token))
        return;
    within(token, text);
    ag_assert(scan.is_found && memcmp(scan.core, "bbxs", 4) == 0);
}

static void
check_query(ag_str_t text)
{
    ag_str_t rest = text, name, value, first = {NULL, 0};

    for (size_t n = 0; ngx_agent_param_next(&rest, &name, &value); n++) {
        within(name, text);
        within(value, text);
        first = n == 0 ? name : first;
        ag_assert(ngx_agent_param_same(name, name));
        ag_assert(ngx_agent_param_same(name, first)
                  == ngx_agent_param_same(first, name));
    }
}

static void
check_escapes(ag_str_t text)
{
    struct ag_err err = AG_ERR_INIT;

    for (int how = NGX_AGENT_ESCAPE_NONE; how <= NGX_AGENT_ESCAPE_JSON; how++) {
        struct ag_buf out = AG_BUF_INIT(6 * text.n + 1);
        ag_assert(ngx_agent_swap_escape((enum ngx_agent_escape)how, text, &out,
                                        &err)
                  == 0);
        ag_assert(out.n >= text.n);
        ag_buf_release(&out);
    }
}

static void
check_base64(ag_str_t text)
{
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf coded = AG_BUF_INIT(2 * text.n + 8);
    struct ag_buf plain = AG_BUF_INIT(2 * text.n + 8);
    ag_str_t credentials;

    ag_assert(ngx_agent_base64_encode(text, &coded, &err) == 0);
    ag_assert(ngx_agent_base64_decode(ag_buf_str(&coded), &plain, &err) == 0);
    ag_assert(ag_str_eq(ag_buf_str(&plain), text));
    ag_buf_release(&plain);
    (void)ngx_agent_base64_decode(text, &plain, &err);
    ag_buf_release(&plain);
    ag_buf_release(&coded);
    if (ngx_agent_is_basic(text, &credentials))
        within(credentials, text);
}

static void
check_token(ag_str_t text)
{
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf out = AG_BUF_INIT(text.n + 16);
    ag_str_t token;

    if (ngx_agent_stub_next(text, 0, &token)) {
        ag_assert(ngx_agent_swap_token(text, token, AG_STR("value"), &out, &err)
                  == 0);
        ag_assert(out.n == text.n - token.n + 5);
    }
    ag_buf_release(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char core[36];

    if (size < 2 || size > 65536)
        return 0;
    ag_str_t text = ag_str_n(data + 1, size - 1);
    check_scan(text, (size_t)data[0] + 1);
    if (ngx_agent_stub_hidden(text, core))
        ag_assert(memcmp(core, "bbxs", 4) == 0);
    check_query(text);
    check_escapes(text);
    check_base64(text);
    check_token(text);
    return 0;
}
