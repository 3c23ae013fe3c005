/* Parser of deployment.conf. Read once at start, before threads. */
#include "vault_svc/vault_deployment.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "vault_svc/vault_file.h"

enum { DESTINATIONS_MAX = 1024, FILE_MAX_BYTES = 1 << 20 };

/* "a.b.c.d:port", nothing looser. */
static int
check_address(ag_str_t text, struct in_addr *ip, struct ag_err *err)
{
    char host[64];
    ag_str_t port = text, head;
    int64_t n;

    if (!ag_str_cut(&port, ':', &head) || head.n == 0 || head.n >= sizeof(host)
        || ag_str_i64(port, &n) < 0 || n < 1 || n > 65535)
        return ag_err_set(err, AG_ERR_INVALID, "\"%.*s\" is not IP:PORT",
                          AG_FMT(text));
    memcpy(host, head.p, head.n);
    host[head.n] = '\0';
    if (inet_pton(AF_INET, host, ip) != 1)
        return ag_err_set(err, AG_ERR_INVALID, "\"%.*s\" is not IP:PORT",
                          AG_FMT(text));
    return 0;
}

static bool
is_loopback(const struct vault_destination *d)
{
    struct ag_err ignored = AG_ERR_INIT;
    struct in_addr ip;
    char text[VAULT_HOST_TEXT + 8];

    if (d->address == NULL && strcmp(d->host, "localhost") == 0)
        return true;
    snprintf(text, sizeof(text), "%s:%d", d->host, d->port);
    return check_address(ag_str(d->address != NULL ? d->address : text), &ip,
                         &ignored)
               == 0
           && (ntohl(ip.s_addr) >> 24) == 127;
}

static int
parse_destination(ag_str_t word, struct vault_destination *d,
                  struct ag_err *err)
{
    struct in_addr ip;
    ag_str_t rest = word, host;
    int64_t port;

    if (!ag_str_cut(&rest, ':', &host) || ag_str_i64(rest, &port) < 0
        || port < 1 || port > 65535)
        return ag_err_set(err, AG_ERR_INVALID, "\"%.*s\" is not HOST:PORT",
                          AG_FMT(word));
    d->port = (int)port;
    if (!vault_host_is_address(host))
        return vault_host_canonical(host, d->host, err);
    if (check_address(word, &ip, err) < 0)
        return -1;
    inet_ntop(AF_INET, &ip, d->host, sizeof(d->host));
    return 0;
}

static int
parse_option(ag_str_t word, struct vault_destination *d, struct ag_err *err)
{
    struct in_addr ip;
    ag_str_t value = word, key;

    if (ag_str_is(word, "clear-text")) {
        d->is_clear_text = true;
        return 0;
    }
    ag_str_cut(&value, '=', &key);
    if (ag_str_is(key, "address") && d->address == NULL) {
        if (check_address(value, &ip, err) < 0)
            return -1;
        d->address = ag_str_dup(value);
        return 0;
    }
    if (ag_str_is(key, "ca") && d->ca_file == NULL && value.n > 1
        && value.p[0] == '/') {
        d->ca_file = ag_str_dup(value);
        return 0;
    }
    return ag_err_set(err, AG_ERR_INVALID,
                      "\"%.*s\" is none of address=IP:PORT, ca=/FILE, "
                      "clear-text, each once",
                      AG_FMT(word));
}

static int
parse_line(ag_str_t line, struct vault_deployment *out, struct ag_err *err)
{
    ag_str_t word;

    ag_str_word(&line, &word);
    if (!ag_str_is(word, "destination"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "\"%.*s\" is no word of this file; lines are "
                          "\"destination HOST:PORT …\"",
                          AG_FMT(word));
    if (!ag_str_word(&line, &word))
        return ag_err_set(err, AG_ERR_INVALID, "HOST:PORT is missing");
    if (out->n == DESTINATIONS_MAX)
        return ag_err_set(err, AG_ERR_LIMIT, "more than %d destinations",
                          DESTINATIONS_MAX);
    out->v = ag_xrealloc(out->v, (out->n + 1) * sizeof(*out->v));
    struct vault_destination *d = &out->v[out->n++];
    memset(d, 0, sizeof(*d));
    if (parse_destination(word, d, err) < 0)
        return -1;
    if (vault_deployment_find(out, ag_str(d->host), d->port) != d)
        return ag_err_set(err, AG_ERR_INVALID, "\"%.*s\" is listed twice",
                          AG_FMT(word));
    while (ag_str_word(&line, &word))
        if (parse_option(word, d, err) < 0)
            return -1;
    if (d->is_clear_text && !is_loopback(d))
        return ag_err_set(err, AG_ERR_INVALID,
                          "\"clear-text\" is possible to loopback only, not "
                          "to %s",
                          d->address ? d->address : d->host);
    return 0;
}

int
vault_deployment_parse(ag_str_t text, struct vault_deployment *out,
                       struct ag_err *err)
{
    ag_str_t line;
    int number = 0;

    *out = (struct vault_deployment){0};
    while (ag_str_cut(&text, '\n', &line)) {
        ptrdiff_t hash = ag_str_chr(line, '#');
        number++;
        if (hash >= 0)
            line.n = (size_t)hash;
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        line = ag_str_trim(line);
        if (line.n > 0 && parse_line(line, out, err) < 0)
            return ag_err_wrap(err, "line %d", number);
    }
    return 0;
}

int
vault_deployment_load(const char *path, struct vault_deployment *out,
                      struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(FILE_MAX_BYTES);

    *out = (struct vault_deployment){0};
    if (*path == '\0')
        return 0;
    if (vault_file_read(path, &text, err) < 0)
        return -1;
    if (vault_deployment_parse(ag_buf_str(&text), out, err) < 0)
        return ag_err_wrap(err, "%s", path);
    return 0;
}

void
vault_deployment_release(struct vault_deployment *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->v[i].address);
        free(d->v[i].ca_file);
    }
    free(d->v);
    *d = (struct vault_deployment){0};
}

const struct vault_destination *
vault_deployment_find(const struct vault_deployment *d, ag_str_t host, int port)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->v[i].port == port && ag_str_is(host, d->v[i].host))
            return &d->v[i];
    return NULL;
}
