/* Unit tests of lib/rpc_wire.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/rpc_wire.h"
#include "sandbox.pb-c.h"

#define EXECUTE &agent__sandbox__v1__execute_request__descriptor

static ag_str_t
bytes_of(const char *p, size_t n)
{
    return ag_str_n(p, n);
}
#define WIRE(literal) bytes_of(literal, sizeof(literal) - 1)

static void
a_nul_in_a_string_is_found_and_named(void **state)
{
    (void)state;
    assert_string_equal(ag_rpc_wire_nul(EXECUTE, WIRE("\x0a\x01s\x22\x06"
                                                      "a\0b; c")),
                        "command");
    assert_string_equal(ag_rpc_wire_nul(EXECUTE, WIRE("\x0a\x01\0")),
                        "session_id");
    /* Behind numbers and fields that are not known. */
    assert_string_equal(
        ag_rpc_wire_nul(EXECUTE, WIRE("\x28\x96\x01\xfa\x7f\x01\0\x22\x02x\0")),
        "command");
}

static void
what_holds_none_passes(void **state)
{
    (void)state;
    assert_null(ag_rpc_wire_nul(EXECUTE, WIRE("")));
    assert_null(ag_rpc_wire_nul(EXECUTE, WIRE("\x22\x04true")));
    /* Standard input is bytes, and may hold any. */
    assert_null(ag_rpc_wire_nul(EXECUTE, WIRE("\x32\x03"
                                              "a\0b")));
}

static void
a_nul_in_a_message_within_is_found(void **state)
{
    /* ExecuteResponse { result { output_file } } and ListSandboxesResponse. */
    (void)state;
    assert_string_equal(
        ag_rpc_wire_nul(
            &agent__sandbox__v1__list_sandboxes_response__descriptor,
            WIRE("\x0a\x03\x0a\x01x\x0a\x04\x12\x02y\0")),
        "session_id");
}

static void
malformed_bytes_end_the_walk(void **state)
{
    (void)state;
    assert_null(ag_rpc_wire_nul(EXECUTE, WIRE("\x22\x7f\0")));
    assert_null(ag_rpc_wire_nul(EXECUTE, WIRE("\x22")));
    assert_null(ag_rpc_wire_nul(EXECUTE, WIRE("\xff\xff\xff\xff\xff\xff\xff"
                                              "\xff\xff\xff\xff\xff")));
    assert_null(ag_rpc_wire_nul(EXECUTE, WIRE("\x23\x22\x01\0")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nul_in_a_string_is_found_and_named),
        cmocka_unit_test(what_holds_none_passes),
        cmocka_unit_test(a_nul_in_a_message_within_is_found),
        cmocka_unit_test(malformed_bytes_end_the_walk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
