/* Unit tests of sandbox_svc/launcher_msg.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/id.h"
#include "sandbox_svc/launcher_msg.h"

static struct ag_err err;

static struct launcher_request
create(void)
{
    struct launcher_request r = {
        .magic = LAUNCHER_MAGIC,
        .type = LAUNCHER_CREATE,
        .tag = 7,
        .image = "base",
        .limits = {512 << 20, 1000, 256, 1 << 30, 1 << 18, 1024},
    };

    ag_id_new("sbx", r.sandbox_id);
    return r;
}

static int
parse(const struct launcher_request *r)
{
    struct launcher_request out;

    err.kind = AG_ERR_NONE;
    return launcher_request_parse(r, sizeof(*r), &out, &err);
}

/* Refused, with a message that names `field`. */
static void
refused(const struct launcher_request *r, const char *field)
{
    assert_int_equal(parse(r), -1);
    assert_int_equal(err.kind, AG_ERR_INVALID);
    assert_non_null(strstr(err.msg, field));
}

static void
request_of_each_type_is_accepted(void **state)
{
    struct launcher_request r = create(), out;

    (void)state;
    assert_int_equal(launcher_request_parse(&r, sizeof(r), &out, &err), 0);
    assert_memory_equal(&r, &out, sizeof(r));
    struct launcher_request plain = {.magic = LAUNCHER_MAGIC};
    plain.type = LAUNCHER_LIST;
    assert_int_equal(parse(&plain), 0);
    plain.type = LAUNCHER_WIPE;
    ag_id_new("sesn", plain.session_id);
    assert_int_equal(parse(&plain), 0);
    plain.type = LAUNCHER_ATTACH;
    ag_id_new("sbx", plain.sandbox_id);
    assert_int_equal(parse(&plain), 0);
    memset(plain.session_id, 0, sizeof(plain.session_id));
    plain.type = LAUNCHER_DESTROY;
    assert_int_equal(parse(&plain), 0);
}

static void
request_of_wrong_size_is_refused(void **state)
{
    struct launcher_request r = create(), out;
    char longer[sizeof(r) + 1] = {0};

    (void)state;
    memcpy(longer, &r, sizeof(r));
    for (size_t n = 0; n < sizeof(r); n++)
        assert_int_equal(launcher_request_parse(&r, n, &out, &err), -1);
    assert_int_equal(launcher_request_parse(longer, sizeof(longer), &out, &err),
                     -1);
}

static void
request_with_wrong_magic_or_type_is_refused(void **state)
{
    struct launcher_request r = create();

    (void)state;
    r.magic++;
    refused(&r, "magic");
    r = create();
    r.type = 99;
    refused(&r, "type");
    r.type = LAUNCHER_REPLY;
    refused(&r, "type");
}

static void
image_cannot_be_a_path(void **state)
{
    static const char *const names[] = {"",     "..", ".",   "a/b",
                                        "/etc", "A",  "a b", "a\n"};
    struct launcher_request r;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        r = create();
        memset(r.image, 0, sizeof(r.image));
        snprintf(r.image, sizeof(r.image), "%s", names[i]);
        refused(&r, "image");
    }
    r = create();
    memset(r.image, 'a', sizeof(r.image));
    refused(&r, "image");
}

static void
ids_are_checked_with_their_padding(void **state)
{
    struct launcher_request r = create();

    (void)state;
    r.sandbox_id[sizeof(r.sandbox_id) - 1] = 'x';
    refused(&r, "sandbox_id");
    r = create();
    memset(r.sandbox_id, 0, sizeof(r.sandbox_id));
    ag_id_new("sesn", r.sandbox_id);
    refused(&r, "sandbox_id");
    r = create();
    r.sandbox_id[4] = '/';
    refused(&r, "sandbox_id");
}

static void
fields_of_other_types_must_be_zero(void **state)
{
    struct launcher_request r = create();

    (void)state;
    ag_id_new("sesn", r.session_id);
    refused(&r, "session_id");
    r = create();
    r.type = LAUNCHER_DESTROY;
    refused(&r, "image");
    memset(r.image, 0, sizeof(r.image));
    refused(&r, "limits");
}

static void
limits_are_bounded(void **state)
{
    struct launcher_request r = create();

    (void)state;
    r.limits.memory_bytes = -1;
    refused(&r, "memory_bytes");
    r = create();
    r.limits.pids = 1 << 20;
    refused(&r, "pids");
    r = create();
    r.limits.cpu_milli = 0;
    refused(&r, "cpu_milli");
    r = create();
    r.limits.disk_bytes = INT64_MAX;
    refused(&r, "disk_bytes");
    r = create();
    r.limits.open_files = 1;
    refused(&r, "open_files");
}

static void
reply_is_checked_too(void **state)
{
    struct launcher_reply r = {.magic = LAUNCHER_MAGIC, .type = LAUNCHER_REPLY},
                          out;

    (void)state;
    assert_int_equal(launcher_reply_parse(&r, sizeof(r), &out, &err), 0);
    r.error = 1000;
    assert_int_equal(launcher_reply_parse(&r, sizeof(r), &out, &err), -1);
    r.error = 0;
    memset(r.text, 'x', sizeof(r.text));
    assert_int_equal(launcher_reply_parse(&r, sizeof(r), &out, &err), -1);
    assert_int_equal(err.kind, AG_ERR_CORRUPT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_of_each_type_is_accepted),
        cmocka_unit_test(request_of_wrong_size_is_refused),
        cmocka_unit_test(request_with_wrong_magic_or_type_is_refused),
        cmocka_unit_test(image_cannot_be_a_path),
        cmocka_unit_test(ids_are_checked_with_their_padding),
        cmocka_unit_test(fields_of_other_types_must_be_zero),
        cmocka_unit_test(limits_are_bounded),
        cmocka_unit_test(reply_is_checked_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
