/*
 * What may stand in a message beside text. Called by brain_event_check.c, the
 * wires and brain_context.c.
 */
#include "brain_svc/brain_content.h"

#define URL_MAX 8192
#define TEXT_MAX (32 * 1024 * 1024)
/* An image is at most about 1,600 tokens, whatever its bytes; a page of a PDF
 * a few thousand, for some tens of kilobytes. */
#define IMAGE_WEIGHT (4 * 1600)
#define DOCUMENT_WEIGHT(n) ((n) / 10 > IMAGE_WEIGHT ? (n) / 10 : IMAGE_WEIGHT)

static ag_str_t
source(const json_t *block, const char *key)
{
    return ag_json_member(json_object_get(block, "source"), key);
}

/* ---- what may come ------------------------------------------------------ */

/* RFC 4648, section 4, padded. */
static bool
is_base64(ag_str_t s)
{
    size_t n = s.n;

    if (n == 0 || n % 4 != 0)
        return false;
    for (int i = 0; i < 2 && s.p[n - 1] == '='; i++)
        n--;
    for (size_t i = 0; i < n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

static bool
is_url(ag_str_t s)
{
    if (s.n > URL_MAX
        || (!ag_str_starts(s, AG_STR("https://"))
            && !ag_str_starts(s, AG_STR("http://"))))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return false;
    return true;
}

static bool
is_media(enum brain_content_kind kind, ag_str_t type)
{
    return kind == BRAIN_CONTENT_IMAGE
               ? ag_str_is(type, "image/png") || ag_str_is(type, "image/jpeg")
                     || ag_str_is(type, "image/gif")
                     || ag_str_is(type, "image/webp")
               : ag_str_is(type, "application/pdf");
}

static int
check_data(const json_t *block, size_t i, struct ag_err *err)
{
    ag_str_t media = source(block, "media_type");
    bool is_image = brain_content_kind(block) == BRAIN_CONTENT_IMAGE;

    if (!is_media(brain_content_kind(block), media))
        return ag_err_set(err, AG_ERR_INVALID,
                          "content[%zu].source.media_type: \"%.*s\" is %s", i,
                          (int)(media.n < 64 ? media.n : 64), media.p,
                          is_image ? "none of image/png, image/jpeg, "
                                     "image/gif, image/webp"
                                   : "not application/pdf");
    if (!is_base64(source(block, "data")))
        return ag_err_set(err, AG_ERR_INVALID,
                          "content[%zu].source.data: must be base64, padded, "
                          "without line breaks",
                          i);
    return 0;
}

static int
check_text(const json_t *block, size_t i, struct ag_err *err)
{
    ag_str_t media = source(block, "media_type");

    if (media.p != NULL && !ag_str_is(media, "text/plain"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "content[%zu].source.media_type: \"%.*s\" is not "
                          "text/plain",
                          i, (int)(media.n < 64 ? media.n : 64), media.p);
    if (source(block, "data").p == NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "content[%zu].source.data: must be a string", i);
    return 0;
}

static int
check_url(const json_t *block, size_t i, struct ag_err *err)
{
    return is_url(source(block, "url"))
               ? 0
               : ag_err_set(err, AG_ERR_INVALID,
                            "content[%zu].source.url: must be an http:// or "
                            "https:// URL of at most %d bytes",
                            i, URL_MAX);
}

static int
check_source(const json_t *block, size_t i, struct ag_err *err)
{
    bool is_image = brain_content_kind(block) == BRAIN_CONTENT_IMAGE;
    ag_str_t type = source(block, "type");

    if (ag_str_is(type, "base64"))
        return check_data(block, i, err);
    if (is_image && ag_str_is(type, "url"))
        return check_url(block, i, err);
    if (!is_image && ag_str_is(type, "text"))
        return check_text(block, i, err);
    return ag_err_set(err, AG_ERR_INVALID,
                      "content[%zu].source.type: \"%.*s\" is neither base64 "
                      "nor %s",
                      i, (int)(type.n < 64 ? type.n : 64), type.p,
                      is_image ? "url" : "text");
}

static int
check_titles(const json_t *block, size_t i, struct ag_err *err)
{
    static const char *const keys[] = {"title", "context"};

    for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
        const json_t *v = json_object_get(block, keys[k]);

        if (v != NULL && !json_is_null(v) && !json_is_string(v))
            return ag_err_set(err, AG_ERR_INVALID,
                              "content[%zu].%s: must be a string or null", i,
                              keys[k]);
    }
    return 0;
}

static int
check_block(const json_t *block, size_t i, struct ag_err *err)
{
    ag_str_t type = ag_json_member(block, "type");

    if (ag_str_is(type, "text"))
        return json_is_string(json_object_get(block, "text"))
                   ? 0
                   : ag_err_set(err, AG_ERR_INVALID,
                                "content[%zu].text: must be a string", i);
    if (!ag_str_is(type, "image") && !ag_str_is(type, "document"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "content[%zu].type: \"%.*s\" is none of text, image, "
                          "document",
                          i, (int)(type.n < 64 ? type.n : 64), type.p);
    return check_titles(block, i, err) < 0 ? -1 : check_source(block, i, err);
}

int
brain_content_check(const json_t *content, struct ag_err *err)
{
    size_t i;
    json_t *block;

    if (!json_is_array(content) || json_array_size(content) == 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "content: must be an array of one block or more");
    json_array_foreach (content, i, block)
        if (check_block(block, i, err) < 0)
            return -1;
    return 0;
}

/* ---- of checked blocks -------------------------------------------------- */

enum brain_content_kind
brain_content_kind(const json_t *block)
{
    ag_str_t type = ag_json_member(block, "type");

    return ag_str_is(type, "image")      ? BRAIN_CONTENT_IMAGE
           : ag_str_is(type, "document") ? BRAIN_CONTENT_DOCUMENT
                                         : BRAIN_CONTENT_TEXT;
}

bool
brain_content_is_text(const json_t *content)
{
    size_t i;
    json_t *block;

    json_array_foreach (content, i, block)
        if (brain_content_kind(block) != BRAIN_CONTENT_TEXT)
            return false;
    return true;
}

json_t *
brain_content_text(const json_t *block)
{
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(TEXT_MAX);
    ag_str_t parts[] = {ag_json_member(block, "title"),
                        ag_json_member(block, "context"),
                        source(block, "data")};

    if (brain_content_kind(block) == BRAIN_CONTENT_TEXT)
        return ag_json_from_str(ag_json_member(block, "text"));
    if (!ag_str_is(source(block, "type"), "text"))
        return NULL;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].n == 0)
            continue;
        if (out.n > 0)
            ag_buf_add(&out, AG_STR("\n\n"));
        ag_buf_add(&out, parts[i]);
    }
    return ag_json_from_str(ag_buf_str(&out));
}

