/* Canonical host names and patterns of them. */
#include "vault_svc/vault_host.h"

#include "lib/without.h"

#include <ctype.h>
#include <idn2.h>
#include <libpsl.h>
#include <stdio.h>

#include "vault_svc/vault_deployment.h"

static bool
is_number_label(ag_str_t label)
{
    if (label.n == 0)
        return false;
    if (label.n >= 2 && label.p[0] == '0' && (label.p[1] | 32) == 'x')
        return true;
    for (size_t i = 0; i < label.n; i++)
        if (!isdigit((unsigned char)label.p[i]))
            return false;
    return true;
}

bool
vault_host_is_address(ag_str_t host)
{
    ag_str_t rest = host, label = {NULL, 0};

    if (ag_str_chr(host, ':') >= 0 || ag_str_chr(host, '[') >= 0)
        return true;
    if (host.n > 0 && host.p[host.n - 1] == '.')
        rest.n--;
    while (ag_str_cut(&rest, '.', &label))
        continue;
    return is_number_label(label);
}

static bool
label_is_ldh(ag_str_t label)
{
    if (label.n == 0 || label.n > 63 || label.p[0] == '-'
        || label.p[label.n - 1] == '-')
        return false;
    for (size_t i = 0; i < label.n; i++) {
        char c = label.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

bool
vault_host_is_canonical(ag_str_t host)
{
    ag_str_t rest = host, label;

    if (host.n == 0 || host.n >= VAULT_HOST_TEXT || host.p[host.n - 1] == '.')
        return false;
    while (ag_str_cut(&rest, '.', &label))
        if (!label_is_ldh(label))
            return false;
    return true;
}

static void
idn_freep(char **p)
{
    idn2_free(*p);
}

int
vault_host_canonical(ag_str_t in, char out[VAULT_HOST_TEXT], struct ag_err *err)
{
    AG_AUTO(ag_freep) char *name = NULL;
    AG_AUTO(idn_freep) char *ascii = NULL;

    if (in.n == 0 || in.n > 1024 || memchr(in.p, 0, in.n) != NULL
        || !ag_str_is_utf8(in))
        return ag_err_set(err, AG_ERR_INVALID,
                          "a host is 1 to 253 characters of a DNS name");
    if (in.p[in.n - 1] == '.')
        in.n--;
    name = ag_str_dup(in);
    int rc = idn2_lookup_u8((const uint8_t *)name, (uint8_t **)&ascii,
                            IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc != IDN2_OK)
        return ag_err_set(err, AG_ERR_INVALID,
                          "host \"%.100s\" is no DNS name: %s", name,
                          idn2_strerror(rc));
    for (char *c = ascii; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    if (!vault_host_is_canonical(ag_str(ascii)))
        return ag_err_set(err, AG_ERR_INVALID,
                          "host \"%.100s\" is no DNS name: labels are "
                          "letters, digits and inner hyphens",
                          name);
    memcpy(out, ascii, strlen(ascii) + 1);
    return 0;
}

static int
split_port(ag_str_t *s, int *port, struct ag_err *err)
{
    ptrdiff_t at = ag_str_chr(*s, ':');
    int64_t n;

    *port = 0;
    if (at < 0)
        return 0;
    ag_str_t digits = ag_str_n(s->p + at + 1, s->n - (size_t)at - 1);
    if (digits.n == 0 || !isdigit((unsigned char)digits.p[0])
        || digits.p[0] == '0' || ag_str_i64(digits, &n) < 0 || n > 65535)
        return ag_err_set(err, AG_ERR_INVALID,
                          "\"%.*s\": a port is a number from 1 to 65535",
                          (int)(s->n > 100 ? 100 : s->n), s->p);
    *port = (int)n;
    s->n = (size_t)at;
    return 0;
}

static int
parse_address(ag_str_t in, ag_str_t host, int port,
              const struct vault_deployment *deployment,
              struct vault_host_pattern *p, struct ag_err *err)
{
    if (host.n < VAULT_HOST_TEXT && deployment != NULL
        && vault_deployment_find(deployment, host, port == 0 ? 443 : port)
               != NULL) {
        memcpy(p->host, host.p, host.n);
        p->host[host.n] = '\0';
        return 0;
    }
    return ag_err_set(err, AG_ERR_INVALID,
                      "\"%.*s\" is an address: name a host (only addresses "
                      "that deployment.conf lists are possible)",
                      (int)(in.n > 100 ? 100 : in.n), in.p);
}

/* Names that mean this machine or this network wherever they are asked. */
static bool
is_local_name(ag_str_t host)
{
    static const char *const tlds[] = {
        "localhost", "local",     "internal",     "localdomain", "lan",
        "intranet",  "home.arpa", "in-addr.arpa", "ip6.arpa"};

    if (ag_str_chr(host, '.') < 0)
        return true;
    for (size_t i = 0; i < sizeof(tlds) / sizeof(tlds[0]); i++) {
        size_t n = strlen(tlds[i]);
        if (host.n >= n && memcmp(host.p + host.n - n, tlds[i], n) == 0
            && (host.n == n || host.p[host.n - n - 1] == '.'))
            return true;
    }
    return false;
}

/* What a pattern must not cover, but as deployment.conf lists it. */
static int
check_scope(const struct vault_host_pattern *p,
            const struct vault_deployment *deployment, struct ag_err *err)
{
    ag_str_t host = ag_str(p->host);

    if (ag_without("public_suffix"))
        return 0;
    if (p->is_wildcard && psl_is_public_suffix(psl_builtin(), p->host))
        return ag_err_set(err, AG_ERR_INVALID,
                          "\"*.%s\" would cover a public suffix: name a "
                          "registered domain",
                          p->host);
    if (!p->is_wildcard && deployment != NULL
        && vault_deployment_find(deployment, host, p->port == 0 ? 443 : p->port)
               != NULL)
        return 0;
    if (is_local_name(host))
        return ag_err_set(err, AG_ERR_INVALID,
                          "\"%s\" is a name of this machine or its network: "
                          "only what deployment.conf lists is possible",
                          p->host);
    if (psl_is_public_suffix2(psl_builtin(), p->host,
                              PSL_TYPE_ICANN | PSL_TYPE_NO_STAR_RULE))
        return ag_err_set(err, AG_ERR_INVALID,
                          "\"%s\" is a public suffix: name a registered domain",
                          p->host);
    return 0;
}

int
vault_host_pattern_parse(ag_str_t in, const struct vault_deployment *deployment,
                         struct vault_host_pattern *out, struct ag_err *err)
{
    struct vault_host_pattern p = {0};
    ag_str_t host = in;

    if (in.n > 0 && in.p[0] == '[')
        return parse_address(in, in, 0, NULL, &p, err);
    if (split_port(&host, &p.port, err) < 0)
        return -1;
    if (ag_str_starts(host, AG_STR("*."))) {
        p.is_wildcard = true;
        host = ag_str_n(host.p + 2, host.n - 2);
    }
    if (vault_host_is_address(host)) {
        if (p.is_wildcard
            || parse_address(in, host, p.port, deployment, &p, err) < 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "\"%.*s\" is an address: name a host (only "
                              "addresses that deployment.conf lists are "
                              "possible)",
                              (int)(in.n > 100 ? 100 : in.n), in.p);
    } else if (vault_host_canonical(host, p.host, err) < 0
               || check_scope(&p, deployment, err) < 0) {
        return -1;
    }
    *out = p;
    return 0;
}

bool
vault_host_pattern_fits(const struct vault_host_pattern *p, ag_str_t host)
{
    if (!p->is_wildcard)
        return ag_str_is(host, p->host);
    ptrdiff_t dot = ag_str_chr(host, '.');
    if (ag_without("wildcard_depth"))
        return ag_str_ends(host, ag_str(p->host));
    return dot > 0
           && ag_str_is(ag_str_n(host.p + dot + 1, host.n - (size_t)dot - 1),
                        p->host);
}
