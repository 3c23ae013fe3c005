/* Unit tests of sandbox_svc/bridge_dns.c, bridge_hello.c, the PROXY header of
 * bridge_conn.c, and init_proto.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/err.h"
#include "sandbox_svc/bridge_conn.h"
#include "sandbox_svc/bridge_dns.h"
#include "sandbox_svc/bridge_hello.h"
#include "sandbox_svc/init_proto.h"

/* ---- names ----------------------------------------------------------- */

static unsigned char packet[600];
static size_t packet_n;
static struct bridge_dns_query q;

static void
put16(unsigned v)
{
    packet[packet_n++] = (unsigned char)(v >> 8);
    packet[packet_n++] = (unsigned char)v;
}

/* A query for `name`, whose labels are cut at its dots. */
static void
query(const char *name, unsigned type)
{
    static const unsigned head[] = {0x1234, 0x0100, 1, 0, 0, 0};

    packet_n = 0;
    for (int i = 0; i < 6; i++)
        put16(head[i]);
    while (*name != 0) {
        size_t n = strcspn(name, ".");
        packet[packet_n++] = (unsigned char)n;
        memcpy(packet + packet_n, name, n);
        packet_n += n;
        name += n + (name[n] == '.');
    }
    packet[packet_n++] = 0;
    put16(type);
    put16(1);
}

static int
parse(void)
{
    return bridge_dns_parse(packet, packet_n, &q);
}

static void
query_for_an_address_is_answered(void **state)
{
    static const unsigned char tail[] = {0xc0, 12, 0, 1, 0,   1,  0, 0,
                                         0,    60, 0, 4, 198, 18, 1, 2};
    unsigned char out[BRIDGE_DNS_MAX];

    (void)state;
    query("API.Example.test", BRIDGE_DNS_A);
    assert_int_equal(parse(), BRIDGE_DNS_OK);
    assert_string_equal(q.name, "api.example.test");
    size_t n = bridge_dns_answer(packet, &q, BRIDGE_DNS_OK, 0xc6120102, out);
    assert_int_equal(n, packet_n + 16);
    assert_int_equal(out[0] << 8 | out[1], 0x1234);
    assert_int_equal(out[2], 0x85);
    assert_int_equal(out[3], 0x80);
    assert_int_equal(out[7], 1);
    assert_memory_equal(out + 12, packet + 12, packet_n - 12);
    assert_memory_equal(out + packet_n, tail, sizeof(tail));
}

static void
query_for_ipv6_has_no_answer_and_no_error(void **state)
{
    unsigned char out[BRIDGE_DNS_MAX];

    (void)state;
    query("a.test", BRIDGE_DNS_AAAA);
    assert_int_equal(parse(), BRIDGE_DNS_OK);
    assert_int_equal(bridge_dns_answer(packet, &q, BRIDGE_DNS_OK, 0, out),
                     packet_n);
    assert_int_equal(out[3] & 15, 0);
    assert_int_equal(out[7], 0);
    query("a.test", 16);
    assert_int_equal(parse(), BRIDGE_DNS_NOTIMP);
}

static void
query_with_an_option_record_is_accepted(void **state)
{
    static const unsigned char opt[] = {0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0};

    (void)state;
    query("a.test", BRIDGE_DNS_A);
    memcpy(packet + packet_n, opt, sizeof(opt));
    packet_n += sizeof(opt);
    assert_int_equal(parse(), BRIDGE_DNS_FORMERR);
    packet[11] = 1;
    assert_int_equal(parse(), BRIDGE_DNS_OK);
    packet_n--;
    assert_int_equal(parse(), BRIDGE_DNS_FORMERR);
}

static void
malformed_queries_are_refused(void **state)
{
    (void)state;
    query("a.test", BRIDGE_DNS_A);
    size_t n = packet_n;
    for (packet_n = 0; packet_n < 12; packet_n++)
        assert_int_equal(parse(), -1);
    for (; packet_n < n; packet_n++)
        assert_int_equal(parse(), BRIDGE_DNS_FORMERR);
    packet[2] |= 0x80; /* an answer */
    assert_int_equal(parse(), -1);
    packet[2] = 0x28; /* an update */
    assert_int_equal(parse(), BRIDGE_DNS_NOTIMP);
    packet[2] = 1;
    packet[5] = 2; /* two questions */
    assert_int_equal(parse(), BRIDGE_DNS_FORMERR);
    query("a.test", BRIDGE_DNS_A);
    packet[12] = 0xc0; /* compressed */
    assert_int_equal(parse(), BRIDGE_DNS_FORMERR);
    query("a.test", BRIDGE_DNS_A);
    packet[13] = '.'; /* a dot in a label */
    assert_int_equal(parse(), BRIDGE_DNS_FORMERR);
    query("a.test", BRIDGE_DNS_A);
    packet[13] = '/';
    assert_int_equal(parse(), BRIDGE_DNS_NXDOMAIN);
}

