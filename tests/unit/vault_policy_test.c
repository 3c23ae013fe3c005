/* Hosts, policies, bindings, deployment.conf and shapes: text in, text out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_deployment.h"
#include "vault_svc/vault_observe.h"
#include "vault_svc/vault_shape.h"

static void
hosts_become_canonical_or_are_refused(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"API.Example.COM", "api.example.com"},
        {"api.example.com.", "api.example.com"},
        {"B\xc3\xbc"
         "cher.example",
         "xn--bcher-kva.example"},
        {"xn--bcher-kva.example", "xn--bcher-kva.example"},
        {"", NULL},
        {".", NULL},
        {"a..b", NULL},
        {"-a.example", NULL},
        {"a-.example", NULL},
        {"a b.example", NULL},
        {"a/b", NULL},
        {"a@b.example", NULL},
        {"a%2e.example", NULL},
        {"\xff.example", NULL},
        {"a_b.example", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ag_err err = AG_ERR_INIT;
        char out[VAULT_HOST_TEXT];
        int rc = vault_host_canonical(ag_str(rows[i].in), out, &err);
        if (rc != (rows[i].out != NULL ? 0 : -1))
            fail_msg("\"%s\": %s", rows[i].in, rc == 0 ? out : err.msg);
        if (rc == 0)
            assert_string_equal(out, rows[i].out);
    }
}

static void
patterns_that_cover_too_much_are_refused(void **state)
{
    static const char *const bad[] = {"*",
                                      "*.com",
                                      "*.co.uk",
                                      "*.*.example.com",
                                      "a.*.example.com",
                                      "*example.com",
                                      "127.0.0.1",
                                      "127.1",
                                      "0x7f.0.0.1",
                                      "017700000001",
                                      "2130706433",
                                      "[::1]",
                                      "::1",
                                      "*.127.0.0.1",
                                      "a.example:0",
                                      "a.example:+443",
                                      "a.example:65536",
                                      "a.example:443.b",
                                      "a.example:",
                                      "https://a.example",
                                      "a.example/x",
                                      "",
                                      "10.0.0.1",
                                      "192.168.1.1:8443",
                                      "169.254.169.254",
                                      "[fd00::1]",
                                      "com",
                                      "co.uk",
                                      "localhost",
                                      "db",
                                      "a.localhost",
                                      "metadata.google.internal",
                                      "*.svc.internal",
                                      "printer.local",
                                      "1.0.0.10.in-addr.arpa"};
    static const char *const good[] = {
        "a.example",     "*.a.example", "a.example:8443",
        "*.a.example:1", "github.io",   "internal.example.com"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ag_err err = AG_ERR_INIT;
        struct vault_host_pattern p;
        if (vault_host_pattern_parse(ag_str(bad[i]), NULL, &p, &err) == 0)
            fail_msg("\"%s\" was accepted", bad[i]);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct ag_err err = AG_ERR_INIT;
        struct vault_host_pattern p;
        if (vault_host_pattern_parse(ag_str(good[i]), NULL, &p, &err) < 0)
            fail_msg("\"%s\": %s", good[i], err.msg);
    }
}

static void
equal_policies_have_equal_text(void **state)
{
    struct vault_deployment d = {0};
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf a = AG_BUF_INIT(4096), b = AG_BUF_INIT(4096);
    (void)state;
    assert_int_equal(
        vault_policy_from_config(
            AG_STR("{\"networking\":{\"type\":\"limited\",\"allowed_hosts\":"
                   "[\"B.example\",\"a.example:8443\",\"b.example\"]}}"),
            AG_STR(""), &d, &a, &err),
        0);
    assert_int_equal(
        vault_policy_from_config(
            AG_STR("{\"type\":\"cloud\",\"networking\":{\"allowed_hosts\":"
                   "[\"a.example:8443\",\"b.example.\"]}}"),
            AG_STR("{}"), &d, &b, &err),
        0);
    assert_string_equal(ag_buf_cstr(&a), ag_buf_cstr(&b));
    assert_string_equal(ag_buf_cstr(&a), "{\"allowed_hosts\":"
                                         "[\"a.example:8443\",\"b.example\"]}");
    ag_buf_clear(&a);
    assert_int_equal(
        vault_policy_from_config(AG_STR(""), AG_STR(""), &d, &a, &err), 0);
    assert_string_equal(ag_buf_cstr(&a), "{\"allowed_hosts\":[]}");
    static const char *const bad[] = {
        "[]",
        "{",
        "{\"networking\":1}",
        "{\"networking\":{\"type\":\"unrestricted\"}}",
        "{\"networking\":{\"allowed_hosts\":\"a.example\"}}",
        "{\"networking\":{\"allowed_hosts\":[1]}}",
        "{\"networking\":{\"allowed_hosts\":[\"*.com\"]}}",
        "{\"networking\":{},\"networking\":{\"allowed_hosts\":[]}}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (vault_policy_from_config(ag_str(bad[i]), AG_STR(""), &d, &a, &err)
            == 0)
            fail_msg("%s was accepted", bad[i]);
        assert_non_null(strstr(err.msg, "config"));
    }
    ag_buf_release(&a);
    ag_buf_release(&b);
}

#define NET(text) "{\"networking\":" text "}"

static void
rules_of_a_policy_are_read_or_refused(void **state)
{
    static const struct {
        const char *config, *metadata, *want; /* want: canonical, or a word of
                                                 the error after "!" */
    } rows[] = {
        {NET("{\"rules\":[{\"host\":\"A.example\"}]}"), "",
         "{\"allowed_hosts\":[],\"rules\":[{\"host\":\"a.example\","
         "\"port\":443,\"scheme\":\"https\"}]}"},
        {NET("{\"mode\":\"observe\",\"allowed_hosts\":[\"b.example\"]}"), "",
         "{\"allowed_hosts\":[\"b.example\"],\"mode\":\"observe\"}"},
        {NET("{\"mode\":\"enforce\"}"), "", "{\"allowed_hosts\":[]}"},
        {NET("{\"outbound\":\"block\"}"), "", "{\"allowed_hosts\":[]}"},
        {NET("{\"outbound\":\"mask\"}"), "",
         "{\"allowed_hosts\":[],\"outbound\":\"mask\"}"},
        {"", "{\"brainbox.network\":\"{\\\"outbound\\\":\\\"log\\\"}\"}",
         "{\"allowed_hosts\":[],\"outbound\":\"log\"}"},
        {NET("{\"outbound\":\"off\"}"), "", "!outbound: none of"},
        {NET("{\"outbound\":\"log\"}"),
         "{\"brainbox.network\":\"{\\\"mode\\\":\\\"ask\\\"}\"}", "!both hold"},
        {NET("{\"rules\":[{\"host\":\"*.a.example\",\"scheme\":\"http\","
             "\"ports\":[80,8080],\"methods\":[\"GET\"],"
             "\"path_prefixes\":[\"/v1/\"]}]}"),
         "",
         "{\"allowed_hosts\":[],\"rules\":["
         "{\"host\":\"*.a.example\",\"methods\":[\"GET\"],"
         "\"path_prefixes\":[\"/v1/\"],\"port\":80,\"scheme\":\"http\"},"
         "{\"host\":\"*.a.example\",\"methods\":[\"GET\"],"
         "\"path_prefixes\":[\"/v1/\"],\"port\":8080,\"scheme\":\"http\"}]}"},
        {NET("{\"allowed_hosts\":[\"b.example\"]}"),
         "{\"brainbox.network\":\"{\\\"mode\\\":\\\"ask\\\"}\"}",
         "{\"allowed_hosts\":[\"b.example\"],\"mode\":\"ask\"}"},
        {NET("{\"mode\":\"ask\"}"),
         "{\"brainbox.network\":\"{\\\"mode\\\":\\\"ask\\\"}\"}", "!both hold"},
        {"", "{\"brainbox.network\":\"[]\"}", "!brainbox.network"},
        {"", "{\"brainbox.network\":\"{\"}", "!brainbox.network"},
        {"", "{\"brainbox.network\":\"{\\\"modes\\\":1}\"}", "!modes"},
        {NET("{\"mode\":\"off\"}"), "", "!mode: none of"},
        {NET("{\"modes\":\"ask\"}"), "", "!modes: unknown"},
        {NET("{\"rules\":{}}"), "", "!rules: not an array"},
        {NET("{\"rules\":[1]}"), "", "!rules[0]: not an object"},
        {NET("{\"rules\":[{}]}"), "", "!rules[0]: host"},
        {NET("{\"rules\":[{\"host\":\"*.com\"}]}"), "", "!public suffix"},
        {NET("{\"rules\":[{\"host\":\"10.0.0.1\"}]}"), "", "!is an address"},
        {NET("{\"rules\":[{\"host\":\"db.internal\"}]}"), "", "!its network"},
        {NET("{\"rules\":[{\"host\":\"a.example\",\"ports\":[]}]}"), "",
         "!ports"},
        {NET("{\"rules\":[{\"host\":\"a.example\",\"ports\":[0]}]}"), "",
         "!ports"},
        {NET("{\"rules\":[{\"host\":\"a.example\",\"ports\":[\"443\"]}]}"), "",
         "!ports"},
        {NET("{\"rules\":[{\"host\":\"a.example\",\"port\":443}]}"), "",
         "!port: unknown"},
        {NET("{\"rules\":[{\"host\":\"a.example\",\"scheme\":\"ftp\"}]}"), "",
         "!scheme"},
        {NET("{\"rules\":[{\"host\":\"a.example\",\"methods\":[]}]}"), "",
         "!methods: empty"},
        {NET("{\"rules\":[{\"host\":\"a.example\","
             "\"path_prefixes\":[\"/a/../b\"]}]}"),
         "", "!path_prefixes[0]"},
        {NET("{\"allowed_hosts\":[\"a.example\"],"
             "\"rules\":[{\"host\":\"a.example\"}]}"),
         "", "!allowed as a whole"},
    };
    struct vault_deployment d = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ag_buf out = AG_BUF_INIT(4096);
        struct ag_err err = AG_ERR_INIT;
        const char *want = rows[i].want;
        int rc = vault_policy_from_config(
            ag_str(rows[i].config), ag_str(rows[i].metadata), &d, &out, &err);
        const char *got = rc == 0 ? ag_buf_cstr(&out) : err.msg;
        bool ok = want[0] == '!' ? rc < 0 && strstr(got, want + 1) != NULL
                                 : strcmp(got, want) == 0;
        if (!ok)
            fail_msg("%s: %s", rows[i].config, got);
        ag_buf_release(&out);
    }
}

