/* lib/fingerprint.c: rolling, keys, spread. */
#include <stdio.h>
#include <stdlib.h>

#include "lib/fingerprint.h"
#include "lib/secret.h"
#include "tests/unit/unit.h"

static const unsigned char key[32] = "0123456789abcdef0123456789abcdef";

static void
rolling_gives_what_hashing_each_window_gives(void **state)
{
    struct ag_fingerprint f;
    unsigned char data[4096];
    uint64_t h = 0;
    size_t n = AG_FINGERPRINT_WINDOW;

    (void)state;
    ag_fingerprint_init(&f, key);
    ag_random(data, sizeof(data));
    memset(data + 100, 0, 100);
    memset(data + 300, 0xff, 100);
    for (size_t i = 0; i < sizeof(data); i++) {
        h = i < n ? ag_fingerprint_add(&f, h, data[i])
                  : ag_fingerprint_roll(&f, h, data[i - n], data[i]);
        if (i + 1 >= n)
            assert_true(h == ag_fingerprint_of(&f, data + i + 1 - n));
    }
}

/* Held fast: a table made by one process is read by another. */
static void
a_key_and_a_window_give_one_fingerprint(void **state)
{
    struct ag_fingerprint f, g;
    unsigned char other[32];

    (void)state;
    ag_fingerprint_init(&f, key);
    assert_true(ag_fingerprint_of(&f, "ghp_0123456789ab")
                == UINT64_C(0x936c3cceb4a582d3));
    memcpy(other, key, sizeof(other));
    other[31] ^= 1;
    ag_fingerprint_init(&g, other);
    assert_true(ag_fingerprint_of(&g, "ghp_0123456789ab")
                != ag_fingerprint_of(&f, "ghp_0123456789ab"));
}

static int
compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Neighbours that differ in little, or in order alone, are told apart. */
static void
windows_that_are_alike_do_not_meet(void **state)
{
    enum { N = 200000 };
    struct ag_fingerprint f;
    uint64_t *all = ag_xcalloc(N, sizeof(*all));
    char text[32];

    (void)state;
    ag_fingerprint_init(&f, key);
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof(text), "token-%010d", i);
        all[i] = ag_fingerprint_of(&f, text);
    }
    qsort(all, N, sizeof(*all), compare);
    for (int i = 1; i < N; i++)
        assert_true(all[i] != all[i - 1]);
    assert_true(ag_fingerprint_of(&f, "abababababababab")
                != ag_fingerprint_of(&f, "babababababababa"));
    /* Low bits spread, too: a search looks them up first. */
    static unsigned char seen[4096];
    size_t n = 0;
    for (int i = 0; i < N; i++)
        if (seen[all[i] & 4095]++ == 0)
            n++;
    assert_int_equal(n, 4096);
    free(all);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rolling_gives_what_hashing_each_window_gives),
        cmocka_unit_test(a_key_and_a_window_give_one_fingerprint),
        cmocka_unit_test(windows_that_are_alike_do_not_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
