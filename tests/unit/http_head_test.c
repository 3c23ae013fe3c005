/* Whom a plain request, or one to a proxy, is for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/str.h"
#include "lib/http_head.h"

#define GET "GET / HTTP/1.1\r\n"

static struct ag_http_head head;

static enum ag_http_head_rc
host_of(const char *text)
{
    return ag_http_head_host(text, strlen(text), &head);
}

static enum ag_http_head_rc
proxy_of(const char *text)
{
    return ag_http_head_proxy(text, strlen(text), &head);
}

static void
host_is_read_from_a_whole_head(void **state)
{
    static const char text[] = GET "A: b\r\nhOsT:  Api.Example.TEST:8080 \r\n"
                                   "\r\nbody";
    (void)state;
    for (size_t n = 0; n < sizeof(text) - 5; n++)
        assert_int_equal(ag_http_head_host(text, n, &head), AG_HTTP_HEAD_MORE);
    assert_int_equal(host_of(text), AG_HTTP_HEAD_OK);
    assert_string_equal(head.name, "api.example.test");
    assert_int_equal(head.port, 8080);
    assert_int_equal(head.n, sizeof(text) - 5);
    assert_int_equal(host_of(GET "Host: a.test\nHOST: A.test\n\n"),
                     AG_HTTP_HEAD_OK);
    assert_int_equal(head.port, 0);
}

static void
a_head_with_two_readings_is_bad(void **state)
{
    static const char *const bad[] = {
        GET "\r\n",
        GET "Host: a.test\r\nHost: b.test\r\n\r\n",
        GET "Host: a.test\r\nHost: a.test:80\r\n\r\n",
        GET "Host: 1.2.3.4\r\n\r\n",
        GET "Host: a.test:0\r\n\r\n",
        GET "Host: a.test:080\r\n\r\n",
        GET "Host: a.test:\r\n\r\n",
        GET "Host: a.test:65536\r\n\r\n",
        GET "Host: a.test:+80\r\n\r\n",
        GET "Host: a.test, b.test\r\n\r\n",
        GET "Host: x@a.test\r\n\r\n",
        GET "Host: \r\n\r\n",
        GET "Host: [::1]\r\n\r\n",
        GET "Host : a.test\r\n\r\n",
        GET "X: \x01\r\nHost: a.test\r\n\r\n",
        "GET /\r\n",
        "GET / HTTP/2.0\r\n",
        " / HTTP/1.1\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "\x80\x2e\x01",
        "EHLO x\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(host_of(bad[i]), AG_HTTP_HEAD_BAD);
}

static void
an_endless_head_is_bad(void **state)
{
    static char text[AG_HTTP_HEAD_MAX + 64];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(host_of(text), AG_HTTP_HEAD_BAD);
    memcpy(text, GET "Host: a.test\r\nX: ", 33);
    assert_int_equal(host_of(text), AG_HTTP_HEAD_BAD);
    text[AG_HTTP_HEAD_MAX - 10] = '\0';
    assert_int_equal(host_of(text), AG_HTTP_HEAD_MORE);
}

static void
a_proxy_takes_connect_and_the_absolute_form(void **state)
{
    (void)state;
    assert_int_equal(
        proxy_of("CONNECT Api.Example.test:443 HTTP/1.1\r\nHost: x\r\n\r\nTLS"),
        AG_HTTP_HEAD_OK);
    assert_true(head.is_connect);
    assert_string_equal(head.name, "api.example.test");
    assert_int_equal(head.port, 443);
    assert_int_equal(head.n, 50);
    assert_int_equal(proxy_of("GET http://a.test/x HTTP/1.1\r\n\r\n"),
                     AG_HTTP_HEAD_OK);
    assert_false(head.is_connect);
    assert_string_equal(head.name, "a.test");
    assert_int_equal(head.port, 80);
    assert_int_equal(proxy_of("GET HTTP://a.test:81?x HTTP/1.0\r\n\r\n"),
                     AG_HTTP_HEAD_OK);
    assert_int_equal(head.port, 81);
}

static void
a_proxy_takes_nothing_else(void **state)
{
    static const char *const bad[] = {
        "CONNECT a.test HTTP/1.1\r\n\r\n",
        "CONNECT a.test:443.b.test HTTP/1.1\r\n\r\n",
        "CONNECT 1.2.3.4:443 HTTP/1.1\r\n\r\n",
        "CONNECT a.test:443:443 HTTP/1.1\r\n\r\n",
        "CONNECT x@a.test:443 HTTP/1.1\r\n\r\n",
        "CONNECT http://a.test:443 HTTP/1.1\r\n\r\n",
        "connect a.test:443 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET https://a.test/ HTTP/1.1\r\n\r\n",
        "GET http:// HTTP/1.1\r\n\r\n",
        "GET http://u:p@a.test/ HTTP/1.1\r\n\r\n",
        "GET http://a%2etest/ HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(proxy_of(bad[i]), AG_HTTP_HEAD_BAD);
    assert_int_equal(proxy_of("CONNECT a.test:443 HTTP/1.1\r\nHos"),
                     AG_HTTP_HEAD_MORE);
    assert_int_equal(
        ag_http_head_proxy("CONNECT a\0.test:443 HTTP/1.1\r\n\r\n", 33, &head),
        AG_HTTP_HEAD_BAD);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_is_read_from_a_whole_head),
        cmocka_unit_test(a_head_with_two_readings_is_bad),
        cmocka_unit_test(an_endless_head_is_bad),
        cmocka_unit_test(a_proxy_takes_connect_and_the_absolute_form),
        cmocka_unit_test(a_proxy_takes_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
