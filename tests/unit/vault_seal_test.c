/* Envelopes, MACs, stubs, and the keeper's messages and operations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/x509.h>

#include "lib/clock.h"
#include "vault.pb-c.h"
#include "vault_svc/keeper_op.h"
#include "vault_svc/vault_store.h"

static const unsigned char key[32] = "0123456789abcdef0123456789abcdef";

static void
a_value_opens_only_where_it_was_sealed(void **state)
{
    struct vault_keyring ring, other;
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf out = AG_BUF_INIT(1024);
    ag_secret_t plain = AG_SECRET_INIT;
    const struct vault_record_id id = {AG_STR("t"), AG_STR("vcrd_1"), 3,
                                       AG_STR("[{\"host\":\"a\"}]")};
    (void)state;

    vault_keyring_init(&ring, key);
    assert_int_equal(
        vault_seal(ring.seal, &id, AG_STR("the value"), &out, &err), 0);
    assert_null(memmem(out.p, out.n, "the value", 9));
    assert_int_equal(vault_open(ring.seal, &id, ag_buf_str(&out), &plain, &err),
                     0);
    assert_true(ag_str_is(ag_secret_view(&plain), "the value"));
    ag_secret_release(&plain);

    const struct vault_record_id moved[] = {
        {AG_STR("u"), id.credential_id, 3, id.binding},
        {id.tenant, AG_STR("vcrd_2"), 3, id.binding},
        {id.tenant, id.credential_id, 4, id.binding},
        {id.tenant, id.credential_id, 3, AG_STR("[{\"host\":\"b\"}]")},
        {AG_STR("tv"), AG_STR("crd_1"), 3, id.binding}};
    for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
        assert_int_equal(
            vault_open(ring.seal, &moved[i], ag_buf_str(&out), &plain, &err),
            -1);
        assert_int_equal(err.kind, AG_ERR_CORRUPT);
        assert_null(plain.p);
    }
    vault_keyring_init(
        &other, (const unsigned char *)"1123456789abcdef0123456789abcdef");
    assert_int_equal(
        vault_open(other.seal, &id, ag_buf_str(&out), &plain, &err), -1);
    for (size_t i = 0; i < out.n; i++) {
        out.p[i] ^= 1;
        assert_int_equal(
            vault_open(ring.seal, &id, ag_buf_str(&out), &plain, &err), -1);
        out.p[i] ^= 1;
    }
    for (size_t n = 0; n < out.n; n++)
        assert_int_equal(
            vault_open(ring.seal, &id, ag_str_n(out.p, n), &plain, &err), -1);
    ag_buf_release(&out);
}

static void
two_seals_of_one_value_differ(void **state)
{
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf a = AG_BUF_INIT(256), b = AG_BUF_INIT(256);
    (void)state;
    assert_int_equal(vault_aead_seal(key, AG_STR("x"), AG_STR("v"), &a, &err),
                     0);
    assert_int_equal(vault_aead_seal(key, AG_STR("x"), AG_STR("v"), &b, &err),
                     0);
    assert_memory_not_equal(a.p, b.p, a.n);
    ag_buf_release(&a);
    ag_buf_release(&b);
}

static void
fields_of_a_mac_cannot_be_shifted(void **state)
{
    struct ag_buf a = AG_BUF_INIT(64), b = AG_BUF_INIT(64);
    (void)state;
    vault_field(&a, AG_STR("ab"));
    vault_field(&a, AG_STR("c"));
    vault_field(&b, AG_STR("a"));
    vault_field(&b, AG_STR("bc"));
    assert_int_equal(a.n, b.n);
    assert_memory_not_equal(a.p, b.p, a.n);
    ag_buf_release(&a);
    ag_buf_release(&b);
}

static void
every_field_of_a_grant_is_in_its_mac(void **state)
{
    struct vault_tenant t = {.name = "default"};
    unsigned char first[32], next[32];
    struct vault_grant_row row = {.session_id = AG_STR("s"),
                                  .subject = AG_STR("k"),
                                  .vault_ids = AG_STR("[]"),
                                  .environment_ids = AG_STR("[\"e\"]"),
                                  .request_sha256 = AG_STR("h"),
                                  .created_us = 1};
    (void)state;
    vault_keyring_init(&t.ring, key);
    vault_grant_mac(&t, &row, first);
    struct vault_grant_row rows[] = {row, row, row, row, row, row, row, row};
    rows[0].session_id = AG_STR("x");
    rows[1].subject = AG_STR("x");
    rows[2].vault_ids = AG_STR("x");
    rows[3].environment_ids = AG_STR("x");
    rows[4].request_sha256 = AG_STR("x");
    rows[5].created_us = 2;
    rows[6].ended_us = 2;
    rows[7].frozen_us = 2;
    for (size_t i = 0; i < 8; i++) {
        vault_grant_mac(&t, &rows[i], next);
        assert_memory_not_equal(first, next, 32);
    }
    snprintf(t.name, sizeof(t.name), "other");
    vault_grant_mac(&t, &row, next);
    assert_memory_not_equal(first, next, 32);
}

static void
a_stub_is_of_one_session_credential_and_kind(void **state)
{
    struct vault_tenant t = {.name = "default"};
    struct ag_buf a = AG_BUF_INIT(128), b = AG_BUF_INIT(128);
    (void)state;
    vault_keyring_init(&t.ring, key);
    vault_stub_text(&t, AG_STR("s"), AG_STR("c"), 1, AG_STR("n"),
                    AG_STR("ghp_"), &a);
    assert_int_equal(a.n, 4 + VAULT_STUB_BODY);
    assert_memory_equal(a.p, "ghp_bbxs", 8);
    assert_int_equal(strspn(a.p + 8, "abcdefghijklmnopqrstuvwxyz234567"), 32);
    vault_stub_text(&t, AG_STR("s"), AG_STR("c"), 1, AG_STR("n"),
                    AG_STR("ghp_"), &b);
    assert_string_equal(ag_buf_cstr(&a), ag_buf_cstr(&b));
    const char *const other[][3] = {
        {"x", "c", "n"}, {"s", "x", "n"}, {"s", "c", "x"}};
    for (int i = 0; i < 3; i++) {
        ag_buf_clear(&b);
        vault_stub_text(&t, ag_str(other[i][0]), ag_str(other[i][1]), 1,
                        ag_str(other[i][2]), AG_STR("ghp_"), &b);
        assert_string_not_equal(ag_buf_cstr(&a), ag_buf_cstr(&b));
    }
    ag_buf_clear(&b);
    vault_stub_text(&t, AG_STR("s"), AG_STR("c"), 2, AG_STR("n"),
                    AG_STR("ghp_"), &b);
    assert_string_not_equal(ag_buf_cstr(&a), ag_buf_cstr(&b));
    ag_buf_release(&a);
    ag_buf_release(&b);
}

/* ---- keeper ------------------------------------------------------------ */