static void
a_policy_names_scheme_port_method_and_path(void **state)
{
    static const struct {
        bool is_https;
        const char *host;
        int port;
        const char *method, *path;
        enum vault_policy_fit fit;
    } rows[] = {
        {true, "a.example", 443, "GET", "/v1/x", VAULT_POLICY_FITS},
        {true, "a.example", 443, "POST", "/v1/x", VAULT_POLICY_NO_METHOD},
        {true, "a.example", 443, "GET", "/v2/x", VAULT_POLICY_NO_PATH},
        {true, "a.example", 443, "GET", "/v1/../v2", VAULT_POLICY_NO_PATH},
        {true, "a.example", 8443, "GET", "/v1/x", VAULT_POLICY_NO_HOST},
        {false, "a.example", 443, "GET", "/v1/x", VAULT_POLICY_NO_HOST},
        {false, "a.example", 80, "GET", "/v1/x", VAULT_POLICY_NO_HOST},
        {true, "b.example", 443, "DELETE", "/", VAULT_POLICY_FITS},
        {true, "c.example", 443, "GET", "/", VAULT_POLICY_NO_HOST},
    };
    struct ag_arena *arena = ag_arena_new();
    struct vault_deployment d = {0};
    struct vault_policy p;
    struct ag_err err = AG_ERR_INIT;
    (void)state;
    assert_int_equal(
        vault_policy_parse(
            AG_STR("{\"allowed_hosts\":[\"b.example\"],\"rules\":[{\"host\":"
                   "\"a.example\",\"port\":443,\"scheme\":\"https\","
                   "\"methods\":[\"GET\"],\"path_prefixes\":[\"/v1/\"]}]}"),
            &d, arena, &p, &err),
        0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct vault_policy_ask ask = {rows[i].is_https, ag_str(rows[i].host),
                                       rows[i].port, ag_str(rows[i].method),
                                       ag_str(rows[i].path)};
        if (vault_policy_fit(&p, &ask) != rows[i].fit)
            fail_msg("row %zu", i);
    }
    ag_arena_free(arena);
}

