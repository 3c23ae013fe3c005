/* Unit tests of lib/rpc_details.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "google/rpc/status.pb-c.h"
#include "lib/rpc_details.h"

static Google__Rpc__Status *
details_of(enum ag_err_kind kind, const char *msg)
{
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(65536);
    struct ag_err err = AG_ERR_INIT;
    Google__Rpc__Status *s;

    ag_err_set(&err, kind, "%s", msg);
    ag_rpc_details(3, &err, &out);
    s = google__rpc__status__unpack(NULL, out.n, (const uint8_t *)out.p);
    assert_non_null(s);
    assert_int_equal(s->code, 3);
    assert_string_equal(s->message, err.msg);
    return s;
}

static void
reason_is_the_kind(void **state)
{
    Google__Rpc__Status *s = details_of(AG_ERR_NOT_FOUND, "id: no such");
    Google__Rpc__ErrorInfo *info;

    (void)state;
    assert_int_equal(s->n_details, 1);
    assert_string_equal(s->details[0]->type_url,
                        "type.googleapis.com/google.rpc.ErrorInfo");
    info = google__rpc__error_info__unpack(NULL, s->details[0]->value.len,
                                           s->details[0]->value.data);
    assert_non_null(info);
    assert_string_equal(info->reason, "NOT_FOUND");
    assert_string_equal(info->domain, "brainbox");
    google__rpc__error_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(s, NULL);
}

static void
check_field(const char *msg, const char *field, const char *description)
{
    Google__Rpc__Status *s = details_of(AG_ERR_INVALID, msg);
    Google__Rpc__BadRequest *bad;

    assert_int_equal(s->n_details, 2);
    assert_string_equal(s->details[1]->type_url,
                        "type.googleapis.com/google.rpc.BadRequest");
    bad = google__rpc__bad_request__unpack(NULL, s->details[1]->value.len,
                                           s->details[1]->value.data);
    assert_non_null(bad);
    assert_int_equal(bad->n_field_violations, 1);
    assert_string_equal(bad->field_violations[0]->field, field);
    assert_string_equal(bad->field_violations[0]->description, description);
    google__rpc__bad_request__free_unpacked(bad, NULL);
    google__rpc__status__free_unpacked(s, NULL);
}

static void
field_that_is_named_is_a_violation(void **state)
{
    char full[240], field[101] = "";

    (void)state;
    check_field("name: is required", "name", "is required");
    check_field("x: ", "x", "");
    check_field("content[3].text: \"a: b\" is no string", "content[3].text",
                "\"a: b\" is no string");
    /* As long as a message can be. */
    memset(full, 'f', sizeof(full));
    memset(field, 'f', sizeof(field) - 1);
    memcpy(full + sizeof(field) - 1, ": ", 2);
    full[sizeof(full) - 1] = '\0';
    check_field(full, field, full + sizeof(field) + 1);
}

static void
message_that_names_no_field_has_no_violation(void **state)
{
    static const char *const messages[] = {
        "",         ": x",   "unknown tool \"x\": there are two",
        "no field", "name:", "name:x"};

    (void)state;
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        Google__Rpc__Status *s = details_of(AG_ERR_INVALID, messages[i]);

        assert_int_equal(s->n_details, 1);
        google__rpc__status__free_unpacked(s, NULL);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reason_is_the_kind),
        cmocka_unit_test(field_that_is_named_is_a_violation),
        cmocka_unit_test(message_that_names_no_field_has_no_violation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
