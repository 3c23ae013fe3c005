/*
 * lib/db.c and lib/migrate.c against a private PostgreSQL cluster: order,
 * errors by kind, row security, a server that goes away and comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/db.h"
#include "lib/migrate.h"

static char dir[] = "/tmp/bbdbXXXXXX";
static char conninfo[128], owner[128];

struct fixture {
    struct ag_loop *loop;
    struct ag_db *db;
    struct ag_err err;
    char text[64];
    int n_left;
};

static void
pg(const char *verb)
{
    char cmd[128];

    (void)snprintf(cmd, sizeof(cmd), "tests/support/pg.sh %s %s >/dev/null",
                   verb, dir);
    assert_int_equal(system(cmd), 0);
}

static void
write_file(const char *name, const char *text)
{
    char path[96];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/sql/%s", dir, name);
    f = fopen(path, "we");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

static int
group_setup(void **state)
{
    char cmd[160];

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(cmd, sizeof(cmd), "chmod 755 %s && mkdir %s/sql", dir, dir);
    assert_int_equal(system(cmd), 0);
    pg("start");
    (void)snprintf(conninfo, sizeof(conninfo),
                   "host=%s/sock dbname=postgres user=brain_run", dir);
    (void)snprintf(owner, sizeof(owner),
                   "host=%s/sock dbname=postgres user=brain_owner", dir);
    return 0;
}

static int
group_teardown(void **state)
{
    char cmd[64];

    (void)state;
    pg("stop");
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct ag_err err;

    f->loop = ag_loop_new(&err);
    f->db = ag_db_new(f->loop, conninfo, 2, 3000, &err);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    ag_db_free(f->db);
    ag_loop_free(f->loop);
    free(f);
    return 0;
}

static void
took(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct fixture *f = arg;

    f->err.kind = AG_ERR_NONE;
    f->text[0] = '\0';
    if (err != NULL)
        f->err = *err;
    else if (ag_db_rows(res) > 0)
        (void)snprintf(f->text, sizeof(f->text), "%.*s",
                       AG_FMT(ag_db_get(res, 0, 0)));
    if (--f->n_left == 0)
        ag_loop_stop(f->loop);
}

static void
ask(struct fixture *f, const char *tenant, const char *sql,
    const struct ag_db_param *params, int n)
{
    f->n_left = 1;
    ag_db_query(f->db, ag_str(tenant), sql, params, n, took, f);
    ag_loop_run(f->loop);
}

static void
migrations_apply_once_and_only_forward(void **state)
{
    struct ag_err err = AG_ERR_INIT;
    char sql[64];
    int applied;

    (void)state;
    (void)snprintf(sql, sizeof(sql), "%s/sql", dir);
    write_file("0001_a.sql",
               "GRANT USAGE ON SCHEMA brain TO brain_run;"
               "CREATE TABLE brain.t (tenant text, v text UNIQUE);"
               "ALTER TABLE brain.t ENABLE ROW LEVEL SECURITY;"
               "ALTER TABLE brain.t FORCE ROW LEVEL SECURITY;"
               "CREATE POLICY p ON brain.t USING (tenant = "
               "current_setting('brainbox.tenant', true));"
               "GRANT ALL ON brain.t TO brain_run;");
    write_file("0002_b.sql", "ALTER TABLE brain.t ADD n int");
    write_file("readme.txt", "no migration");
    assert_int_equal(ag_migrate(owner, "brain", sql, &applied, &err), 0);
    assert_int_equal(applied, 2);
    assert_int_equal(ag_migrate(owner, "brain", sql, &applied, &err), 0);
    assert_int_equal(applied, 0);
    write_file("0002_b.sql", "ALTER TABLE brain.t ADD m int");
    assert_int_equal(ag_migrate(owner, "brain", sql, &applied, &err), -1);
    assert_int_equal(err.kind, AG_ERR_CORRUPT);
    write_file("0002_b.sql", "ALTER TABLE brain.t ADD n int");
    write_file("0003_c.sql", "ALTER TABLE brain.t ADD k int; SELECT 1/0");
    assert_int_equal(ag_migrate(owner, "brain", sql, &applied, &err), -1);
    write_file("0003_c.sql", "ALTER TABLE brain.t ADD k int");
    assert_int_equal(ag_migrate(owner, "brain", sql, &applied, &err), 0);
    assert_int_equal(applied, 1);
}

/* Without statistics a bitmap of all rows of a key would be sorted. */
static void
rows_are_read_in_the_order_of_an_index(void **state)
{
    struct fixture *f = *state;

    ask(f, "", "SHOW enable_bitmapscan", NULL, 0);
    assert_string_equal(f->text, "off");
}

static void
parameters_of_each_type_arrive(void **state)
{
    struct fixture *f = *state;

    ask(f, "",
        "SELECT concat_ws('|', $1::text, $2::bigint, $3::bool, $4::text IS NULL, "
        "encode($5::bytea, 'hex'))",
        (struct ag_db_param[]){ag_db_str(AG_STR("it's")), ag_db_int(-7),
                               ag_db_bool(true), ag_db_null(),
                               ag_db_bytes(ag_str_n("\0\xff", 2))},
        5);
    assert_string_equal(f->text, "it's|-7|t|t|00ff");
}