static void
what_was_observed_becomes_rules(void **state)
{
    const struct vault_observation seen[] = {
        {AG_STR("https"), AG_STR("a.example"), AG_STR("GET"), AG_STR("/v1/"),
         443},
        {AG_STR("https"), AG_STR("a.example"), AG_STR("POST"), AG_STR("/v1/"),
         443},
        {AG_STR("https"), AG_STR("b.example"), AG_STR("GET"), AG_STR("/"), 443},
    };
    struct ag_buf out = AG_BUF_INIT(4096), again = AG_BUF_INIT(4096);
    struct vault_deployment d = {0};
    struct ag_err err = AG_ERR_INIT;
    (void)state;
    assert_int_equal(
        vault_observe_propose(
            AG_STR(
                "{\"allowed_hosts\":[\"x.example\"],\"mode\":\"observe\","
                "\"outbound\":\"log\",\"rules\":[{\"host\":\"y.example\",\"port\":8443,"
                "\"scheme\":\"https\"}]}"),
            seen, 3, &out, &err),
        0);
    assert_string_equal(
        ag_buf_cstr(&out),
        "{\"type\":\"limited\",\"allowed_hosts\":[\"x.example\"],\"rules\":["
        "{\"host\":\"y.example\",\"scheme\":\"https\",\"ports\":[8443]},"
        "{\"scheme\":\"https\",\"host\":\"a.example\",\"ports\":[443],"
        "\"methods\":[\"GET\",\"POST\"],\"path_prefixes\":[\"/v1/\"]},"
        "{\"scheme\":\"https\",\"host\":\"b.example\",\"ports\":[443],"
        "\"methods\":[\"GET\"]}],\"outbound\":\"log\"}");
    /* What is proposed can be written back. */
    char config[4096];
    snprintf(config, sizeof(config), NET("%s"), ag_buf_cstr(&out));
    if (vault_policy_from_config(ag_str(config), AG_STR(""), &d, &again, &err)
        < 0)
        fail_msg("%s", err.msg);
    assert_true(ag_str_is(vault_observe_prefix(AG_STR("/a/b/c")), "/a/"));
    assert_true(ag_str_is(vault_observe_prefix(AG_STR("/a")), "/"));
    assert_true(ag_str_is(vault_observe_prefix(AG_STR("/a/../b")), "/"));
    ag_buf_release(&out);
    ag_buf_release(&again);
}

