/* Unit tests of sandbox_svc/sandbox_output.c, sandbox_limits.c and
 * sandbox_env.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox_svc/sandbox_env.h"
#include "sandbox_svc/sandbox_limits.h"
#include "sandbox_svc/sandbox_output.h"

/* What is told of `total` bytes 'a' to 'z' in turn, added `step` at a time
 * with room for `limit`. */
static void
check(int total, int step, size_t limit)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(4096);
    AG_AUTO(ag_buf_release) struct ag_buf want = AG_BUF_INIT(4096);
    struct sandbox_output o;
    char data[1024];

    for (int i = 0; i < total; i++)
        data[i] = (char)('a' + i % 26);
    sandbox_output_init(&o, limit, -1, "x");
    for (int i = 0; i < total; i += step)
        sandbox_output_add(
            &o,
            ag_str_n(data + i, (size_t)(i + step > total ? total - i : step)));
    sandbox_output_text(&o, &text);
    assert_int_equal(o.total, total);
    assert_int_equal(sandbox_output_is_truncated(&o), total > (int)limit);
    if (total <= (int)limit) {
        ag_buf_add(&want, ag_str_n(data, (size_t)total));
    } else {
        ag_buf_add(&want, ag_str_n(data, limit / 2));
        ag_buf_addf(&want, "\n[… %d bytes left out …]\n", total - (int)limit);
        ag_buf_add(&want, ag_str_n(data + total - limit / 2, limit / 2));
    }
    assert_string_equal(ag_buf_cstr(&text), ag_buf_cstr(&want));
    sandbox_output_release(&o);
}

static void
output_keeps_head_and_tail_however_it_comes(void **state)
{
    (void)state;
    for (int total = 0; total < 60; total++)
        for (int step = 1; step < 50; step++)
            check(total, step, 20);
    check(1000, 999, 20);
    check(1000, 1000, 2);
}

static void
output_is_whole_in_its_file_once_it_is_long(void **state)
{
    char dir[] = "/tmp/bbXXXXXX", data[100], back[200];
    struct sandbox_output o;

    (void)state;
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 100; i++)
        data[i] = (char)i;
    sandbox_output_init(&o, 40, fd, "c.out");
    sandbox_output_add(&o, ag_str_n(data, 40));
    assert_false(o.has_file);
    assert_int_equal(faccessat(fd, "c.out", F_OK, 0), -1);
    sandbox_output_add(&o, ag_str_n(data + 40, 1));
    sandbox_output_add(&o, ag_str_n(data + 41, 59));
    assert_true(o.has_file);
    int file = openat(fd, "c.out", O_RDONLY);
    assert_int_equal(read(file, back, sizeof(back)), 100);
    assert_memory_equal(back, data, 100);
    close(file);
    sandbox_output_release(&o);
    assert_int_equal(unlinkat(fd, "c.out", 0), 0);
    close(fd);
    rmdir(dir);
}

static void
counters_are_read_by_name(void **state)
{
    ag_str_t v1 = AG_STR("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    ag_str_t v2 = AG_STR("low 0\nmax 17\noom 1\noom_kill 2\n");

    (void)state;
    assert_int_equal(sandbox_limits_parse(v1, "oom_kill"), 3);
    assert_int_equal(sandbox_limits_parse(v2, "oom_kill"), 2);
    assert_int_equal(sandbox_limits_parse(v2, "max"), 17);
    assert_int_equal(sandbox_limits_parse(v2, "pids"), 0);
    assert_int_equal(sandbox_limits_parse(AG_STR("max x\n"), "max"), 0);
    assert_int_equal(sandbox_limits_parse(AG_STR(""), "max"), 0);
    assert_int_equal(sandbox_limits_count(-1, "max"), 0);
}

static bool
has(const struct ag_buf *env, const char *variable)
{
    for (const char *p = env->p; p < env->p + env->n; p += strlen(p) + 1)
        if (strcmp(p, variable) == 0)
            return true;
    return false;
}

static void
environment_has_defaults_that_can_be_replaced(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf env = AG_BUF_INIT(8192);
    struct ag_err err;

    (void)state;
    assert_int_equal(sandbox_env_add(&env, "LANG", "de_DE", &err), 0);
    assert_int_equal(sandbox_env_add(&env, "LANGUAGE", "", &err), 0);
    int n = sandbox_env_base(&env), count = 0;
    for (const char *p = env.p; p < env.p + env.n; p += strlen(p) + 1)
        count++;
    assert_int_equal(count, n + 2);
    assert_true(has(&env, "LANG=de_DE"));
    assert_false(has(&env, "LANG=C.UTF-8"));
    assert_true(has(&env, "LANGUAGE="));
    assert_true(has(&env, "HOME=/root"));
    assert_true(has(&env, "NODE_EXTRA_CA_CERTS=" SANDBOX_CA_FILE));
}

static void
environment_refuses_what_is_no_variable(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf env = AG_BUF_INIT(8192);
    struct ag_err err;

    (void)state;
    assert_int_equal(sandbox_env_add(&env, "A=B", "x", &err), -1);
    assert_int_equal(sandbox_env_add(&env, "", "x", &err), -1);
    assert_int_equal(sandbox_env_add(&env, "1A", "x", &err), -1);
    assert_int_equal(sandbox_env_add(&env, "SSL_CERT_FILE", "x", &err), -1);
    assert_int_equal(sandbox_env_add(&env, "A1", "x", &err), 0);
    assert_int_equal(sandbox_env_add(&env, "A1", "y", &err), -1);
    assert_int_equal(env.n, sizeof("A1=x"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_keeps_head_and_tail_however_it_comes),
        cmocka_unit_test(output_is_whole_in_its_file_once_it_is_long),
        cmocka_unit_test(counters_are_read_by_name),
        cmocka_unit_test(environment_has_defaults_that_can_be_replaced),
        cmocka_unit_test(environment_refuses_what_is_no_variable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
