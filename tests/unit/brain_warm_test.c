/* brain_svc/brain_warm.c, with workloads that only count. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "brain_svc/brain_warm.h"

struct brain_workload {
    char session[64];
    int n_warmed;
};

static int n_new, n_freed;

struct brain_workload *
brain_workload_new(struct brain *brain, ag_str_t session)
{
    struct brain_workload *w = calloc(1, sizeof(*w));
    (void)brain;

    memcpy(w->session, session.p, session.n);
    n_new++;
    return w;
}

void
brain_workload_free(struct brain_workload *w)
{
    n_freed += w != NULL;
    free(w);
}

void
brain_workload_warm(struct brain_workload *w)
{
    w->n_warmed++;
}

static char url[] = "http://127.0.0.1:1/v1", none[] = "";
static struct brain brain;

static int
setup(void **state)
{
    (void)state;
    n_new = n_freed = 0;
    brain.conf.model_base_url = url;
    brain.conf.workload_cache = 2;
    brain.warm = brain_warm_new(&brain);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    brain_warm_free(brain.warm);
    assert_int_equal(n_new, n_freed);
    return 0;
}

static void
made(const char *session)
{
    brain_warm_expect(brain.warm, AG_STR("mine"), ag_str(session));
}

static void
taken_and_given_back(const char *session)
{
    brain_warm_give(brain.warm, AG_STR("mine"), ag_str(session),
                    brain_warm_take(&brain, ag_str(session)));
}

static void
a_workload_is_made_once_for_a_session(void **state)
{
    (void)state;
    made("a");
    for (int i = 0; i < 3; i++)
        taken_and_given_back("a");
    assert_int_equal(n_new, 1);
    taken_and_given_back("b");
    taken_and_given_back("b");
    assert_int_equal(n_new, 2);
}

static void
those_used_last_are_kept(void **state)
{
    (void)state;
    made("a");
    made("b");
    taken_and_given_back("a");
    made("c");
    assert_int_equal(n_freed, 1);
    taken_and_given_back("a");
    assert_int_equal(n_new, 3);
    taken_and_given_back("b");
    assert_int_equal(n_new, 4);
}

static void
one_that_is_kept_twice_is_there_once(void **state)
{
    (void)state;
    made("a");
    brain_warm_give(brain.warm, AG_STR("mine"), AG_STR("a"),
                    brain_workload_new(&brain, AG_STR("a")));
    assert_int_equal(n_freed, 1);
    made("b");
    assert_int_equal(n_freed, 1);
}

static void
an_ended_session_is_forgotten(void **state)
{
    (void)state;
    made("a");
    brain_warm_forget(brain.warm, AG_STR("a"));
    brain_warm_forget(brain.warm, AG_STR("a"));
    assert_int_equal(n_freed, 1);
    taken_and_given_back("a");
    assert_int_equal(n_new, 2);
}

static void
only_its_own_tenant_warms_one(void **state)
{
    struct brain_workload *w;
    (void)state;

    made("a");
    brain_warm_use(brain.warm, AG_STR("other"), AG_STR("a"));
    brain_warm_use(brain.warm, AG_STR("mine"), AG_STR("b"));
    brain_warm_use(brain.warm, AG_STR("mine"), AG_STR("a"));
    w = brain_warm_take(&brain, AG_STR("a"));
    assert_int_equal(w->n_warmed, 1);
    brain_warm_give(brain.warm, AG_STR("mine"), AG_STR("a"), w);
}

static void
nothing_is_opened_without_a_model_or_a_place(void **state)
{
    (void)state;
    brain.conf.workload_cache = 0;
    made("a");
    assert_int_equal(n_new, 0);
    taken_and_given_back("a");
    assert_int_equal(n_freed, 1);
    brain.conf.workload_cache = 2;
    brain.conf.model_base_url = none;
    made("b");
    assert_int_equal(n_new, 1);
}

int
main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_workload_is_made_once_for_a_session),
        T(those_used_last_are_kept),
        T(one_that_is_kept_twice_is_there_once),
        T(an_ended_session_is_forgotten),
        T(only_its_own_tenant_warms_one),
        T(nothing_is_opened_without_a_model_or_a_place),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