static void
paths_that_two_readers_could_read_differently_are_seen(void **state)
{
    static const char *const bad[] = {
        "",      "a",    "//a",    "/a//b",   "/a/../b",   "/..",
        "/./a",  "/a/.", "/a%2fb", "/a%2Fb",  "/%2e%2e/a", "/a%5cb",
        "/a\\b", "/a;b", "/a%00",  "/a%252f", "/a b",      "/a\tb"};
    static const char *const good[] = {"/",    "/a",     "/a/b.c",    "/a..b",
                                       "/...", "/a%20b", "/v1/x-y_z~"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (!vault_path_is_ambiguous(ag_str(bad[i])))
            fail_msg("\"%s\" passed", bad[i]);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (vault_path_is_ambiguous(ag_str(good[i])))
            fail_msg("\"%s\" was refused", good[i]);
}

static void
a_binding_is_no_wider_than_its_hosts(void **state)
{
    struct ag_arena *arena = ag_arena_new();
    struct ag_err err = AG_ERR_INIT;
    struct vault_deployment d = {0};
    struct vault_policy hosts;
    struct ag_buf out = AG_BUF_INIT(4096);
    static const struct {
        const char *binding;
        bool ok;
    } rows[] = {
        {"[{\"host\":\"api.example.com\"}]", true},
        {"[{\"host\":\"a.wide.example.com\"}]", true},
        {"[{\"host\":\"*.wide.example.com\",\"methods\":[\"GET\"]}]", true},
        {"[{\"host\":\"evil.example.com\"}]", false},
        {"[{\"host\":\"a.b.wide.example.com\"}]", false},
        {"[{\"host\":\"*.example.com\"}]", false},
        {"[{\"host\":\"port.example.com\"}]", false},
        {"[{\"host\":\"port.example.com\",\"port\":8443}]", true},
        {"[{\"host\":\"api.example.com\",\"scheme\":\"http\"}]", false},
        {"[{\"host\":\"api.example.com\",\"methods\":[\"get\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"methods\":[\"TRACE\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"body\",\"path\","
         "\"query:api_key\",\"header:X-Key\",\"basic\"]}]",
         true},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"query:\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"query:a b\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"query:a%20\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"cookie\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"header:Host\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":"
         "[\"header:Content-Length\"]}]",
         false},
        /* Empty, doubled, contradictory, or not understood. */
        {"[{\"host\":\"api.example.com\",\"slots\":[]}]", false},
        {"[{\"host\":\"api.example.com\",\"methods\":[]}]", false},
        {"[{\"host\":\"api.example.com\",\"path_prefixes\":[]}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"body\",\"body\"]}]",
         false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"body\"],"
         "\"methods\":[\"GET\",\"HEAD\"]}]",
         false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"body\"],"
         "\"methods\":[\"GET\",\"POST\"]}]",
         true},
        {"[{\"host\":\"api.example.com\"},{\"host\":\"API.example.com\"}]",
         false},
        {"[{\"host\":\"api.example.com\",\"path_prefix\":[\"/v1\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"port\":\"443\"}]", false},
        {"[{\"host\":\"api.example.com\",\"slots\":[\"header:\"]}]", false},
        {"[{\"host\":\"api.example.com\",\"path_prefixes\":[\"/a/../\"]}]",
         false},
        {"[]", false},
        {"{}", false},
        {"[1]", false},
        {"[{}]", false},
    };
    (void)state;
    assert_int_equal(
        vault_policy_parse(
            AG_STR("{\"allowed_hosts\":[\"api.example.com\","
                   "\"*.wide.example.com\",\"port.example.com:8443\"]}"),
            &d, arena, &hosts, &err),
        0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ag_buf_clear(&out);
        struct vault_binding_in in = {ag_str(rows[i].binding), &hosts, &d, 0};
        int rc = vault_binding_build(&in, &out, &err);
        if ((rc == 0) != rows[i].ok)
            fail_msg("%s: %s", rows[i].binding, rc == 0 ? "ok" : err.msg);
    }
    ag_buf_clear(&out);
    struct vault_binding_in all = {AG_STR(""), &hosts, &d, 0};
    assert_int_equal(vault_binding_build(&all, &out, &err), 0);
    struct vault_binding b;
    assert_int_equal(vault_binding_parse(ag_buf_str(&out), &d, arena, &b, &err),
                     0);
    assert_int_equal(b.n_rules, 3);
    assert_true(vault_rule_has_slot(&b.rules[0], AG_STR("basic")));
    ag_buf_clear(&out);
    all.location = VAULT_IN_BODY;
    assert_int_equal(vault_binding_build(&all, &out, &err), 0);
    assert_int_equal(vault_binding_parse(ag_buf_str(&out), &d, arena, &b, &err),
                     0);
    assert_true(vault_rule_has_slot(&b.rules[0], AG_STR("body")));
    assert_false(vault_rule_has_slot(&b.rules[0], AG_STR("basic")));
    all.json = AG_STR("[{\"host\":\"api.example.com\",\"slots\":[\"basic\"]}]");
    assert_int_equal(vault_binding_build(&all, &out, &err), -1);
    assert_non_null(strstr(err.msg, "injection_location"));
    ag_buf_release(&out);
    ag_arena_free(arena);
}

