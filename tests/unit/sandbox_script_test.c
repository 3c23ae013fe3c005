/* Unit tests of sandbox_svc/sandbox_script.c: what a shell makes of a script.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "sandbox_svc/init_proto.h"
#include "sandbox_svc/sandbox_script.h"

#define ENV(text) ag_str_n(text, sizeof(text) - 1)

/* Standard output of a shell that runs the script, and its exit code. */
static int
run(const char *command, ag_str_t env, char *out, size_t max)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf b = AG_BUF_INIT(SANDBOX_SCRIPT_MAX(strlen(command) + env.n));
    char path[] = "/tmp/script_testXXXXXX", line[128];
    int fd = mkstemp(path);

    sandbox_script_add(&b, ag_str(command), env);
    assert_true(fd >= 0 && write(fd, b.p, b.n) == (ssize_t)b.n);
    close(fd);
    snprintf(line, sizeof(line), "env -i sh -c '. /dev/fd/%d' %d<%s 2>&1",
             INIT_SCRIPT_FD, INIT_SCRIPT_FD, path);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, max - 1, f);
    out[n] = 0;
    int status = pclose(f);
    unlink(path);
    return WEXITSTATUS(status);
}

static void
says(const char *command, ag_str_t env, int code, const char *want)
{
    char out[4096];

    assert_int_equal(run(command, env, out, sizeof(out)), code);
    assert_string_equal(out, want);
}

static void
command_is_one_word_whatever_it_holds(void **state)
{
    (void)state;
    says("echo \"it's\"; echo '$x' \\'", ENV(""), 0, "it's\n$x '\n");
    says("'", ENV(""), 2,
         "sh: 1: eval: Syntax error: Unterminated quoted "
         "string\n");
    says("true; }; echo out", ENV(""), 2,
         "sh: 1: eval: Syntax error: \"}\" unexpected\n");
    says("cat <<E\nit's\nE\nexit 3", ENV(""), 3, "it's\n");
    says("# nothing", ENV(""), 0, "");
    says("'''", ENV(""), 2,
         "sh: 1: eval: Syntax error: Unterminated quoted "
         "string\n");
}

static void
status_is_that_of_the_last_command(void **state)
{
    (void)state;
    says("false", ENV(""), 1, "");
    says("(exit 7)", ENV(""), 7, "");
    says("set -e; false; echo no", ENV(""), 1, "");
}

static void
variables_reach_the_command_as_they_are(void **state)
{
    (void)state;
    says("printf %s \"$A|$B|$E\"; env | grep -c '^[ABE]='",
         ENV("A=it's $HOME `x` \\\0B=x=y\0E=\0"), 0,
         "it's $HOME `x` \\|x=y|3\n");
}

static void
script_is_not_open_in_the_command(void **state)
{
    (void)state;
    says("[ -e /proc/self/fd/9 ]; echo $?; sh -c '[ -e /proc/self/fd/9 ]'",
         ENV(""), 1, "1\n");
    says("echo $#", ENV(""), 0, "0\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_is_one_word_whatever_it_holds),
        cmocka_unit_test(status_is_that_of_the_last_command),
        cmocka_unit_test(variables_reach_the_command_as_they_are),
        cmocka_unit_test(script_is_not_open_in_the_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