struct fixture {
    char dir[64], file[96];
    struct keeper_keys keys;
};

static int
setup(void **state)
{
    static struct fixture f;
    struct ag_err err = AG_ERR_INIT;
    snprintf(f.dir, sizeof(f.dir), "/tmp/bbkXXXXXX");
    if (mkdtemp(f.dir) == NULL)
        return -1;
    snprintf(f.file, sizeof(f.file), "%s/master.key", f.dir);
    *state = &f;
    return keeper_keys_create(f.file, &err) < 0
           || keeper_keys_load(f.file, &f.keys, &err) < 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    char cmd[128];
    keeper_keys_release(&f->keys);
    snprintf(cmd, sizeof(cmd), "rm -r %s", f->dir);
    return system(cmd);
}

static enum keeper_status
ask(struct fixture *f, enum keeper_op op, ag_str_t a, ag_str_t b,
    struct ag_buf *got)
{
    struct ag_buf raw = AG_BUF_INIT(KEEPER_MSG_MAX);
    struct ag_buf out = AG_BUF_INIT(KEEPER_MSG_MAX);
    struct keeper_msg msg = {.op = (uint16_t)op, .a = a, .b = b}, reply;
    struct ag_err err = AG_ERR_INIT;
    assert_int_equal(keeper_msg_encode(&msg, &raw, &err), 0);
    assert_int_equal(keeper_op_run(&f->keys, ag_buf_str(&raw), &out, &err), 0);
    assert_int_equal(keeper_msg_decode(ag_buf_str(&out), &reply, &err), 0);
    assert_int_equal(reply.op, op);
    ag_buf_clear(got);
    ag_buf_add(got, reply.a);
    ag_buf_release(&raw);
    ag_buf_release(&out);
    return (enum keeper_status)reply.status;
}

