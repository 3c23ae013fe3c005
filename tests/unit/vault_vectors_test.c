/* Wycheproof's vectors against the functions that seal and open envelopes. */
#include "lib/json.h"
#include "tests/unit/unit.h"
#include "vault_svc/vault_seal.h"

/* Of tests/vectors/README.md's group: nothing may be left out in silence. */
enum { VALID = 21, INVALID = 27 };

struct vector {
    struct ag_buf key, iv, aad, msg, ct, tag, envelope;
};

static void
get(const json_t *t, const char *name, struct ag_buf *out)
{
    struct ag_err err = AG_ERR_INIT;

    ag_buf_init(out, 4096);
    assert_int_equal(
        ag_buf_append_hex(out, ag_json_str(json_object_get(t, name)), &err), 0);
}

static void
read_vector(const json_t *t, struct vector *v)
{
    get(t, "key", &v->key);
    get(t, "iv", &v->iv);
    get(t, "aad", &v->aad);
    get(t, "msg", &v->msg);
    get(t, "ct", &v->ct);
    get(t, "tag", &v->tag);
    assert_int_equal(v->key.n, VAULT_KEY_BYTES);
    assert_int_equal(v->iv.n, VAULT_NONCE_LEN);
    assert_int_equal(v->tag.n, 16);
    ag_buf_init(&v->envelope, 8192);
    ag_buf_add(&v->envelope, ag_buf_str(&v->iv));
    ag_buf_add(&v->envelope, ag_buf_str(&v->ct));
    ag_buf_add(&v->envelope, ag_buf_str(&v->tag));
}

static void
check_valid(const struct vector *v)
{
    const unsigned char *key = (const unsigned char *)v->key.p;
    struct ag_buf sealed = AG_BUF_INIT(8192);
    ag_secret_t plain = AG_SECRET_INIT;
    struct ag_err err = AG_ERR_INIT;

    assert_int_equal(vault_aead_open(key, ag_buf_str(&v->aad),
                                     ag_buf_str(&v->envelope), &plain, &err),
                     0);
    assert_true(ag_str_eq(ag_secret_view(&plain), ag_buf_str(&v->msg)));
    ag_secret_release(&plain);
    assert_int_equal(vault_aead_seal_nonce(key, (const unsigned char *)v->iv.p,
                                           ag_buf_str(&v->aad),
                                           ag_buf_str(&v->msg), &sealed, &err),
                     0);
    assert_true(ag_str_eq(ag_buf_str(&sealed), ag_buf_str(&v->envelope)));
    ag_buf_release(&sealed);
}

static void
check_invalid(const struct vector *v)
{
    ag_secret_t plain = AG_SECRET_INIT;
    struct ag_err err = AG_ERR_INIT;

    assert_int_equal(vault_aead_open((const unsigned char *)v->key.p,
                                     ag_buf_str(&v->aad),
                                     ag_buf_str(&v->envelope), &plain, &err),
                     -1);
    assert_int_equal(err.kind, AG_ERR_CORRUPT);
    assert_null(plain.p);
}

static void
release(struct vector *v)
{
    struct ag_buf *all[] = {&v->key, &v->iv,  &v->aad,     &v->msg,
                            &v->ct,  &v->tag, &v->envelope};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        ag_buf_release(all[i]);
}

static void
envelopes_are_as_wycheproof_has_them(void **state)
{
    json_error_t why;
    json_t *file = json_load_file("tests/vectors/aes_gcm_256_test.json",
                                  JSON_REJECT_DUPLICATES, &why);
    int valid = 0, invalid = 0;
    size_t i, k;
    json_t *g, *t;

    (void)state;
    assert_non_null(file);
    json_array_foreach (json_object_get(file, "testGroups"), i, g)
        json_array_foreach (json_object_get(g, "tests"), k, t) {
            bool is_valid =
                ag_str_is(ag_json_str(json_object_get(t, "result")), "valid");
            struct vector v;
            read_vector(t, &v);
            if (is_valid)
                check_valid(&v);
            else
                check_invalid(&v);
            valid += is_valid;
            invalid += !is_valid;
            release(&v);
        }
    json_decref(file);
    assert_int_equal(valid, VALID);
    assert_int_equal(invalid, INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelopes_are_as_wycheproof_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
