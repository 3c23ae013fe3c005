/* Unit tests of ngx_agent_module/ngx_agent_frame.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ngx_agent_module/ngx_agent_frame.h"

static struct ag_err err;

static void
frames_are_cut_the_same_wherever_the_bytes_split(void **state)
{
    static const char wire[] = "\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\1z";
    static const char *const want[] = {"abc", "", "z"};
    const size_t n = sizeof(wire) - 1;

    (void)state;
    for (size_t step = 1; step <= n; step++) {
        struct ngx_agent_frames f;
        size_t seen = 0;
        ngx_agent_frames_init(&f, 100);
        for (size_t at = 0; at < n; at += step) {
            ag_str_t in = ag_str_n(wire + at, n - at < step ? n - at : step);
            int rc;
            while ((rc = ngx_agent_frames_next(&f, &in, &err)) == 1)
                assert_true(ag_str_is(ag_buf_str(&f.message), want[seen++]));
            assert_int_equal(rc, 0);
            assert_int_equal(in.n, 0);
        }
        assert_int_equal(seen, 3);
        assert_true(ngx_agent_frames_is_idle(&f));
        ngx_agent_frames_release(&f);
    }
}

static void
frames_refuse_compression_and_length(void **state)
{
    struct ngx_agent_frames f;
    ag_str_t in = AG_STR("\1\0\0\0\1x");

    (void)state;
    ngx_agent_frames_init(&f, 10);
    assert_int_equal(ngx_agent_frames_next(&f, &in, &err), -1);
    assert_int_equal(err.kind, AG_ERR_CORRUPT);
    ngx_agent_frames_release(&f);

    ngx_agent_frames_init(&f, 10);
    in = AG_STR("\0\xff\xff\xff\xff");
    assert_int_equal(ngx_agent_frames_next(&f, &in, &err), -1);
    assert_int_equal(err.kind, AG_ERR_LIMIT);
    ngx_agent_frames_release(&f);
}

static void
frame_head_is_big_endian(void **state)
{
    unsigned char head[NGX_AGENT_FRAME_HEAD];

    (void)state;
    ngx_agent_frame_head(head, 0x01020304);
    assert_memory_equal(head, "\0\1\2\3\4", 5);
}

static void
sse_holds_one_event_whatever_is_in_it(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(1000);

    (void)state;
    assert_int_equal(ngx_agent_sse_add(&out, AG_STR("a\nevent: evil"),
                                       AG_STR("1\rid: 2"),
                                       AG_STR("{\n\"x\":\r1}"), &err),
                     0);
    assert_string_equal(ag_buf_cstr(&out), "event: a\nid: 1\ndata: {\n"
                                           "data: \"x\":\ndata: 1}\n\n");
    ag_buf_clear(&out);
    assert_int_equal(
        ngx_agent_sse_add(&out, AG_STR("ping"), AG_STR(""), AG_STR(""), &err),
        0);
    assert_string_equal(ag_buf_cstr(&out), "event: ping\ndata: \n\n");
}

static void
every_kind_has_a_status_and_a_type(void **state)
{
    (void)state;
    for (int k = AG_ERR_INVALID; k <= AG_ERR_INTERNAL; k++) {
        const struct ngx_agent_status *st =
            ngx_agent_status_of_kind((enum ag_err_kind)k);
        assert_int_equal(st->kind, k);
        assert_true(st->http >= 400 && st->http < 600);
    }
    for (int code = 1; code <= 16; code++)
        assert_int_equal(ngx_agent_status_of_grpc(code)->grpc, code);
    assert_int_equal(ngx_agent_status_of_grpc(99)->http, 500);
    assert_int_equal(ngx_agent_status_of_grpc(14)->http, 503);
    assert_string_equal(ngx_agent_status_of_http(413)->type,
                        "request_too_large");
    assert_string_equal(ngx_agent_status_of_http(418)->type,
                        "invalid_request_error");
    assert_string_equal(ngx_agent_status_of_http(599)->type, "api_error");
}

static void
envelope_escapes_what_it_carries(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(1000);

    (void)state;
    ngx_agent_envelope_add(&out, "api_error", AG_STR("a \"b\"\n"),
                           AG_STR("req_1"));
    assert_string_equal(ag_buf_cstr(&out),
                        "{\"type\":\"error\",\"error\":{\"type\":\"api_error\","
                        "\"message\":\"a \\\"b\\\"\\n\"},\"request_id\":"
                        "\"req_1\"}");
}

static void
grpc_messages_go_both_ways(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf enc = AG_BUF_INIT(1000);
    AG_AUTO(ag_buf_release) struct ag_buf dec = AG_BUF_INIT(1000);

    (void)state;
    ngx_agent_grpc_message_encode(&enc, AG_STR("100 %\n\xc3\xa9"));
    assert_string_equal(ag_buf_cstr(&enc), "100 %25%0A%C3%A9");
    ngx_agent_grpc_message_decode(&dec, ag_buf_str(&enc));
    assert_string_equal(ag_buf_cstr(&dec), "100 %\n\xc3\xa9");
    ag_buf_clear(&dec);
    ngx_agent_grpc_message_decode(&dec, AG_STR("%zz %4"));
    assert_string_equal(ag_buf_cstr(&dec), "%zz %4");
}

static void
a_walk_stops_at_ends_of_messages(void **state)
{
    static const unsigned char two[] = "\0\0\0\0\3abc\0\0\0\0\0"
                                       "\0\0\0\1\2";
    (void)state;
    /* Three messages: of 3, of 0 and of 258 bytes, the last not whole. */
    for (size_t step = 1; step < sizeof(two); step++) {
        struct ngx_agent_walk w = {0, 0};
        size_t ends[4] = {0}, n_ends = 0, at = 0;

        while (at < sizeof(two) - 1) {
            size_t n =
                sizeof(two) - 1 - at < step ? sizeof(two) - 1 - at : step;
            bool is_end;
            ssize_t took = ngx_agent_walk_next(&w, two + at, n, &is_end);
            assert_true(took > 0);
            at += (size_t)took;
            if (is_end)
                ends[n_ends++] = at;
        }
        assert_int_equal(n_ends, 2);
        assert_int_equal(ends[0], 8);
        assert_int_equal(ends[1], 13);
        assert_int_equal(w.left, 258);
    }
    struct ngx_agent_walk w = {0, 0};
    bool is_end;
    assert_int_equal(
        ngx_agent_walk_next(&w, (const unsigned char *)"\1", 1, &is_end), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_cut_the_same_wherever_the_bytes_split),
        cmocka_unit_test(frames_refuse_compression_and_length),
        cmocka_unit_test(a_walk_stops_at_ends_of_messages),
        cmocka_unit_test(frame_head_is_big_endian),
        cmocka_unit_test(sse_holds_one_event_whatever_is_in_it),
        cmocka_unit_test(every_kind_has_a_status_and_a_type),
        cmocka_unit_test(envelope_escapes_what_it_carries),
        cmocka_unit_test(grpc_messages_go_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