json_t *
brain_content_url(const json_t *block)
{
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(TEXT_MAX);

    if (ag_str_is(source(block, "type"), "url"))
        return ag_json_from_str(source(block, "url"));
    ag_buf_add(&out, AG_STR("data:"));
    ag_buf_add(&out, source(block, "media_type"));
    ag_buf_add(&out, AG_STR(";base64,"));
    ag_buf_add(&out, source(block, "data"));
    return ag_json_from_str(ag_buf_str(&out));
}

const char *
brain_content_name(const json_t *block)
{
    const char *title = json_string_value(json_object_get(block, "title"));

    return title != NULL && title[0] != '\0' ? title : "document.pdf";
}

static size_t
weight(const json_t *block)
{
    switch (brain_content_kind(block)) {
    case BRAIN_CONTENT_IMAGE:
        return IMAGE_WEIGHT;
    case BRAIN_CONTENT_DOCUMENT:
        if (ag_str_is(source(block, "type"), "base64"))
            return DOCUMENT_WEIGHT(source(block, "data").n);
        break;
    case BRAIN_CONTENT_TEXT:
        break;
    }
    return json_dumpb(block, NULL, 0, JSON_COMPACT);
}

size_t
brain_content_weight(const json_t *content)
{
    size_t i, n = 0;
    json_t *block;

    json_array_foreach (content, i, block)
        n += weight(block);
    return n;
}