static void
a_wrapped_key_unwraps_under_its_own_data_only(void **state)
{
    struct fixture *f = *state;
    struct ag_buf got = AG_BUF_INIT(512), wrapped = AG_BUF_INIT(512);
    ag_str_t data = ag_str_n(key, 32);
    assert_int_equal(ask(f, KEEPER_WRAP, AG_STR("t1"), data, &wrapped),
                     KEEPER_OK);
    assert_int_equal(wrapped.n, KEEPER_WRAPPED_BYTES);
    assert_int_equal(
        ask(f, KEEPER_UNWRAP, AG_STR("t1"), ag_buf_str(&wrapped), &got),
        KEEPER_OK);
    assert_memory_equal(got.p, key, 32);
    assert_int_equal(
        ask(f, KEEPER_UNWRAP, AG_STR("t2"), ag_buf_str(&wrapped), &got),
        KEEPER_CORRUPT);
    assert_int_equal(got.n, 0);
    assert_int_equal(ask(f, KEEPER_WRAP, AG_STR(""), data, &got),
                     KEEPER_INVALID);
    assert_int_equal(ask(f, KEEPER_WRAP, AG_STR("t"), AG_STR("short"), &got),
                     KEEPER_INVALID);
    assert_int_equal(ask(f, KEEPER_MAC, AG_STR("d"), AG_STR("m"), &got),
                     KEEPER_OK);
    assert_int_equal(got.n, 32);
    assert_int_equal(ask(f, KEEPER_MAC, AG_STR(""), AG_STR("m"), &got),
                     KEEPER_INVALID);
    ag_buf_release(&got);
    ag_buf_release(&wrapped);
}

static enum keeper_status
sign(struct fixture *f, int64_t issued, int64_t expires, char *tenant)
{
    Agent__Vault__V1__Assertion m = AGENT__VAULT__V1__ASSERTION__INIT;
    struct ag_buf got = AG_BUF_INIT(512);
    uint8_t raw[512];
    m.tenant = tenant;
    m.subject = "key_1";
    m.issued_us = issued;
    m.expires_us = expires;
    size_t n = agent__vault__v1__assertion__pack(&m, raw);
    enum keeper_status s =
        ask(f, KEEPER_SIGN_ASSERTION, ag_str_n(raw, n), AG_STR(""), &got);
    ag_buf_release(&got);
    return s;
}

static void
only_short_lived_assertions_of_now_are_signed(void **state)
{
    struct fixture *f = *state;
    int64_t now = ag_now_us(), minute = 60 * 1000000;
    struct ag_buf got = AG_BUF_INIT(512);
    assert_int_equal(sign(f, now, now + 5 * minute, "t"), KEEPER_OK);
    assert_int_equal(sign(f, now, now + 6 * minute, "t"), KEEPER_INVALID);
    assert_int_equal(sign(f, now + minute, now + 2 * minute, "t"),
                     KEEPER_INVALID);
    assert_int_equal(sign(f, now - 5 * minute, now, "t"), KEEPER_INVALID);
    assert_int_equal(sign(f, now, now, "t"), KEEPER_INVALID);
    assert_int_equal(sign(f, now, now + minute, ""), KEEPER_INVALID);
    assert_int_equal(
        ask(f, KEEPER_SIGN_ASSERTION, AG_STR("\xff garbage"), AG_STR(""), &got),
        KEEPER_INVALID);
    ag_buf_release(&got);
}

