/* brain_svc/brain_content.c, and what the wires make of it. */
#include "tests/unit/unit.h"

#include "brain_svc/brain_content.h"
#include "brain_svc/brain_context.h"
#include "brain_svc/brain_wire.h"

#define IMAGE(source) "[{\"type\":\"image\",\"source\":" source "}]"
#define DOCUMENT(source) "[{\"type\":\"document\",\"source\":" source "}]"
#define BASE64(media, data) \
    "{\"type\":\"base64\",\"media_type\":\"" media "\",\"data\":\"" data "\"}"

static json_t *
parse(const char *text)
{
    struct ag_err err;
    json_t *j = ag_json_parse(ag_str(text), &err);

    assert_non_null(j);
    return j;
}

static void
what_is_wrong_with_a_block_is_named(void **state)
{
    static const struct {
        const char *content, *says;
    } cases[] = {
        {"{}", "content: must be an array of one block or more"},
        {"[]", "content: must be an array of one block or more"},
        {"[1]", "content[0].type: \"\" is none of text, image, document"},
        {"[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"redacted\"}]",
         "content[1].type: \"redacted\" is none of text, image, document"},
        {"[{\"type\":\"text\",\"text\":1}]",
         "content[0].text: must be a string"},
        {"[{\"type\":\"image\"}]",
         "content[0].source.type: \"\" is neither base64 nor url"},
        {IMAGE("{\"type\":\"file\",\"file_id\":\"file_1\"}"),
         "content[0].source.type: \"file\" is neither base64 nor url"},
        {IMAGE(BASE64("image/tiff", "AAAA")),
         "content[0].source.media_type: \"image/tiff\" is none of image/png, "
         "image/jpeg, image/gif, image/webp"},
        {IMAGE(BASE64("image/png", "AAA")),
         "content[0].source.data: must be base64, padded, without line "
         "breaks"},
        {IMAGE(BASE64("image/png", "")),
         "content[0].source.data: must be base64, padded, without line "
         "breaks"},
        {IMAGE(BASE64("image/png", "A===")),
         "content[0].source.data: must be base64, padded, without line "
         "breaks"},
        {IMAGE(BASE64("image/png", "AA=A")),
         "content[0].source.data: must be base64, padded, without line "
         "breaks"},
        {IMAGE(BASE64("image/png", "AA-_")),
         "content[0].source.data: must be base64, padded, without line "
         "breaks"},
        {IMAGE("{\"type\":\"url\",\"url\":\"file:///etc/passwd\"}"),
         "content[0].source.url: must be an http:// or https:// URL of at "
         "most 8192 bytes"},
        {IMAGE("{\"type\":\"url\",\"url\":\"https://a/ b\"}"),
         "content[0].source.url: must be an http:// or https:// URL of at "
         "most 8192 bytes"},
        {DOCUMENT("{\"type\":\"url\",\"url\":\"https://a/b.pdf\"}"),
         "content[0].source.type: \"url\" is neither base64 nor text"},
        {DOCUMENT(BASE64("image/png", "AAAA")),
         "content[0].source.media_type: \"image/png\" is not "
         "application/pdf"},
        {DOCUMENT("{\"type\":\"text\",\"media_type\":\"text/html\","
                  "\"data\":\"x\"}"),
         "content[0].source.media_type: \"text/html\" is not text/plain"},
        {DOCUMENT("{\"type\":\"text\",\"media_type\":\"text/plain\"}"),
         "content[0].source.data: must be a string"},
        {"[{\"type\":\"document\",\"title\":1,\"source\":" BASE64(
             "application/pdf", "AAAA") "}]",
         "content[0].title: must be a string or null"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *content = parse(cases[i].content);
        struct ag_err err = AG_ERR_INIT;

        assert_int_equal(brain_content_check(content, &err), -1);
        assert_int_equal(err.kind, AG_ERR_INVALID);
        assert_string_equal(err.msg, cases[i].says);
        json_decref(content);
    }
}

static void
good_blocks_pass_and_text_is_told_from_the_rest(void **state)
{
    static const struct {
        const char *content;
        bool is_text;
    } cases[] = {
        {"[{\"type\":\"text\",\"text\":\"\"}]", true},
        {IMAGE(BASE64("image/webp", "AAA=")), false},
        {IMAGE(BASE64("image/jpeg", "AA==")), false},
        {IMAGE("{\"type\":\"url\",\"url\":\"https://a.test/b?c=d\"}"), false},
        {DOCUMENT(BASE64("application/pdf", "+/aZ")), false},
        {DOCUMENT("{\"type\":\"text\",\"media_type\":\"text/plain\","
                  "\"data\":\"x\"}"),
         false},
        {"[{\"type\":\"document\",\"title\":null,\"context\":\"c\","
         "\"source\":{\"type\":\"text\",\"data\":\"x\"}}]",
         false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *content = parse(cases[i].content);
        struct ag_err err = AG_ERR_INIT;

        assert_int_equal(brain_content_check(content, &err), 0);
        assert_int_equal(brain_content_is_text(content), cases[i].is_text);
        json_decref(content);
    }
}

static const char media[] =
    "[{\"type\":\"text\",\"text\":\"See:\",\"extra\":1},"
    "{\"type\":\"image\",\"source\":" BASE64(
        "image/png",
        "QUJD") "},"
                "{\"type\":\"image\",\"source\":{\"type\":\"url\","
                "\"url\":\"https://a.test/b.png\",\"extra\":1}},"
                "{\"type\":\"document\",\"title\":\"plan.pdf\",\"context\":null,"
                "\"source\":" BASE64(
                    "application/pdf",
                    "REVG") "},"
                            "{\"type\":\"document\",\"title\":\"Notes\",\"source\":{\"type\":\"text\","
                            "\"media_type\":\"text/plain\",\"data\":\"Read me.\"}}]";

/* What the wires make of one message with all of it. */
static const struct {
    const struct brain_wire *wire;
    const char *content; /* where that stands */
    const char *says;
} written[] = {
    {&brain_wire_chat, "messages",
     "[{\"type\":\"text\",\"text\":\"See:\"},"
     "{\"type\":\"image_url\",\"image_url\":{\"url\":"
     "\"data:image/png;base64,QUJD\"}},"
     "{\"type\":\"image_url\",\"image_url\":{\"url\":"
     "\"https://a.test/b.png\"}},"
     "{\"type\":\"file\",\"file\":{\"filename\":\"plan.pdf\",\"file_data\":"
     "\"data:application/pdf;base64,REVG\"}},"
     "{\"type\":\"text\",\"text\":\"Notes\\n\\nRead me.\"}]"},
    {&brain_wire_responses, "input",
     "[{\"type\":\"input_text\",\"text\":\"See:\"},"
     "{\"type\":\"input_image\",\"image_url\":"
     "\"data:image/png;base64,QUJD\"},"
     "{\"type\":\"input_image\",\"image_url\":\"https://a.test/b.png\"},"
     "{\"type\":\"input_file\",\"filename\":\"plan.pdf\",\"file_data\":"
     "\"data:application/pdf;base64,REVG\"},"
     "{\"type\":\"input_text\",\"text\":\"Notes\\n\\nRead me.\"}]"},
    {&brain_wire_messages, "messages",
     "[{\"type\":\"text\",\"text\":\"See:\"},"
     "{\"type\":\"image\",\"source\":" BASE64(
         "image/png",
         "QUJD") "},"
                 "{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":"
                 "\"https://a.test/b.png\"}},"
                 "{\"type\":\"document\",\"title\":\"plan.pdf\",\"source\":" BASE64(
                     "application/pdf",
                     "REVG") "},"
                             "{\"type\":\"document\",\"title\":\"Notes\",\"source\":{\"type\":"
                             "\"text\",\"media_type\":\"text/plain\",\"data\":\"Read me.\"},"
                             "\"cache_control\":{\"type\":\"ephemeral\"}}]"},
};

static void
each_wire_has_its_own_blocks(void **state)
{
    json_t *e = brain_event_new("user.message"), *was;
    struct brain_log log = {.base = 0};

    (void)state;
    json_object_set_new(e, "content", parse(media));
    brain_log_put(&log, 1, e);
    for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++) {
        struct brain_prompt p = {.model = AG_STR("m")};
        json_t *want = parse(written[i].says), *body, *all;

        brain_prompt_fill(&p, &log);
        assert_int_equal(p.n, 1);
        body = written[i].wire->build(&p);
        all = json_object_get(body, written[i].content);
        assert_true(json_equal(
            json_object_get(json_array_get(all, 0), "content"), want));
        brain_prompt_release(&p);
        json_decref(body);
        json_decref(want);
    }
    was = parse(media);
    assert_true(json_equal(json_object_get(e, "content"), was));
    json_decref(was);
    json_decref(e);
    brain_log_release(&log);
}

static void
add(struct brain_log *log, const char *type, const char *key, const char *value,
    const char *content)
{
    json_t *e = brain_event_new(type);

    if (key != NULL)
        json_object_set_new(e, key, json_string(value));
    if (content != NULL)
        json_object_set_new(e, "content", parse(content));
    brain_log_put(log, brain_log_last(log) + 1, e);
    json_decref(e);
}

/* Over chat, results hold text: what else they hold follows behind them all. */
static void
results_hold_images_as_far_as_the_wire_can(void **state)
{
    static const char image[] =
        "[{\"type\":\"text\",\"text\":\"shot\"},"
        "{\"type\":\"image\",\"source\":" BASE64("image/png", "QUJD") "}]";
    static const char text[] = "[{\"type\":\"text\",\"text\":\"plain\"}]";
    struct brain_prompt p = {.model = AG_STR("m")};
    struct brain_log log = {.base = 0};
    json_t *body, *all, *e;

    (void)state;
    add(&log, "agent.custom_tool_use", "name", "shoot", NULL);
    add(&log, "agent.custom_tool_use", "name", "look", NULL);
    add(&log, "user.custom_tool_result", "custom_tool_use_id", log.at[0].id,
        image);
    add(&log, "user.custom_tool_result", "custom_tool_use_id", log.at[1].id,
        text);
    add(&log, "agent.message", NULL, NULL, text);
    for (size_t i = 0; i < 2; i++) /* as every call has it */
        json_object_set_new(log.at[i].body, "input", json_object());
    brain_prompt_fill(&p, &log);
    assert_int_equal(p.n, 5);

    body = brain_wire_chat.build(&p);
    all = json_object_get(body, "messages");
    assert_int_equal(json_array_size(all), 5);
    e = json_array_get(all, 1);
    assert_string_equal(json_string_value(json_object_get(e, "content")),
                        "shot");
    e = json_array_get(json_object_get(json_array_get(all, 3), "content"), 1);
    assert_str(ag_json_str(json_object_get(e, "type")), "image_url");
    assert_str(ag_json_str(json_object_get(json_array_get(all, 4), "role")),
               "assistant");
    json_decref(body);

    body = brain_wire_responses.build(&p);
    e = json_array_get(json_object_get(body, "input"), 2);
    e = json_array_get(json_object_get(e, "output"), 1);
    assert_str(ag_json_str(json_object_get(e, "image_url")),
               "data:image/png;base64,QUJD");
    json_decref(body);

    body = brain_wire_messages.build(&p);
    e = json_array_get(json_object_get(body, "messages"), 1);
    e = json_array_get(json_object_get(e, "content"), 0);
    assert_str(ag_json_str(json_object_get(e, "type")), "tool_result");
    e = json_array_get(json_object_get(e, "content"), 1);
    assert_str(ag_json_str(json_object_get(e, "type")), "image");
    json_decref(body);
    brain_prompt_release(&p);
    brain_log_release(&log);
}

static void
an_image_weighs_what_a_model_counts_for_it(void **state)
{
    enum { BYTES = 1 << 20 };
    char *data = ag_xmalloc(BYTES + 1);
    json_t *content;

    (void)state;
    memset(data, 'A', BYTES);
    data[BYTES] = '\0';
    content =
        json_pack("[{s:s, s:{s:s, s:s, s:s}}]", "type", "image", "source",
                  "type", "base64", "media_type", "image/png", "data", data);
    assert_in_range(brain_content_weight(content), 1000, 10000);
    json_object_set_new(json_array_get(content, 0), "type",
                        json_string("document"));
    assert_in_range(brain_content_weight(content), BYTES / 20, BYTES / 5);
    json_decref(content);
    content = parse("[{\"type\":\"text\",\"text\":\"0123456789\"}]");
    assert_in_range(brain_content_weight(content), 10, 60);
    json_decref(content);
    ag_freep(&data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_with_a_block_is_named),
        cmocka_unit_test(good_blocks_pass_and_text_is_told_from_the_rest),
        cmocka_unit_test(each_wire_has_its_own_blocks),
        cmocka_unit_test(results_hold_images_as_far_as_the_wire_can),
        cmocka_unit_test(an_image_weighs_what_a_model_counts_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