static void
names_are_host_names(void **state)
{
    char longest[300];

    (void)state;
    assert_true(ag_host_is_valid("a-b_1.test", 10));
    assert_true(ag_host_is_valid("localhost", 9));
    assert_false(ag_host_is_valid("", 0));
    assert_false(ag_host_is_valid("a..b", 4));
    assert_false(ag_host_is_valid(".a", 2));
    assert_false(ag_host_is_valid("a.", 2));
    assert_false(ag_host_is_valid("1.2.3.4", 7));
    assert_false(ag_host_is_valid("a b", 3));
    assert_false(ag_host_is_valid("a\0b", 3));
    memset(longest, 'a', sizeof(longest));
    assert_false(ag_host_is_valid(longest, 64));
    for (size_t i = 63; i < sizeof(longest); i += 64)
        longest[i] = '.';
    assert_true(ag_host_is_valid(longest, 253));
    assert_false(ag_host_is_valid(longest, 254));
}

/* ---- ClientHello ----------------------------------------------------- */

static unsigned char hello[1024];

/* A ClientHello that asks for `name`, in records of `piece` bytes; NULL sends
 * no server name. Returns its length. */
static size_t
make_hello(const char *name, size_t piece)
{
    unsigned char m[600] = {1, 0, 0, 0, 3, 3};
    size_t n = 4 + 2 + 32, out = 0;
    size_t name_n = name == NULL ? 0 : strlen(name);
    size_t ext_n = name == NULL ? 0 : 9 + name_n;
    const unsigned char middle[] = {0, 0, 2, 0x13, 1, 1, 0};

    memcpy(m + n, middle, sizeof(middle));
    n += sizeof(middle);
    m[n++] = (unsigned char)((ext_n + 5) >> 8);
    m[n++] = (unsigned char)(ext_n + 5);
    /* Another one first, of one byte. */
    memcpy(m + n, "\x00\x2b\x00\x01\x02", 5);
    n += 5;
    if (name != NULL) {
        const unsigned char sni[] = {0,
                                     0,
                                     0,
                                     (unsigned char)(name_n + 5),
                                     0,
                                     (unsigned char)(name_n + 3),
                                     0,
                                     0,
                                     (unsigned char)name_n};
        memcpy(m + n, sni, sizeof(sni));
        memcpy(m + n + 9, name, name_n);
        n += 9 + name_n;
    }
    m[2] = (unsigned char)((n - 4) >> 8);
    m[3] = (unsigned char)(n - 4);
    for (size_t at = 0; at < n; at += piece) {
        size_t len = n - at < piece ? n - at : piece;
        const unsigned char head[] = {22, 3, 1, (unsigned char)(len >> 8),
                                      (unsigned char)len};
        memcpy(hello + out, head, 5);
        memcpy(hello + out + 5, m + at, len);
        out += 5 + len;
    }
    return out;
}

static void
hello_gives_the_server_name(void **state)
{
    char name[AG_HOST_MAX];

    (void)state;
    size_t n = make_hello("Api.Example.TEST", 600);
    assert_int_equal(bridge_hello_parse(hello, n, name), BRIDGE_HELLO_NAME);
    assert_string_equal(name, "api.example.test");
    n = make_hello("a.test", 7);
    assert_int_equal(bridge_hello_parse(hello, n, name), BRIDGE_HELLO_NAME);
    assert_string_equal(name, "a.test");
}

static void
hello_that_is_not_whole_waits_for_more(void **state)
{
    char name[AG_HOST_MAX];
    size_t n = make_hello("a.test", 20);

    (void)state;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(bridge_hello_parse(hello, i, name), BRIDGE_HELLO_MORE);
}

