/* Slots of bindings. Called where bindings are written, and for each stub. */
#include "vault_svc/vault_slot.h"

#include <ctype.h>
#include <stdio.h>

enum { NAME_MAX_BYTES = 64 };

/* Headers that the gateway writes itself or does not pass on. */
static const char *const own_headers[] = {"host",
                                          "content-length",
                                          "content-type",
                                          "content-encoding",
                                          "transfer-encoding",
                                          "connection",
                                          "keep-alive",
                                          "upgrade",
                                          "te",
                                          "trailer",
                                          "expect",
                                          "range",
                                          "if-range",
                                          "request-range",
                                          "accept-encoding",
                                          "max-forwards",
                                          "proxy-authorization",
                                          "proxy-connection",
                                          "x-brainbox-session",
                                          "x-http-method-override"};

bool
vault_is_token(ag_str_t s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i])
            && memchr("!#$%&'*+-.^_`|~", s.p[i], 15) == NULL)
            return false;
    return s.n > 0 && s.n <= NAME_MAX_BYTES;
}

/* Names that no encoding changes: one spelling, so one meaning. */
static bool
is_parameter(ag_str_t s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i])
            && memchr("-._~", s.p[i], 4) == NULL)
            return false;
    return s.n > 0 && s.n <= NAME_MAX_BYTES;
}

static int
check_header(ag_str_t name, struct ag_buf *out, struct ag_err *err)
{
    char lower[NAME_MAX_BYTES + 1];

    for (size_t i = 0; i < name.n; i++)
        lower[i] = (char)tolower((unsigned char)name.p[i]);
    lower[name.n] = '\0';
    for (size_t i = 0; i < sizeof(own_headers) / sizeof(own_headers[0]); i++)
        if (strcmp(lower, own_headers[i]) == 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "the header \"%s\" is the gateway's own and can "
                              "carry no credential",
                              lower);
    ag_buf_addf(out, "header:%s", lower);
    return 0;
}

int
vault_slot_check(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    ag_str_t name = in, kind;

    if (ag_str_is(in, "basic") || ag_str_is(in, "path")
        || ag_str_is(in, "body")) {
        ag_buf_add(out, in);
        return 0;
    }
    ag_str_cut(&name, ':', &kind);
    if (ag_str_is(kind, "header") && vault_is_token(name))
        return check_header(name, out, err);
    if (ag_str_is(kind, "query") && is_parameter(name)) {
        ag_buf_add(out, in);
        return 0;
    }
    return ag_err_set(err, AG_ERR_INVALID,
                      "a slot is \"header:<Name>\", \"basic\", "
                      "\"query:<name>\" (letters, digits, \"-._~\"), \"path\" "
                      "or \"body\"");
}

bool
vault_slot_text(enum vault_slot slot, ag_str_t name, char out[VAULT_SLOT_TEXT])
{
    const char *word = NULL;

    switch (slot) {
    case VAULT_SLOT_NONE:
        return false;
    case VAULT_SLOT_HEADER:
    case VAULT_SLOT_QUERY:
        if (name.n == 0 || name.n > NAME_MAX_BYTES)
            return false;
        snprintf(out, VAULT_SLOT_TEXT, "%s:%.*s",
                 slot == VAULT_SLOT_HEADER ? "header" : "query", AG_FMT(name));
        return true;
    case VAULT_SLOT_BASIC:
        word = "basic";
        break;
    case VAULT_SLOT_PATH:
        word = "path";
        break;
    case VAULT_SLOT_BODY:
        if (!ag_str_is(name, "json") && !ag_str_is(name, "form")
            && !ag_str_is(name, "text"))
            return false;
        word = "body";
        break;
    }
    if (word == NULL)
        return false;
    snprintf(out, VAULT_SLOT_TEXT, "%s", word);
    return true;
}