static void
row_security_shows_a_tenant_its_own_rows(void **state)
{
    struct fixture *f = *state;

    ask(f, "a", "INSERT INTO brain.t (tenant, v) VALUES ('a', 'of a')", NULL,
        0);
    assert_int_equal(f->err.kind, AG_ERR_NONE);
    ask(f, "b", "INSERT INTO brain.t (tenant, v) VALUES ('a', 'forged')", NULL,
        0);
    assert_int_equal(f->err.kind, AG_ERR_DENIED);
    ask(f, "b", "SELECT count(*) FROM brain.t", NULL, 0);
    assert_string_equal(f->text, "0");
    ask(f, "", "SELECT count(*) FROM brain.t", NULL, 0);
    assert_string_equal(f->text, "0");
    ask(f, "a", "SELECT count(*) FROM brain.t", NULL, 0);
    assert_string_equal(f->text, "1");
}

static void
errors_have_kinds_and_leave_the_connection_whole(void **state)
{
    struct fixture *f = *state;

    ask(f, "a", "INSERT INTO brain.t (tenant, v) VALUES ('a', 'of a')", NULL,
        0);
    assert_int_equal(f->err.kind, AG_ERR_EXISTS);
    for (int i = 0; i < 5; i++) {
        ask(f, "", "SELECT no_such_column", NULL, 0);
        assert_int_equal(f->err.kind, AG_ERR_INTERNAL);
    }
    ask(f, "", "SELECT 'x'::int", NULL, 0);
    assert_int_equal(f->err.kind, AG_ERR_INVALID);
    ask(f, "",
        "DO $$ BEGIN RAISE EXCEPTION 'told so' USING ERRCODE = 'BB006'; "
        "END $$",
        NULL, 0);
    assert_int_equal(f->err.kind, AG_ERR_PRECONDITION);
    assert_string_equal(f->err.msg, "told so");
    ask(f, "", "SELECT 'well'", NULL, 0);
    assert_string_equal(f->text, "well");
}

static void
many_queries_share_the_pipeline(void **state)
{
    struct fixture *f = *state;

    f->n_left = 3000;
    for (int i = 0; i < 3000; i++)
        ag_db_query(f->db, AG_STR("a"), "SELECT $1::int * 2",
                    (struct ag_db_param[]){ag_db_int(i)}, 1, took, f);
    ag_loop_run(f->loop);
    assert_int_equal(f->err.kind, AG_ERR_NONE);
}

static void
server_that_goes_away_fails_queries_and_comes_back(void **state)
{
    struct fixture *f = *state;

    ask(f, "", "SELECT 1", NULL, 0);
    pg("stop");
    ask(f, "", "SELECT 1", NULL, 0);
    assert_int_equal(f->err.kind, AG_ERR_UNAVAILABLE);
    pg("start");
    for (int i = 0; i < 20 && f->err.kind != AG_ERR_NONE; i++)
        ask(f, "", "SELECT 1", NULL, 0);
    assert_string_equal(f->text, "1");
}

static void
heard(void *arg, ag_str_t payload)
{
    struct fixture *f = arg;

    (void)snprintf(f->text, sizeof(f->text), "%.*s", AG_FMT(payload));
    ag_loop_stop(f->loop);
}

/* Also on a connection that is made anew, which says so. */
static void
notifications_are_heard_before_and_after_the_server_was_away(void **state)
{
    struct fixture *f = *state;

    for (int round = 0; round < 2; round++) {
        (void)snprintf(f->text, sizeof(f->text), "none");
        if (round == 0)
            ag_db_listen(f->db, "LISTEN news", heard, f);
        while (strcmp(f->text, "") != 0)
            ag_loop_run(f->loop);
        f->n_left = -1;
        ag_db_query(f->db, AG_STR(""), "SELECT pg_notify('news', 'x' || $1)",
                    (struct ag_db_param[]){ag_db_int(round)}, 1, took, f);
        while (strcmp(f->text, round == 0 ? "x0" : "x1") != 0)
            ag_loop_run(f->loop);
        if (round == 0) {
            pg("stop");
            pg("start");
        }
    }
}

static void
query_that_takes_too_long_fails(void **state)
{
    struct fixture *f = *state;
    struct ag_err err;

    ag_db_free(f->db);
    f->db = ag_db_new(f->loop, conninfo, 1, 300, &err);
    ask(f, "", "SELECT 1", NULL, 0);
    ask(f, "", "SELECT pg_sleep(5)", NULL, 0);
    assert_int_equal(f->err.kind, AG_ERR_UNAVAILABLE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        cmocka_unit_test(migrations_apply_once_and_only_forward),
        T(rows_are_read_in_the_order_of_an_index),
        T(parameters_of_each_type_arrive),
        T(row_security_shows_a_tenant_its_own_rows),
        T(errors_have_kinds_and_leave_the_connection_whole),
        T(many_queries_share_the_pipeline),
        T(server_that_goes_away_fails_queries_and_comes_back),
        T(notifications_are_heard_before_and_after_the_server_was_away),
        T(query_that_takes_too_long_fails),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
