/* The file of signed heads: its form, reading and checking it. */
#include "vault_svc/vault_head.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "vault_svc/vault_file.h"

void
vault_head_text(const struct vault_head *h, struct ag_buf *out)
{
    ag_buf_addf(out, "%s %" PRId64 " ", h->tenant, h->seq);
    ag_buf_add_hex(out, ag_str_n(h->mac, sizeof(h->mac)));
    ag_buf_addf(out, " %" PRId64, h->signed_us);
}

bool
vault_head_is_signed(const struct vault_head *h, const unsigned char pub[32])
{
    AG_AUTO(ag_buf_release) struct ag_buf msg = AG_BUF_INIT(1024);
    EVP_PKEY *key =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, 32);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    ag_buf_add(&msg, ag_str_n(VAULT_HEAD_CONTEXT, sizeof(VAULT_HEAD_CONTEXT)));
    vault_head_text(h, &msg);
    bool ok = key != NULL && ctx != NULL
              && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1
              && EVP_DigestVerify(ctx, h->signature, sizeof(h->signature),
                                  (const unsigned char *)msg.p, msg.n)
                     == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
read_hex(ag_str_t in, unsigned char *out, size_t n)
{
    if (in.n != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int hi = hex_digit(in.p[2 * i]), lo = hex_digit(in.p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        out[i] = (unsigned char)(hi << 4 | lo);
    }
    return true;
}

static bool
parse_line(ag_str_t line, struct vault_head *h)
{
    ag_str_t words[6], extra;

    for (int i = 0; i < 6; i++)
        if (!ag_str_word(&line, &words[i]))
            return false;
    if (ag_str_word(&line, &extra) || !ag_str_is(words[0], "head")
        || words[1].n == 0 || words[1].n >= sizeof(h->tenant)
        || ag_str_i64(words[2], &h->seq) < 0 || h->seq < 1
        || !read_hex(words[3], h->mac, sizeof(h->mac))
        || ag_str_i64(words[4], &h->signed_us) < 0
        || !read_hex(words[5], h->signature, sizeof(h->signature)))
        return false;
    memcpy(h->tenant, words[1].p, words[1].n);
    h->tenant[words[1].n] = '\0';
    return true;
}

int
vault_heads_parse(ag_str_t text, struct vault_heads *out, struct ag_err *err)
{
    ag_str_t line;
    int number = 0;

    *out = (struct vault_heads){0};
    /* A cut file is one whose last line has no end. */
    if (text.n > 0 && text.p[text.n - 1] != '\n')
        return ag_err_set(err, AG_ERR_INVALID, "the last line is cut");
    while (ag_str_cut(&text, '\n', &line)) {
        struct vault_head h = {0};
        number++;
        if (line.n == 0)
            continue;
        if (!parse_line(line, &h))
            return ag_err_set(err, AG_ERR_INVALID,
                              "line %d: not \"head TENANT SEQ MAC TIME "
                              "SIGNATURE\"",
                              number);
        if (vault_heads_find(out, ag_str(h.tenant)) != NULL
            || out->n == VAULT_HEADS_MAX)
            return ag_err_set(err, AG_ERR_INVALID,
                              "line %d: a second head of the tenant, or too "
                              "many",
                              number);
        out->v = ag_xrealloc(out->v, (out->n + 1) * sizeof(*out->v));
        out->v[out->n++] = h;
    }
    return 0;
}

int
vault_heads_load(const char *path, struct vault_heads *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf text = AG_BUF_INIT(VAULT_HEAD_FILE_MAX);

    *out = (struct vault_heads){0};
    if (access(path, F_OK) < 0)
        return 0;
    if (vault_file_read(path, &text, err) < 0)
        return -1;
    if (vault_heads_parse(ag_buf_str(&text), out, err) < 0)
        return ag_err_wrap(err, "%s", path);
    return 0;
}

void
vault_heads_write(const struct vault_heads *heads, struct ag_buf *out)
{
    for (size_t i = 0; i < heads->n; i++) {
        const struct vault_head *h = &heads->v[i];
        ag_buf_add(out, AG_STR("head "));
        vault_head_text(h, out);
        ag_buf_addc(out, ' ');
        ag_buf_add_hex(out, ag_str_n(h->signature, sizeof(h->signature)));
        ag_buf_addc(out, '\n');
    }
}

void
vault_heads_release(struct vault_heads *heads)
{
    free(heads->v);
    *heads = (struct vault_heads){0};
}

struct vault_head *
vault_heads_find(struct vault_heads *heads, ag_str_t tenant)
{
    for (size_t i = 0; i < heads->n; i++)
        if (ag_str_is(tenant, heads->v[i].tenant))
            return &heads->v[i];
    return NULL;
}