static void
hello_without_a_usable_name_is_bad(void **state)
{
    char name[AG_HOST_MAX];

    (void)state;
    assert_int_equal(bridge_hello_parse(hello, make_hello(NULL, 600), name),
                     BRIDGE_HELLO_BAD);
    assert_int_equal(bridge_hello_parse(hello, make_hello("", 600), name),
                     BRIDGE_HELLO_BAD);
    assert_int_equal(
        bridge_hello_parse(hello, make_hello("1.2.3.4", 600), name),
        BRIDGE_HELLO_BAD);
    assert_int_equal(
        bridge_hello_parse(hello, make_hello("a.test.", 600), name),
        BRIDGE_HELLO_BAD);
    size_t n = make_hello("a.test", 600);
    hello[5] = 2; /* no ClientHello */
    assert_int_equal(bridge_hello_parse(hello, n, name), BRIDGE_HELLO_BAD);
    n = make_hello("a.test", 600);
    hello[1] = 9; /* no TLS version */
    assert_int_equal(bridge_hello_parse(hello, n, name), BRIDGE_HELLO_BAD);
}

static void
what_is_not_tls_is_plain(void **state)
{
    char name[AG_HOST_MAX];

    (void)state;
    assert_int_equal(bridge_hello_parse("GET / HTTP/1.1", 14, name),
                     BRIDGE_HELLO_PLAIN);
    assert_int_equal(bridge_hello_parse("", 0, name), BRIDGE_HELLO_MORE);
}

static void
proxy_header_names_workload_and_port(void **state)
{
    unsigned char address[16] = {0xfd, 1, 2}, out[BRIDGE_PROXY_HEADER];

    (void)state;
    bridge_proxy_header(address, 40000, 8443, out);
    assert_memory_equal(out, "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24", 16);
    assert_memory_equal(out + 16, address, 16);
    assert_int_equal(out[32], 0xfd);
    assert_int_equal(out[48] << 8 | out[49], 40000);
    assert_int_equal(out[50] << 8 | out[51], 8443);
}

/* ---- init ------------------------------------------------------------ */

static int
event(uint32_t type, int32_t a, int32_t b)
{
    struct init_head h = {INIT_MAGIC, type, 1, a, b}, out;
    struct ag_err err;

    return init_event_parse(&h, sizeof(h), &out, &err);
}

static void
events_of_init_are_bounded(void **state)
{
    struct init_head h = {INIT_MAGIC, INIT_STARTED, 1, 0, 0}, out;
    struct ag_err err;

    (void)state;
    assert_int_equal(event(INIT_STARTED, 0, 0), 0);
    assert_int_equal(event(INIT_EXITED, 255, 0), 0);
    assert_int_equal(event(INIT_EXITED, 0, 9), 0);
    assert_int_equal(event(INIT_EXITED, 256, 0), -1);
    assert_int_equal(event(INIT_EXITED, -1, 0), -1);
    assert_int_equal(event(INIT_EXITED, 1, 9), -1);
    assert_int_equal(event(INIT_EXITED, 0, 65), -1);
    assert_int_equal(event(INIT_FAILED, 0, 0), -1);
    assert_int_equal(event(INIT_PUT_DONE, 2, 0), 0);
    assert_int_equal(event(INIT_FULL, 0, 0), 0);
    assert_int_equal(event(INIT_FULL, 1, 0), -1);
    assert_int_equal(event(INIT_ARM, 0, 0), -1);
    assert_int_equal(init_event_parse(&h, sizeof(h) - 1, &out, &err), -1);
    h.magic = 0;
    assert_int_equal(init_event_parse(&h, sizeof(h), &out, &err), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_for_an_address_is_answered),
        cmocka_unit_test(query_for_ipv6_has_no_answer_and_no_error),
        cmocka_unit_test(query_with_an_option_record_is_accepted),
        cmocka_unit_test(malformed_queries_are_refused),
        cmocka_unit_test(names_are_host_names),
        cmocka_unit_test(hello_gives_the_server_name),
        cmocka_unit_test(hello_that_is_not_whole_waits_for_more),
        cmocka_unit_test(hello_without_a_usable_name_is_bad),
        cmocka_unit_test(what_is_not_tls_is_plain),
        cmocka_unit_test(proxy_header_names_workload_and_port),
        cmocka_unit_test(events_of_init_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
