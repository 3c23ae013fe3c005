/* One request reads for all that wait; what is kept is found while it is good.
 */
#include "lib/clock.h"
#include "tests/unit/unit.h"
#include "vault_svc/vault_snapshot.h"

struct waiter {
    struct vault_snapshot_wait wait;
    int calls;
};

static void
on_read(struct vault_snapshot_wait *w)
{
    ((struct waiter *)(void *)w)->calls++;
}

static void
one_reads_and_all_that_wait_hear_of_it_once(void **state)
{
    struct vault v = {.snapshots = vault_snapshots_new()};
    struct waiter w[4] = {{{on_read, NULL}, 0},
                          {{on_read, NULL}, 0},
                          {{on_read, NULL}, 0},
                          {{on_read, NULL}, 0}};
    (void)state;

    assert_false(vault_snapshot_join(&v, AG_STR("at a"), &w[0].wait));
    assert_true(vault_snapshot_join(&v, AG_STR("at a"), &w[1].wait));
    assert_true(vault_snapshot_join(&v, AG_STR("at a"), &w[2].wait));
    assert_false(vault_snapshot_join(&v, AG_STR("at b"), &w[3].wait));
    vault_snapshot_settle(&v, AG_STR("at b"));
    vault_snapshot_settle(&v, AG_STR("at c"));
    assert_int_equal(w[1].calls + w[2].calls, 0);
    vault_snapshot_settle(&v, AG_STR("at a"));
    vault_snapshot_settle(&v, AG_STR("at a"));
    assert_int_equal(w[0].calls + w[3].calls, 0);
    assert_int_equal(w[1].calls, 1);
    assert_int_equal(w[2].calls, 1);
    /* The next one reads anew. */
    assert_false(vault_snapshot_join(&v, AG_STR("at a"), &w[0].wait));
    vault_snapshots_free(v.snapshots);
}

static void
who_waits_for_nobody_reads_only_when_no_other_does(void **state)
{
    struct vault v = {.snapshots = vault_snapshots_new()};
    struct waiter w = {{on_read, NULL}, 0};
    (void)state;

    assert_true(vault_snapshot_lead(&v, AG_STR("brain a")));
    assert_false(vault_snapshot_lead(&v, AG_STR("brain a")));
    assert_true(vault_snapshot_join(&v, AG_STR("brain a"), &w.wait));
    vault_snapshot_settle(&v, AG_STR("brain a"));
    assert_int_equal(w.calls, 1);
    assert_true(vault_snapshot_lead(&v, AG_STR("brain a")));
    vault_snapshots_free(v.snapshots);
}

static void
a_change_makes_what_is_kept_void(void **state)
{
    struct vault_conf conf = {.snapshot_ms = 60000};
    struct vault v = {.snapshots = vault_snapshots_new(), .conf = &conf};
    struct vault_snapshot *s = vault_snapshot_begin(&v), *found;
    (void)state;

    vault_snapshot_keep(&v, s, AG_STR("at a"));
    vault_snapshot_unref(s);
    found = vault_snapshot_find(&v, AG_STR("at a"));
    assert_ptr_equal(found, s);
    vault_snapshot_unref(found);
    assert_null(vault_snapshot_find(&v, AG_STR("at b")));
    v.changes++;
    assert_null(vault_snapshot_find(&v, AG_STR("at a")));
    /* One that was begun before the change is not kept. */
    s = vault_snapshot_begin(&v);
    v.changes++;
    vault_snapshot_keep(&v, s, AG_STR("at a"));
    vault_snapshot_unref(s);
    assert_null(vault_snapshot_find(&v, AG_STR("at a")));
    /* A new one takes the place of the old. */
    for (int i = 0; i < 3; i++) {
        s = vault_snapshot_begin(&v);
        vault_snapshot_keep(&v, s, AG_STR("at a"));
        vault_snapshot_unref(s);
        found = vault_snapshot_find(&v, AG_STR("at a"));
        assert_ptr_equal(found, s);
        vault_snapshot_unref(found);
    }
    vault_snapshots_free(v.snapshots);
}

static struct vault_snapshot *
keep_one(struct vault *v, const char *mark)
{
    struct vault_snapshot *s = vault_snapshot_begin(v);

    s->session.mark = ag_str(mark);
    vault_snapshot_keep(v, s, AG_STR("at a"));
    vault_snapshot_unref(s);
    return s;
}

static void
the_same_mark_makes_it_good_again(void **state)
{
    struct vault_conf conf = {.snapshot_ms = 60000};
    struct vault v = {.snapshots = vault_snapshots_new(), .conf = &conf};
    struct vault_snapshot *s = keep_one(&v, "1"), *found;
    (void)state;

    v.changes = 7;
    assert_null(vault_snapshot_find(&v, AG_STR("at a")));
    found = vault_snapshot_kept(&v, AG_STR("at a"));
    assert_ptr_equal(found, s);
    /* The query was sent before the last change. */
    vault_snapshot_marked(&v, s, AG_STR("1"), ag_mono_us(), 6);
    assert_null(vault_snapshot_find(&v, AG_STR("at a")));
    vault_snapshot_marked(&v, s, AG_STR("1"), ag_mono_us(), 7);
    vault_snapshot_unref(found);
    found = vault_snapshot_find(&v, AG_STR("at a"));
    assert_ptr_equal(found, s);
    /* Another mark, or none: it is gone, and does not come back. */
    vault_snapshot_marked(&v, s, (ag_str_t){NULL, 0}, ag_mono_us(), 7);
    vault_snapshot_marked(&v, s, AG_STR("1"), ag_mono_us(), 7);
    vault_snapshot_unref(found);
    assert_null(vault_snapshot_find(&v, AG_STR("at a")));
    assert_null(vault_snapshot_kept(&v, AG_STR("at a")));
    vault_snapshots_free(v.snapshots);
}

static void
only_what_is_used_is_asked_for(void **state)
{
    struct vault_conf conf = {.snapshot_ms = 60000};
    struct vault v = {.snapshots = vault_snapshots_new(), .conf = &conf};
    struct vault_snapshot *s, *got[2];
    (void)state;

    keep_one(&v, ""); /* no mark */
    assert_int_equal(vault_snapshot_aged(&v, 0, got, 2), 0);
    s = keep_one(&v, "1");
    assert_int_equal(vault_snapshot_aged(&v, 1000000, got, 2), 0);
    assert_int_equal(vault_snapshot_aged(&v, 0, got, 2), 1);
    assert_ptr_equal(got[0], s);
    vault_snapshot_unref(got[0]);
    vault_snapshot_marked(&v, s, AG_STR("1"), ag_mono_us(), 0);
    assert_int_equal(vault_snapshot_aged(&v, 0, got, 2), 0);
    vault_snapshot_unref(vault_snapshot_find(&v, AG_STR("at a")));
    assert_int_equal(vault_snapshot_aged(&v, 0, got, 2), 1);
    vault_snapshot_unref(got[0]);
    vault_snapshots_free(v.snapshots);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_reads_and_all_that_wait_hear_of_it_once),
        cmocka_unit_test(who_waits_for_nobody_reads_only_when_no_other_does),
        cmocka_unit_test(a_change_makes_what_is_kept_void),
        cmocka_unit_test(the_same_mark_makes_it_good_again),
        cmocka_unit_test(only_what_is_used_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