static void
deployment_errors_name_line_and_word(void **state)
{
    static const struct {
        const char *text, *word;
    } rows[] = {
        {"destination a.example:443\nfoo bar\n", "line 2"},
        {"destination a.example\n", "a.example"},
        {"destination\n", "missing"},
        {"destination a.example:0\n", "a.example:0"},
        {"destination a.example:443 adress=1.2.3.4:5\n", "adress"},
        {"destination a.example:443 address=1.2.3:5\n", "1.2.3:5"},
        {"destination a.example:443 ca=relative\n", "ca=relative"},
        {"destination a.example:80 clear-text\n", "loopback"},
        {"destination 10.0.0.1:80 clear-text\n", "loopback"},
        {"destination a.example:443\ndestination A.example:443\n", "twice"},
    };
    struct vault_deployment d;
    struct ag_err err = AG_ERR_INIT;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(vault_deployment_parse(ag_str(rows[i].text), &d, &err),
                         -1);
        if (strstr(err.msg, rows[i].word) == NULL)
            fail_msg("%s: %s", rows[i].text, err.msg);
        vault_deployment_release(&d);
    }
    assert_int_equal(
        vault_deployment_parse(
            AG_STR("# only a comment\n\n  destination 127.0.0.1:4000 clear-text"
                   " # x\r\ndestination b.example:443 address=10.0.0.1:8443"
                   " ca=/etc/x.pem"),
            &d, &err),
        0);
    assert_int_equal(d.n, 2);
    assert_true(
        vault_deployment_find(&d, AG_STR("127.0.0.1"), 4000)->is_clear_text);
    assert_null(vault_deployment_find(&d, AG_STR("127.0.0.1"), 4001));
    assert_string_equal(
        vault_deployment_find(&d, AG_STR("b.example"), 443)->address,
        "10.0.0.1:8443");
    vault_deployment_release(&d);
}

