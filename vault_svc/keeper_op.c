/*
 * What the keeper does for vault_svc. Each operation checks what it is asked:
 * a caller that was taken over can have assertions signed and keys unwrapped
 * while it lasts, but can take no key away.
 */
#include "vault_svc/keeper_op.h"

#include "lib/assertion.h"
#include "lib/clock.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_head.h"

enum {
    AAD_MAX = 512,
    ASSERTION_MAX = 1024,
    HEAD_MAX = 256,
    SKEW_US = 5 * 1000000,
    VALID_MAX_US = 5 * 60 * 1000000,
};

static int
op_check(const struct keeper_keys *keys, const struct keeper_msg *in,
         struct ag_buf *a, struct ag_buf *b, struct ag_err *err)
{
    unsigned char *der = NULL;

    if (in->a.n != 0 || in->b.n != 0)
        return ag_err_set(err, AG_ERR_INVALID, "CHECK takes nothing");
    ag_buf_add(a, ag_str_n(keys->assertion_pub, 32));
    int n = i2d_X509(keys->root_cert, &der);
    if (n <= 0)
        return ag_err_set(err, AG_ERR_INTERNAL, "encode the root");
    int rc = ag_buf_append(b, ag_str_n(der, (size_t)n), err);
    OPENSSL_free(der);
    return rc;
}

static int
op_wrap(const struct keeper_keys *keys, const struct keeper_msg *in,
        struct ag_buf *a, struct ag_err *err)
{
    if (in->a.n == 0 || in->a.n > AAD_MAX || in->b.n != VAULT_KEY_BYTES)
        return ag_err_set(err, AG_ERR_INVALID, "WRAP takes aad and a key");
    return vault_aead_seal(keys->wrap, in->a, in->b, a, err);
}

static int
op_unwrap(const struct keeper_keys *keys, const struct keeper_msg *in,
          struct ag_buf *a, struct ag_err *err)
{
    AG_AUTO(ag_secret_release) ag_secret_t key = AG_SECRET_INIT;

    if (in->a.n == 0 || in->a.n > AAD_MAX || in->b.n != KEEPER_WRAPPED_BYTES)
        return ag_err_set(err, AG_ERR_INVALID,
                          "UNWRAP takes aad and a wrapped key");
    if (vault_aead_open(keys->wrap, in->a, in->b, &key, err) < 0)
        return -1;
    return ag_buf_append(a, ag_secret_view(&key), err);
}

static int
op_mac(const struct keeper_keys *keys, const struct keeper_msg *in,
       struct ag_buf *a, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf msg = AG_BUF_INIT(KEEPER_MSG_MAX * 2);
    unsigned char mac[VAULT_MAC_BYTES];

    if (in->a.n == 0 || in->a.n > 64)
        return ag_err_set(err, AG_ERR_INVALID, "MAC needs a domain");
    vault_field(&msg, in->a);
    vault_field(&msg, in->b);
    vault_hmac(keys->mac, ag_buf_str(&msg), mac);
    int rc = ag_buf_append(a, ag_str_n(mac, sizeof(mac)), err);
    ag_wipe(mac, sizeof(mac));
    return rc;
}

/* Only what is an assertion, made now and short-lived, is signed. */
static int
check_assertion(ag_str_t raw, struct ag_err *err)
{
    int64_t now = ag_now_us();

    if (raw.n == 0 || raw.n > ASSERTION_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "an assertion's length");
    Agent__Vault__V1__Assertion *msg = agent__vault__v1__assertion__unpack(
        NULL, raw.n, (const uint8_t *)raw.p);
    if (msg == NULL)
        return ag_err_set(err, AG_ERR_INVALID, "no assertion");
    bool ok =
        msg->tenant[0] != '\0' && msg->subject[0] != '\0'
        && msg->issued_us <= now + SKEW_US
        && msg->issued_us >= now - 10 * SKEW_US
        && msg->expires_us > msg->issued_us
        && msg->expires_us - msg->issued_us <= VALID_MAX_US
        && (msg->request_sha256.len == 0 || msg->request_sha256.len == 32);
    agent__vault__v1__assertion__free_unpacked(msg, NULL);
    if (!ok)
        return ag_err_set(err, AG_ERR_INVALID, "an assertion breaks a rule");
    return 0;
}

