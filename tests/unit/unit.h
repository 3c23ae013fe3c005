/*
 * What every unit test includes: cmocka with what it needs before it, and
 * comparisons of views.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/str.h"

#define assert_str(view, text)                                         \
    do {                                                               \
        ag_str_t assert_str_v = (view);                                \
        assert_int_equal(assert_str_v.n, strlen(text));                \
        if (assert_str_v.n > 0)                                        \
            assert_memory_equal(assert_str_v.p, text, assert_str_v.n); \
    } while (0)

#endif
