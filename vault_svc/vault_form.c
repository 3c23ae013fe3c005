/*
 * Forms of values: as they are, base64 (at three offsets, in both alphabets),
 * hex, percent and JSON escapes. A form that holds a value's inner part alone
 * (base64 at an offset) has what does not depend on its neighbours.
 */
#include "vault_svc/vault_form.h"

#include "lib/fingerprint.h"

enum { FORM_MAX = VAULT_FORM_MAX };

static const char base64_std[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* The characters that come of `value` alone when `skip` bytes, 0 to 2, of
 * something else stand before it in its group of three. */
static void
add_base64(struct ag_buf *out, ag_str_t value, int skip, const char *alphabet)
{
    uint32_t group = 0;
    int have = skip, shown = skip; /* bytes, and characters that are not */

    for (size_t i = 0; i < value.n; i++) {
        group = group << 8 | (unsigned char)value.p[i];
        if (++have < 3)
            continue;
        for (int k = 0; k < 4; k++)
            if (k >= shown + (shown > 0))
                ag_buf_addc(out, alphabet[group >> (18 - 6 * k) & 63]);
        group = 0;
        have = shown = 0;
    }
    for (int k = 0; k < have && have < 3 && shown == 0; k++)
        ag_buf_addc(out,
                    alphabet[(group << 8 * (3 - have)) >> (18 - 6 * k) & 63]);
}

static void
add_hex(struct ag_buf *out, ag_str_t value, const char *digits)
{
    for (size_t i = 0; i < value.n; i++) {
        ag_buf_addc(out, digits[(unsigned char)value.p[i] >> 4]);
        ag_buf_addc(out, digits[(unsigned char)value.p[i] & 15]);
    }
}

static void
add_percent(struct ag_buf *out, ag_str_t value, const char *digits)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        bool is_plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
                        || (c >= 'a' && c <= 'z')
                        || memchr("-._~", c, 4) != NULL;
        if (is_plain) {
            ag_buf_addc(out, (char)c);
            continue;
        }
        ag_buf_addc(out, '%');
        add_hex(out, ag_str_n(&c, 1), digits);
    }
}

/* What stands between the quotes. */
static void
add_json(struct ag_buf *out, ag_str_t value)
{
    ag_buf_add_json(out, value);
    ag_buf_consume(out, 1);
    out->p[--out->n] = '\0';
}

static void
make(ag_str_t value, int i, struct ag_buf *out)
{
    static const char lower[] = "0123456789abcdef",
                      upper[] = "0123456789ABCDEF";
    switch (i) {
    case 0:
        ag_buf_add(out, value);
        return;
    case 1:
    case 2:
    case 3:
        add_base64(out, value, i - 1, base64_std);
        return;
    case 4:
    case 5:
    case 6:
        add_base64(out, value, i - 4, base64_url);
        return;
    case 7:
        add_hex(out, value, lower);
        return;
    case 8:
        add_hex(out, value, upper);
        return;
    case 9:
        add_percent(out, value, upper);
        return;
    default:
        add_json(out, value);
        return;
    }
}

/* The form that is the same when nothing in the value needs this one. */
static const int plainer[VAULT_FORM_N] = {[4] = 1, [5] = 2, [6] = 3, [8] = 7};

bool
vault_form_make(ag_str_t value, int i, struct ag_buf *out)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf other = AG_BUF_INIT(FORM_MAX);
    size_t most = 6 * value.n + 64;
    struct ag_err err = AG_ERR_INIT;

    /* One piece of memory: growing would leave a copy behind. */
    ag_wipe(out->p, out->cap);
    ag_buf_clear(out);
    if (ag_buf_reserve(out, most, &err) == NULL)
        return false;
    make(value, i, out);
    if (out->n < AG_FINGERPRINT_WINDOW)
        return false;
    if (i == 0 || (i >= 1 && i <= 3) || i == 7)
        return true;
    if (ag_buf_reserve(&other, most, &err) == NULL)
        return false;
    make(value, plainer[i], &other);
    return !ag_str_eq(ag_buf_str(out), ag_buf_str(&other));
}

struct vault_form_window
vault_form_window(ag_str_t form)
{
    struct vault_form_window w;

    w.at = (form.n - AG_FINGERPRINT_WINDOW) / 2;
    w.before = w.at;
    w.after = form.n - AG_FINGERPRINT_WINDOW - w.at;
    if (w.before > VAULT_FORM_SPAN_MAX)
        w.before = VAULT_FORM_SPAN_MAX;
    if (w.after > VAULT_FORM_SPAN_MAX)
        w.after = VAULT_FORM_SPAN_MAX;
    return w;
}