/* `context` with its NUL, then what is signed: no two kinds can be mixed up. */
static int
sign(const struct keeper_keys *keys, ag_str_t context, ag_str_t text,
     struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf msg = AG_BUF_INIT(KEEPER_MSG_MAX * 2);
    unsigned char sig[KEEPER_SIGNATURE_BYTES];
    size_t n = sizeof(sig);

    ag_buf_add(&msg, context);
    ag_buf_add(&msg, text);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok =
        ctx != NULL
        && EVP_DigestSignInit(ctx, NULL, NULL, NULL, keys->assertion_key) == 1
        && EVP_DigestSign(ctx, sig, &n, (const unsigned char *)msg.p, msg.n)
               == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok || n != sizeof(sig))
        return ag_err_set(err, AG_ERR_INTERNAL, "cannot sign");
    return ag_buf_append(out, ag_str_n(sig, n), err);
}

static int
op_sign_assertion(const struct keeper_keys *keys, const struct keeper_msg *in,
                  struct ag_buf *a, struct ag_err *err)
{
    if (in->b.n != 0)
        return ag_err_set(err, AG_ERR_INVALID, "SIGN takes one string");
    if (check_assertion(in->a, err) < 0)
        return -1;
    return sign(keys,
                ag_str_n(AG_ASSERTION_CONTEXT, sizeof(AG_ASSERTION_CONTEXT)),
                in->a, a, err);
}

/* "TENANT SEQ MAC TIME_US" of this moment: an old head is not signed anew. */
static int
op_sign_head(const struct keeper_keys *keys, const struct keeper_msg *in,
             struct ag_buf *a, struct ag_err *err)
{
    ag_str_t rest = in->a, words[4];
    int64_t seq, at, now = ag_now_us();
    int n = 0;

    while (n < 4 && ag_str_cut(&rest, ' ', &words[n]))
        n++;
    if (in->b.n != 0 || in->a.n > HEAD_MAX || n != 4 || rest.n != 0
        || words[0].n == 0 || words[2].n != 2 * VAULT_MAC_BYTES
        || ag_str_i64(words[1], &seq) < 0 || seq < 1
        || ag_str_i64(words[3], &at) < 0 || at > now + SKEW_US
        || at < now - 10 * SKEW_US)
        return ag_err_set(err, AG_ERR_INVALID, "no head of this moment");
    return sign(keys, ag_str_n(VAULT_HEAD_CONTEXT, sizeof(VAULT_HEAD_CONTEXT)),
                in->a, a, err);
}

static int
dispatch(const struct keeper_keys *keys, const struct keeper_msg *in,
         struct ag_buf *a, struct ag_buf *b, struct ag_err *err)
{
    switch ((enum keeper_op)in->op) {
    case KEEPER_CHECK:
        return op_check(keys, in, a, b, err);
    case KEEPER_WRAP:
        return op_wrap(keys, in, a, err);
    case KEEPER_UNWRAP:
        return op_unwrap(keys, in, a, err);
    case KEEPER_MAC:
        return op_mac(keys, in, a, err);
    case KEEPER_SIGN_ASSERTION:
        return op_sign_assertion(keys, in, a, err);
    case KEEPER_SIGN_CA:
        return keeper_keys_issue(keys, in->a, a, err);
    case KEEPER_SIGN_HEAD:
        return op_sign_head(keys, in, a, err);
    }
    return ag_err_set(err, AG_ERR_INVALID, "unknown operation");
}

static enum keeper_status
status_of(const struct ag_err *err)
{
    if (err->kind == AG_ERR_INVALID)
        return KEEPER_INVALID;
    return err->kind == AG_ERR_CORRUPT ? KEEPER_CORRUPT : KEEPER_FAILED;
}

int
keeper_op_run(const struct keeper_keys *keys, ag_str_t raw, struct ag_buf *out,
              struct ag_err *err)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf a = AG_BUF_INIT(KEEPER_MSG_MAX);
    AG_AUTO(ag_buf_wipe) struct ag_buf b = AG_BUF_INIT(KEEPER_MSG_MAX);
    struct keeper_msg in, reply = {0};
    struct ag_err why = AG_ERR_INIT;

    if (keeper_msg_decode(raw, &in, err) < 0)
        return -1;
    reply.op = in.op;
    if (dispatch(keys, &in, &a, &b, &why) < 0) {
        reply.status = status_of(&why);
        ag_buf_clear(&a);
        ag_buf_clear(&b);
    }
    reply.a = ag_buf_str(&a);
    reply.b = ag_buf_str(&b);
    return keeper_msg_encode(&reply, out, err);
}
