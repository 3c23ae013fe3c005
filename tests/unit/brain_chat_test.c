/* brain_svc/brain_chat.c and brain_log.c: the model's wire, the log's order. */
#include "tests/unit/unit.h"

#include "brain_svc/brain_chat.h"
#include "brain_svc/brain_log.h"

#define DELTA(x) "data: {\"choices\":[{\"index\":0,\"delta\":" x "}]}\n\n"

static const char stream[] = ": comment\n" DELTA(
    "{\"role\":\"assistant\",\"content\":\"Hel\"}")
    DELTA("{\"content\":\"lo\"}") DELTA(
        "{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":"
        "{\"name\":\"sandbox_execute\",\"arguments\":\"\"}}]}")
        DELTA("{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"function\":"
              "{\"name\":\"other\",\"arguments\":\"{}\"}}]}")
            DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                  "\"{\\\"command\\\":\"}}]}")
                DELTA(
                    "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                    "\"\\\"ls\\\"}\"}}]}") "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":"
                                           "\"tool_calls\"}]}\r\n\r\n"
                                           "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,"
                                           "\"completion_tokens\":5,\"prompt_tokens_details\":"
                                           "{\"cached_tokens\":4}}}\n\n"
                                           "data: [DONE]\n\n";

/* The same answer however the bytes are cut. */
static void
stream_is_read_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t size = 1; size < sizeof(stream); size = size * 2 + 1) {
        struct brain_chat c;
        struct ag_err err;

        brain_chat_init(&c, 1000);
        for (size_t at = 0; at < sizeof(stream) - 1; at += size) {
            size_t n = sizeof(stream) - 1 - at;

            assert_int_equal(
                brain_chat_feed(&c, ag_str_n(stream + at, n < size ? n : size),
                                &err),
                0);
        }
        assert_str(ag_buf_str(&c.text), "Hello");
        assert_int_equal(c.n_calls, 2);
        assert_str(ag_buf_str(&c.calls[0].arguments), "{\"command\":\"ls\"}");
        assert_str(ag_buf_str(&c.calls[1].name), "other");
        assert_str(ag_buf_str(&c.finish), "tool_calls");
        assert_int_equal(c.input_tokens, 12);
        assert_int_equal(c.cached_tokens, 4);
        assert_true(c.is_done);
        brain_chat_release(&c);
    }
}

static enum ag_err_kind
kind_of(const char *text, size_t max)
{
    struct ag_err err = AG_ERR_INIT;
    struct brain_chat c;

    brain_chat_init(&c, max);
    (void)brain_chat_feed(&c, ag_str(text), &err);
    brain_chat_release(&c);
    return err.kind;
}

static void
broken_streams_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(kind_of("data: {\n", 100), AG_ERR_CORRUPT);
    assert_int_equal(kind_of(DELTA("{\"content\":7}"), 100), AG_ERR_CORRUPT);
    assert_int_equal(kind_of(DELTA("{\"tool_calls\":[{\"index\":3}]}"), 100),
                     AG_ERR_CORRUPT);
    assert_int_equal(kind_of(DELTA("{\"tool_calls\":[{\"index\":-1}]}"), 100),
                     AG_ERR_CORRUPT);
    assert_int_equal(kind_of(DELTA("{\"content\":\"12345678901\"}"), 10),
                     AG_ERR_LIMIT);
    assert_int_equal(kind_of("data: {\"error\":{\"message\":\"x\"}}\n", 100),
                     AG_ERR_UNAVAILABLE);
    assert_int_equal(kind_of("event: ping\ndata:\n\n", 100), AG_ERR_NONE);
}

static void
log_keeps_the_order_of_seq_and_takes_each_once(void **state)
{
    static const int order[] = {5, 1, 3, 3, 2, 4, 1};
    struct brain_log log = {.base = 0};

    (void)state;
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        json_t *e = brain_event_new("x");

        brain_log_put(&log, order[i], e);
        json_decref(e);
    }
    assert_int_equal(log.n, 5);
    for (size_t i = 0; i < log.n; i++)
        assert_int_equal(log.at[i].seq, i + 1);
    assert_int_equal(brain_log_last(&log), 5);
    brain_log_release(&log);
    log.base = 7;
    assert_int_equal(brain_log_last(&log), 7);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_is_read_in_pieces_of_any_size),
        cmocka_unit_test(broken_streams_are_told_apart),
        cmocka_unit_test(log_keeps_the_order_of_seq_and_takes_each_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