static void
secrets_are_told_from_plain_values(void **state)
{
    static const struct {
        const char *name, *value;
        enum vault_looks looks;
    } rows[] = {
        {"GH", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", VAULT_LOOKS_KNOWN},
        {"K", "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789",
         VAULT_LOOKS_KNOWN},
        {"A", "AKIAIOSFODNN7EXAMPLE", VAULT_LOOKS_KNOWN},
        {"MY_TOKEN", "hunter22", VAULT_LOOKS_SECRET},
        {"db_password", "correct horse", VAULT_LOOKS_SECRET},
        {"X", "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg", VAULT_LOOKS_SECRET},
        {"DB", "postgres://u:pw@db.example/x", VAULT_LOOKS_SECRET},
        {"PEM", "-----BEGIN PRIVATE KEY-----", VAULT_LOOKS_SECRET},
        {"LANG", "C.UTF-8", VAULT_LOOKS_PLAIN},
        {"DEBUG", "1", VAULT_LOOKS_PLAIN},
        {"PATHS", "/usr/local/lib/python3.11/site-packages/x1y2z3",
         VAULT_LOOKS_PLAIN},
        {"URL", "https://example.com/a/b?c=d", VAULT_LOOKS_PLAIN},
        {"TEXT", "a sentence with several words in it", VAULT_LOOKS_PLAIN},
        {"TOKEN", "on", VAULT_LOOKS_PLAIN},
    };
    struct ag_shapes shapes;
    struct ag_err err = AG_ERR_INIT;
    (void)state;
    if (vault_shapes_load("vault_svc/rules.conf", &shapes, &err) < 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (vault_shape_looks(&shapes, ag_str(rows[i].name),
                              ag_str(rows[i].value))
            != rows[i].looks)
            fail_msg("%s=%s", rows[i].name, rows[i].value);
    /* 40 characters: with the prefix the stub would be as long. */
    assert_int_equal(
        vault_shape_stub_prefix(
            &shapes, AG_STR("ghp_abcdefghijklmnopqrstuvwxyz0123456789"))
            .n,
        0);
    /* 36: a stub without a prefix would be as long. */
    assert_true(
        ag_str_is(vault_shape_stub_prefix(
                      &shapes, AG_STR("abcdefghijklmnopqrstuvwxyz0123456789")),
                  "stub_"));
    assert_true(ag_str_is(
        vault_shape_stub_prefix(
            &shapes, AG_STR("ghp_abcdefghijklmnopqrstuvwxyz01234567890")),
        "ghp_"));
    assert_string_equal(
        vault_shape_of(
            &shapes,
            AG_STR("sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789"))
            ->name,
        "anthropic");
    ag_shapes_release(&shapes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_become_canonical_or_are_refused),
        cmocka_unit_test(patterns_that_cover_too_much_are_refused),
        cmocka_unit_test(equal_policies_have_equal_text),
        cmocka_unit_test(rules_of_a_policy_are_read_or_refused),
        cmocka_unit_test(a_policy_names_scheme_port_method_and_path),
        cmocka_unit_test(what_was_observed_becomes_rules),
        cmocka_unit_test(
            paths_that_two_readers_could_read_differently_are_seen),
        cmocka_unit_test(a_binding_is_no_wider_than_its_hosts),
        cmocka_unit_test(deployment_errors_name_line_and_word),
        cmocka_unit_test(secrets_are_told_from_plain_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
