/*
 * The four steps of the published algorithm: canonical request, string to sign,
 * signing key, signature. Paths are encoded once more than they came, but for
 * S3, whose paths are taken as they are.
 */
#include "vault_svc/vault_sigv4.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "lib/secret.h"

enum { PARAMS_MAX = 256, CANONICAL_MAX = 256 * 1024, MAC = 32 };

static void
mac(ag_str_t key, ag_str_t msg, unsigned char out[MAC])
{
    unsigned int n = MAC;
    unsigned char *p = HMAC(EVP_sha256(), key.p, (int)key.n,
                            (const unsigned char *)msg.p, msg.n, out, &n);
    ag_assert(p != NULL && n == MAC);
}

static bool
is_unreserved(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_'
           || c == '~';
}

void
vault_uri_encode(struct ag_buf *b, ag_str_t s, bool keep_slash)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (is_unreserved(s.p[i]) || (keep_slash && c == '/')) {
            ag_buf_addc(b, s.p[i]);
            continue;
        }
        ag_buf_addc(b, '%');
        ag_buf_addc(b, hex[c >> 4]);
        ag_buf_addc(b, hex[c & 15]);
    }
}

static int
nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent escapes resolved; what is none stays as it is. */
static ag_str_t
decode(ag_str_t s, struct ag_arena *arena)
{
    char *out = ag_arena_alloc(arena, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        bool fits = s.n - i > 2;
        int hi = fits ? nibble(s.p[i + 1]) : -1;
        int lo = fits ? nibble(s.p[i + 2]) : -1;
        if (s.p[i] == '%' && hi >= 0 && lo >= 0) {
            out[n++] = (char)(hi << 4 | lo);
            i += 2;
        } else {
            out[n++] = s.p[i];
        }
    }
    return ag_str_n(out, n);
}

struct param {
    ag_str_t name, value; /* encoded */
};

static int
compare(ag_str_t a, ag_str_t b)
{
    int rc = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return rc != 0 ? rc : (a.n > b.n) - (a.n < b.n);
}

static int
by_param(const void *a, const void *b)
{
    const struct param *x = a, *y = b;
    int rc = compare(x->name, y->name);
    return rc != 0 ? rc : compare(x->value, y->value);
}

static ag_str_t
recode(ag_str_t s, struct ag_arena *arena)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(CANONICAL_MAX);
    vault_uri_encode(&b, decode(s, arena), false);
    return ag_arena_copy(arena, ag_buf_str(&b));
}

static int
add_query(struct ag_buf *b, ag_str_t query, struct ag_arena *arena,
          struct ag_err *err)
{
    struct param *params = ag_arena_alloc(arena, PARAMS_MAX * sizeof(*params));
    ag_str_t part, name;
    size_t n = 0;

    while (ag_str_cut(&query, '&', &part)) {
        if (part.n == 0)
            continue;
        if (n == PARAMS_MAX)
            return ag_err_set(err, AG_ERR_LIMIT,
                              "a query with more than %d parameters is not "
                              "signed",
                              PARAMS_MAX);
        bool has_value = ag_str_chr(part, '=') >= 0;
        ag_str_cut(&part, '=', &name);
        params[n].name = recode(name, arena);
        params[n++].value = has_value ? recode(part, arena) : AG_STR("");
    }
    qsort(params, n, sizeof(*params), by_param);
    for (size_t i = 0; i < n; i++)
        ag_buf_addf(b, "%s%.*s=%.*s", i > 0 ? "&" : "", AG_FMT(params[i].name),
                    AG_FMT(params[i].value));
    return 0;
}

static int
by_header(const void *a, const void *b)
{
    return compare(((const struct vault_header *)a)->name,
                   ((const struct vault_header *)b)->name);
}

/* Spaces around go, and those inside become one. */
static void
add_value(struct ag_buf *b, ag_str_t value)
{
    bool was_space = false;

    value = ag_str_trim(value);
    for (size_t i = 0; i < value.n; i++) {
        bool is_space = value.p[i] == ' ' || value.p[i] == '\t';
        if (!is_space || !was_space)
            ag_buf_addc(b, is_space ? ' ' : value.p[i]);
        was_space = is_space;
    }
}

