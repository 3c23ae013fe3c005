/* Unit tests of ngx_agent_module/ngx_agent_codec*.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brain.pb-c.h"
#include "ngx_agent_module/ngx_agent_codec.h"
#include "vault.pb-c.h"

struct setup {
    struct ag_arena *arena;
    struct ag_buf out;
    struct ag_err err;
};

static int
set_up(void **state)
{
    struct setup *s = ag_xcalloc(1, sizeof(*s));

    s->arena = ag_arena_new();
    ag_buf_init(&s->out, SIZE_MAX / 4);
    *state = s;
    return 0;
}

static int
tear_down(void **state)
{
    struct setup *s = *state;

    ag_arena_free(s->arena);
    ag_buf_release(&s->out);
    ag_freep(&s);
    return 0;
}

static int
encode(struct setup *s, const ProtobufCMessageDescriptor *desc,
       const char *query, const char *body)
{
    struct ngx_agent_request rq = {
        .desc = desc,
        .query = ag_str(query),
        .body = ag_str(body),
        .has_body = body != NULL,
        .depth_max = 64,
    };

    ag_buf_clear(&s->out);
    return ngx_agent_codec_encode(&rq, s->arena, &s->out, &s->err);
}

#define AGENT &agent__brain__v1__create_agent_request__descriptor
#define SEND &agent__brain__v1__send_events_request__descriptor
#define LIST &agent__brain__v1__list_events_request__descriptor

static void
refuses(struct setup *s, const char *body, const char *why)
{
    assert_int_equal(encode(s, AGENT, NULL, body), -1);
    assert_int_equal(s->err.kind, AG_ERR_INVALID);
    if (strstr(s->err.msg, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", s->err.msg, why);
}

static void
codec_writes_what_protobuf_c_reads(void **state)
{
    struct setup *s = *state;

    assert_int_equal(
        encode(s, AGENT, NULL,
               "{\"name\":\"n\",\"description\":\"\",\"model\":{\"id\": \"m\"},"
               "\"max_steps\":-3,\"metadata\":null}"),
        0);
    Agent__Brain__V1__CreateAgentRequest *m =
        agent__brain__v1__create_agent_request__unpack(NULL, s->out.n,
                                                       (uint8_t *)s->out.p);
    assert_non_null(m);
    assert_string_equal(m->name, "n");
    assert_int_equal(m->_description_case, 2);
    assert_string_equal(m->description, "");
    assert_int_equal(m->model_json.len, strlen("{\"id\":\"m\"}"));
    assert_memory_equal(m->model_json.data, "{\"id\":\"m\"}", 10);
    assert_int_equal(m->max_steps, -3);
    assert_int_equal(m->metadata_json.len, 0);
    assert_int_equal(m->_system_case, 0);
    agent__brain__v1__create_agent_request__free_unpacked(m, NULL);
}

static void
codec_splices_each_item_of_an_opaque_list(void **state)
{
    struct setup *s = *state;

    assert_int_equal(
        encode(s, SEND, NULL, "{\"events\":[{\"type\":\"a\"},7,null]}"), 0);
    Agent__Brain__V1__SendEventsRequest *m =
        agent__brain__v1__send_events_request__unpack(NULL, s->out.n,
                                                      (uint8_t *)s->out.p);
    assert_non_null(m);
    assert_int_equal(m->n_events_json, 3);
    assert_memory_equal(m->events_json[0].data, "{\"type\":\"a\"}", 12);
    assert_memory_equal(m->events_json[1].data, "7", 1);
    assert_memory_equal(m->events_json[2].data, "null", 4);
    agent__brain__v1__send_events_request__free_unpacked(m, NULL);
}

static void
codec_names_the_field_that_is_wrong(void **state)
{
    struct setup *s = *state;

    refuses(s, "{\"nmae\":1}", "nmae: unknown field");
    refuses(s, "{\"name\":{}}", "name: must be a string, not an object");
    refuses(s, "{\"max_steps\":2147483648}", "max_steps: is out of range");
    refuses(s, "{\"max_steps\":1.0}", "max_steps: must be an integer, not a f");
    refuses(s, "{\"metadata\":{\"a\":[\"\\u0000\"]}}",
            "metadata.a[0]: must not");
    refuses(s, "{\"a\":1,\"a\":2}", "duplicate");
    refuses(s, "[]", "body: must be an object, not an array");
    refuses(s, "{", "JSON, line 1");
    refuses(s, "{\"name\":\"\xc3\x28\"}", "body: must be UTF-8");
    refuses(s, "{\"name\\u0000x\":1}", "NUL");
}

static void
codec_stops_at_the_depth_it_is_given(void **state)
{
    struct setup *s = *state;
    struct ngx_agent_request rq = {
        .desc = AGENT,
        .body = AG_STR("{\"metadata\":{\"a\":[1]}}"),
        .has_body = true,
        .depth_max = 3,
    };

    assert_int_equal(ngx_agent_codec_encode(&rq, s->arena, &s->out, &s->err),
                     0);
    rq.depth_max = 2;
    assert_int_equal(ngx_agent_codec_encode(&rq, s->arena, &s->out, &s->err),
                     -1);
    rq.body = AG_STR("{\"metadata\":{\"[[[[\\\"[[\":\"{{{{\"}}");
    assert_int_equal(ngx_agent_codec_encode(&rq, s->arena, &s->out, &s->err),
                     0);
}

static void
codec_reads_queries(void **state)
{
    struct setup *s = *state;

    assert_int_equal(encode(s, LIST,
                            "limit=5&types[]=a%20b&types%5B%5D=c&types=d"
                            "&order=&beta=true&&page=x+y",
                            NULL),
                     0);
    Agent__Brain__V1__ListEventsRequest *m =
        agent__brain__v1__list_events_request__unpack(NULL, s->out.n,
                                                      (uint8_t *)s->out.p);
    assert_int_equal(m->limit, 5);
    assert_int_equal(m->n_types, 3);
    assert_string_equal(m->types[0], "a b");
    assert_string_equal(m->types[2], "d");
    assert_string_equal(m->page, "x y");
    agent__brain__v1__list_events_request__free_unpacked(m, NULL);

    assert_int_equal(encode(s, LIST, "limit=1&limit=1", NULL), -1);
    assert_int_equal(encode(s, LIST, "limit[]=1", NULL), -1);
    assert_int_equal(encode(s, LIST, "limit=0x1", NULL), -1);
    assert_int_equal(encode(s, LIST, "nope=1", NULL), -1);
    assert_int_equal(encode(s, LIST, "page=%", NULL), -1);
    assert_int_equal(encode(s, LIST, "page=%00", NULL), -1);
    assert_int_equal(encode(s, LIST, "page=%ff", NULL), -1);
    assert_int_equal(encode(s, AGENT, "name=x", "{}"), -1);
}

static void
codec_lets_the_path_win_over_body_and_query(void **state)
{
    struct setup *s = *state;
    struct ngx_agent_param params[] = {
        {AG_STR("session_id"), AG_STR("p"), false},
        {AG_STR("last_event_id"), AG_STR("h"), true},
    };
    struct ngx_agent_request rq = {
        .desc = &agent__brain__v1__stream_events_request__descriptor,
        .params = params,
        .n_params = 2,
        .query = AG_STR("last_event_id=q"),
        .depth_max = 64,
    };

    assert_int_equal(ngx_agent_codec_encode(&rq, s->arena, &s->out, &s->err),
                     0);
    Agent__Brain__V1__StreamEventsRequest *m =
        agent__brain__v1__stream_events_request__unpack(NULL, s->out.n,
                                                        (uint8_t *)s->out.p);
    assert_string_equal(m->session_id, "p");
    assert_string_equal(m->last_event_id, "h");
    agent__brain__v1__stream_events_request__free_unpacked(m, NULL);

    rq.query = AG_STR("session_id=q");
    assert_int_equal(ngx_agent_codec_encode(&rq, s->arena, &s->out, &s->err),
                     -1);
    rq.query = AG_STR("");
    rq.body = AG_STR("{\"session_id\":\"b\"}");
    rq.has_body = true;
    assert_int_equal(ngx_agent_codec_encode(&rq, s->arena, &s->out, &s->err),
                     -1);
    assert_non_null(strstr(s->err.msg, "session_id: is given by the path"));
}

static void
codec_answers_with_every_field(void **state)
{
    struct setup *s = *state;
    Agent__Brain__V1__Session m = AGENT__BRAIN__V1__SESSION__INIT;
    char *ids[] = {(char *)"a\"b", (char *)"\xff"};
    uint8_t packed[512];

    m.id = (char *)"sesn_1";
    m.agent_json.data = (uint8_t *)"{\"id\":1}";
    m.agent_json.len = 8;
    m._title_case = AGENT__BRAIN__V1__SESSION___TITLE_TITLE;
    m.title = (char *)"";
    m.n_vault_ids = 2;
    m.vault_ids = ids;
    size_t n = agent__brain__v1__session__pack(&m, packed);
    assert_int_equal(
        ngx_agent_codec_decode(&agent__brain__v1__session__descriptor,
                               ag_str_n(packed, n), &s->out, &s->err),
        0);
    assert_string_equal(
        ag_buf_cstr(&s->out),
        "{\"id\":\"sesn_1\",\"type\":\"\",\"agent\":{\"id\":1},"
        "\"environment_id\":\"\",\"title\":\"\",\"metadata\":null,"
        "\"status\":\"\",\"vault_ids\":[\"a\\\"b\",\"\xef\xbf\xbd\"],"
        "\"usage\":null,\"stats\":null,\"resources\":null,"
        "\"outcome_evaluations\":null,\"budget\":null,\"created_at\":\"\","
        "\"updated_at\":\"\",\"archived_at\":null,\"environment_ids\":[]}");
}

static void
codec_answers_with_lists_numbers_and_enums(void **state)
{
    struct setup *s = *state;
    Agent__Vault__V1__AuditEntry entry = AGENT__VAULT__V1__AUDIT_ENTRY__INIT;
    Agent__Vault__V1__AuditEntry *entries[] = {&entry, &entry};
    Agent__Vault__V1__ListAuditResponse m =
        AGENT__VAULT__V1__LIST_AUDIT_RESPONSE__INIT;
    Agent__Vault__V1__AuthorizeResponse verdict =
        AGENT__VAULT__V1__AUTHORIZE_RESPONSE__INIT;
    uint8_t packed[512];
    size_t n;

    entry.seq = INT64_C(9007199254740993);
    m.n_data = 2;
    m.data = entries;
    n = agent__vault__v1__list_audit_response__pack(&m, packed);
    assert_int_equal(ngx_agent_codec_decode(
                         &agent__vault__v1__list_audit_response__descriptor,
                         ag_str_n(packed, n), &s->out, &s->err),
                     0);
    assert_non_null(strstr(ag_buf_cstr(&s->out), "\"seq\":9007199254740993,"));
    assert_non_null(strstr(ag_buf_cstr(&s->out), "},{\"id\":"));

    ag_buf_clear(&s->out);
    verdict.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__DENY;
    n = agent__vault__v1__authorize_response__pack(&verdict, packed);
    assert_int_equal(ngx_agent_codec_decode(
                         &agent__vault__v1__authorize_response__descriptor,
                         ag_str_n(packed, n), &s->out, &s->err),
                     0);
    assert_non_null(strstr(ag_buf_cstr(&s->out), "\"verdict\":\"DENY\""));
    assert_non_null(strstr(ag_buf_cstr(&s->out), "\"clear_text\":false"));
}

static void
codec_refuses_an_answer_that_does_not_parse(void **state)
{
    struct setup *s = *state;

    assert_int_equal(
        ngx_agent_codec_decode(&agent__brain__v1__agent__descriptor,
                               AG_STR("\x0a\x7fshort"), &s->out, &s->err),
        -1);
    assert_int_equal(s->err.kind, AG_ERR_CORRUPT);
}

static void
base64_goes_both_ways(void **state)
{
    struct setup *s = *state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"\xff\xef\xfe", "/+/+"},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        ag_buf_clear(&s->out);
        ngx_agent_base64_add(&s->out, ag_str(pairs[i][0]));
        assert_string_equal(ag_buf_cstr(&s->out), pairs[i][1]);
        ag_buf_clear(&s->out);
        assert_int_equal(
            ngx_agent_base64_append(&s->out, ag_str(pairs[i][1]), &s->err), 0);
        assert_string_equal(ag_buf_cstr(&s->out), pairs[i][0]);
    }
    assert_int_equal(ngx_agent_base64_append(&s->out, AG_STR("Z"), &s->err),
                     -1);
    assert_int_equal(ngx_agent_base64_append(&s->out, AG_STR("Zg=a"), &s->err),
                     -1);
    assert_int_equal(ngx_agent_base64_append(&s->out, AG_STR("_-_-"), &s->err),
                     -1);
}

static void
codec_knows_every_type_that_a_route_uses(void **state)
{
    const struct ngx_agent_route *routes;
    size_t n;

    (void)state;
    routes = ngx_agent_route_table(&n);
    for (size_t i = 0; i < n; i++) {
        assert_true(ngx_agent_codec_knows(routes[i].input));
        assert_true(ngx_agent_codec_knows(routes[i].output));
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(codec_writes_what_protobuf_c_reads),
        T(codec_splices_each_item_of_an_opaque_list),
        T(codec_names_the_field_that_is_wrong),
        T(codec_stops_at_the_depth_it_is_given),
        T(codec_reads_queries),
        T(codec_lets_the_path_win_over_body_and_query),
        T(codec_answers_with_every_field),
        T(codec_answers_with_lists_numbers_and_enums),
        T(codec_refuses_an_answer_that_does_not_parse),
        T(base64_goes_both_ways),
        T(codec_knows_every_type_that_a_route_uses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