static void
only_p256_keys_become_an_intermediate(void **state)
{
    struct fixture *f = *state;
    struct ag_buf got = AG_BUF_INIT(4096);
    static const char *const groups[] = {"P-256", "P-384"};
    for (int i = 0; i < 2; i++) {
        EVP_PKEY *k = EVP_EC_gen(groups[i]);
        unsigned char *der = NULL;
        int n = i2d_PUBKEY(k, &der);
        enum keeper_status s =
            ask(f, KEEPER_SIGN_CA, ag_str_n(der, (size_t)n), AG_STR(""), &got);
        assert_int_equal(s, i == 0 ? KEEPER_OK : KEEPER_INVALID);
        if (i == 0) {
            const unsigned char *p = (const unsigned char *)got.p;
            X509 *cert = d2i_X509(NULL, &p, (long)got.n);
            assert_int_equal(X509_verify(cert, f->keys.root_key), 1);
            assert_int_equal(X509_get_pathlen(cert), 0);
            X509_free(cert);
        }
        OPENSSL_free(der);
        EVP_PKEY_free(k);
    }
    assert_int_equal(ask(f, KEEPER_SIGN_CA, AG_STR("x"), AG_STR(""), &got),
                     KEEPER_INVALID);
    ag_buf_release(&got);
}

static void
malformed_messages_are_refused(void **state)
{
    struct fixture *f = *state;
    struct keeper_msg msg = {
        .op = KEEPER_MAC, .a = AG_STR("d"), .b = AG_STR("m")};
    struct ag_buf raw = AG_BUF_INIT(KEEPER_MSG_MAX);
    struct ag_buf out = AG_BUF_INIT(KEEPER_MSG_MAX);
    struct ag_err err = AG_ERR_INIT;
    assert_int_equal(keeper_msg_encode(&msg, &raw, &err), 0);
    for (size_t n = 0; n < raw.n; n++)
        assert_int_equal(
            keeper_op_run(&f->keys, ag_str_n(raw.p, n), &out, &err), -1);
    for (size_t i = 0; i < 16; i++) {
        char old = raw.p[i];
        raw.p[i] = (char)(old ^ 0x40);
        struct keeper_msg m;
        if (i != 6) /* a status in a request means nothing */
            assert_int_equal(keeper_msg_decode(ag_buf_str(&raw), &m, &err), -1);
        raw.p[i] = old;
    }
    ag_buf_release(&raw);
    ag_buf_release(&out);
}

static void
a_wrong_master_key_is_seen_at_start(void **state)
{
    struct fixture *f = *state;
    struct keeper_keys keys = {0};
    struct ag_err err = AG_ERR_INIT;
    FILE *file = fopen(f->file, "r+");
    assert_int_equal(keeper_keys_create(f->file, &err), -1);
    assert_int_equal(err.kind, AG_ERR_EXISTS);
    int c = fgetc(file);
    rewind(file);
    fputc(c ^ 1, file);
    fflush(file);
    assert_int_equal(keeper_keys_load(f->file, &keys, &err), -1);
    assert_int_equal(err.kind, AG_ERR_CORRUPT);
    keeper_keys_release(&keys);
    rewind(file);
    fputc(c, file);
    fclose(file);
    assert_int_equal(keeper_keys_load(f->file, &keys, &err), 0);
    keeper_keys_release(&keys);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_opens_only_where_it_was_sealed),
        cmocka_unit_test(two_seals_of_one_value_differ),
        cmocka_unit_test(fields_of_a_mac_cannot_be_shifted),
        cmocka_unit_test(every_field_of_a_grant_is_in_its_mac),
        cmocka_unit_test(a_stub_is_of_one_session_credential_and_kind),
        cmocka_unit_test(a_wrapped_key_unwraps_under_its_own_data_only),
        cmocka_unit_test(only_short_lived_assertions_of_now_are_signed),
        cmocka_unit_test(only_p256_keys_become_an_intermediate),
        cmocka_unit_test(malformed_messages_are_refused),
        cmocka_unit_test(a_wrong_master_key_is_seen_at_start),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