/* Headers with the host, sorted; and the list of their names. */
static void
add_headers(struct ag_buf *b, struct ag_buf *names,
            const struct vault_signable *what, struct ag_arena *arena)
{
    size_t n = what->n_headers + 1;
    struct vault_header *all = ag_arena_alloc(arena, n * sizeof(*all));

    for (size_t i = 0; i + 1 < n; i++)
        all[i] = what->headers[i];
    all[n - 1] = (struct vault_header){AG_STR("host"), what->host};
    qsort(all, n, sizeof(*all), by_header);
    for (size_t i = 0; i < n; i++) {
        bool is_more = i > 0 && ag_str_eq(all[i].name, all[i - 1].name);
        if (is_more) {
            b->n--; /* one line: values with a comma between */
            ag_buf_addc(b, ',');
        } else {
            ag_buf_addf(b, "%.*s:", AG_FMT(all[i].name));
            ag_buf_addf(names, "%s%.*s", i > 0 ? ";" : "", AG_FMT(all[i].name));
        }
        add_value(b, all[i].value);
        ag_buf_addc(b, '\n');
    }
}

static int
canonical_request(const struct vault_sigv4 *with,
                  const struct vault_signable *what, struct ag_arena *arena,
                  struct ag_buf *out, struct ag_buf *names, struct ag_err *err)
{
    bool is_s3 = ag_str_is(with->service, "s3");

    ag_buf_addf(out, "%.*s\n", AG_FMT(what->method));
    vault_uri_encode(out, is_s3 ? decode(what->path, arena) : what->path, true);
    ag_buf_addc(out, '\n');
    if (add_query(out, what->query, arena, err) < 0)
        return -1;
    ag_buf_addc(out, '\n');
    add_headers(out, names, what, arena);
    ag_buf_addf(out, "\n%.*s\n", AG_FMT(ag_buf_str(names)));
    ag_buf_add_hex(out, ag_str_n(what->body_sha256, 32));
    return 0;
}

static void
signing_key(const struct vault_sigv4 *with, ag_str_t secret, ag_str_t day,
            unsigned char key[MAC])
{
    AG_AUTO(ag_buf_wipe) struct ag_buf first = AG_BUF_INIT(128 * 1024);
    const ag_str_t steps[] = {with->region, with->service,
                              AG_STR("aws4_request")};

    ag_buf_add(&first, AG_STR("AWS4"));
    ag_buf_add(&first, secret);
    mac(ag_buf_str(&first), day, key);
    for (size_t i = 0; i < 3; i++) {
        unsigned char next[MAC];
        mac(ag_str_n(key, MAC), steps[i], next);
        memcpy(key, next, MAC);
        ag_wipe(next, sizeof(next));
    }
}

int
vault_sigv4(const struct vault_sigv4 *with, ag_str_t secret,
            const struct vault_signable *what, ag_str_t amz_date,
            struct ag_arena *arena, ag_str_t *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf request = AG_BUF_INIT(CANONICAL_MAX);
    AG_AUTO(ag_buf_release) struct ag_buf names = AG_BUF_INIT(CANONICAL_MAX);
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(4096);
    AG_AUTO(ag_buf_release) struct ag_buf auth = AG_BUF_INIT(CANONICAL_MAX);
    unsigned char hash[32], key[MAC], signature[MAC];
    ag_str_t day = ag_str_n(amz_date.p, amz_date.n < 8 ? amz_date.n : 8);
    const char *scope =
        ag_arena_printf(arena, "%.*s/%.*s/%.*s/aws4_request", AG_FMT(day),
                        AG_FMT(with->region), AG_FMT(with->service));

    if (canonical_request(with, what, arena, &request, &names, err) < 0)
        return -1;
    ag_sha256(ag_buf_str(&request), hash);
    ag_buf_addf(&text, "AWS4-HMAC-SHA256\n%.*s\n%s\n", AG_FMT(amz_date), scope);
    ag_buf_add_hex(&text, ag_str_n(hash, sizeof(hash)));
    signing_key(with, secret, day, key);
    mac(ag_str_n(key, MAC), ag_buf_str(&text), signature);
    ag_wipe(key, sizeof(key));
    ag_buf_addf(&auth,
                "AWS4-HMAC-SHA256 Credential=%.*s/%s, SignedHeaders=%.*s, "
                "Signature=",
                AG_FMT(with->access_key_id), scope, AG_FMT(ag_buf_str(&names)));
    ag_buf_add_hex(&auth, ag_str_n(signature, sizeof(signature)));
    *out = ag_arena_copy(arena, ag_buf_str(&auth));
    return 0;
}
