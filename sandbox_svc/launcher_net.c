/*
 * Network of a sandbox, by netlink and without a command. There is no
 * interface but `lo`: what a program believes to be the world is the local
 * range 198.18.0.0/15, and a nat rule sends each TCP connection into it to one
 * listener, which learns from SO_ORIGINAL_DST where it was meant to go.
 */
#include "sandbox_svc/launcher_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"

#define SYNTHETIC_NET 0xc6120000u  /* 198.18.0.0 */
#define SYNTHETIC_MASK 0xfffe0000u /* /15 */
/* 198.19.255.254, an address of the sandbox beside 127.0.0.1. */
#define OWN_ADDRESS 0xc613fffeu
/* A port that no program wants for itself. */
#define CAPTURE_PORT 1
#define NAT_OUTPUT_PRIORITY (-100)

static int
loopback_up(struct ag_err *err)
{
    AG_AUTO(ag_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq req = {.ifr_name = "lo"};

    req.ifr_flags = IFF_UP | IFF_RUNNING;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &req) < 0)
        return ag_err_sys(err, "bring lo up");
    return 0;
}

static void
nl_closep(struct mnl_socket **nl)
{
    if (*nl != NULL)
        mnl_socket_close(*nl);
}

/* Read acknowledgements until `last` was acknowledged or one is an error. */
static int
nl_wait(struct mnl_socket *nl, uint32_t last, const char *what,
        struct ag_err *err)
{
    char buf[8192];

    for (;;) {
        ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
        if (n <= 0)
            return ag_err_sys(err, "%s: netlink", what);
        struct nlmsghdr *h = (struct nlmsghdr *)buf;
        int left = (int)n;
        for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
            if (h->nlmsg_type != NLMSG_ERROR)
                continue;
            const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
            if (e->error != 0) {
                errno = -e->error;
                return ag_err_sys(err, "%s", what);
            }
            if (h->nlmsg_seq == last)
                return 0;
        }
    }
}

/* Send one message of the routing family and wait for its answer. */
static int
route_request(struct nlmsghdr *h, const char *what, struct ag_err *err)
{
    AG_AUTO(nl_closep)
    struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
    h->nlmsg_seq = 1;
    if (nl == NULL || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0
        || mnl_socket_sendto(nl, h, h->nlmsg_len) < 0)
        return ag_err_sys(err, "%s: netlink", what);
    return nl_wait(nl, 1, what, err);
}

/* ip route add local 198.18.0.0/15 dev lo */
static int
local_route(struct ag_err *err)
{
    char buf[512];
    struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
    h->nlmsg_type = RTM_NEWROUTE;
    struct rtmsg *r = mnl_nlmsg_put_extra_header(h, sizeof(*r));

    r->rtm_family = AF_INET;
    r->rtm_dst_len = 15;
    r->rtm_table = RT_TABLE_LOCAL;
    r->rtm_protocol = RTPROT_STATIC;
    r->rtm_scope = RT_SCOPE_HOST;
    r->rtm_type = RTN_LOCAL;
    mnl_attr_put_u32(h, RTA_DST, htonl(SYNTHETIC_NET));
    mnl_attr_put_u32(h, RTA_OIF, if_nametoindex("lo"));
    return route_request(h, "local route", err);
}

/* Resolvers that ask for AI_ADDRCONFIG (apt, getent) look up no IPv4 address
 * on a machine whose only one is 127.0.0.1. */
static int
own_address(struct ag_err *err)
{
    char buf[512];
    struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
    h->nlmsg_type = RTM_NEWADDR;
    struct ifaddrmsg *a = mnl_nlmsg_put_extra_header(h, sizeof(*a));

    a->ifa_family = AF_INET;
    a->ifa_prefixlen = 32;
    a->ifa_scope = RT_SCOPE_UNIVERSE;
    a->ifa_index = if_nametoindex("lo");
    mnl_attr_put_u32(h, IFA_LOCAL, htonl(OWN_ADDRESS));
    mnl_attr_put_u32(h, IFA_ADDRESS, htonl(OWN_ADDRESS));
    return route_request(h, "own address", err);
}

/* ---- the nat rule ---------------------------------------------------- */

struct batch {
    char buf[8192];
    struct mnl_nlmsg_batch *b;
    uint32_t seq;
};

static struct nlmsghdr *
batch_message(struct batch *t, uint16_t type, uint16_t flags)
{
    return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(t->b), type,
                                 NFPROTO_IPV4, flags, ++t->seq);
}

static void
batch_table(struct batch *t)
{
    struct nftnl_table *table = nftnl_table_alloc();

    ag_assert(table != NULL);
    nftnl_table_set_str(table, NFTNL_TABLE_NAME, "brainbox");
    nftnl_table_nlmsg_build_payload(
        batch_message(t, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK), table);
    mnl_nlmsg_batch_next(t->b);
    nftnl_table_free(table);
}

static void
batch_chain(struct batch *t)
{
    struct nftnl_chain *chain = nftnl_chain_alloc();

    ag_assert(chain != NULL);
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, "brainbox");
    nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, "capture");
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "nat");
    nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, NF_INET_LOCAL_OUT);
    nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, NAT_OUTPUT_PRIORITY);
    nftnl_chain_nlmsg_build_payload(
        batch_message(t, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK), chain);
    mnl_nlmsg_batch_next(t->b);
    nftnl_chain_free(chain);
}

static struct nftnl_expr *
rule_expr(struct nftnl_rule *rule, const char *name)
{
    struct nftnl_expr *e = nftnl_expr_alloc(name);

    ag_assert(e != NULL);
    nftnl_rule_add_expr(rule, e);
    return e;
}

static void
expr_compare(struct nftnl_rule *rule, const void *data, uint32_t n)
{
    struct nftnl_expr *e = rule_expr(rule, "cmp");

    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
    nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, data, n);
}

/* ip daddr 198.18.0.0/15 meta l4proto tcp redirect to :CAPTURE_PORT */
static void
fill_rule(struct nftnl_rule *rule)
{
    const uint32_t net = htonl(SYNTHETIC_NET), mask = htonl(SYNTHETIC_MASK);
    const uint32_t zero = 0;
    const uint8_t tcp = IPPROTO_TCP;
    const uint16_t port = htons(CAPTURE_PORT);
    struct nftnl_expr *e = rule_expr(rule, "payload");

    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET,
                       offsetof(struct iphdr, daddr));
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, sizeof(net));
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);

    e = rule_expr(rule, "bitwise");
    nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, sizeof(mask));
    nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, &mask, sizeof(mask));
    nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, &zero, sizeof(zero));
    expr_compare(rule, &net, sizeof(net));

    e = rule_expr(rule, "meta");
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
    expr_compare(rule, &tcp, sizeof(tcp));

    e = rule_expr(rule, "immediate");
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
    nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, &port, sizeof(port));
    e = rule_expr(rule, "redir");
    nftnl_expr_set_u32(e, NFTNL_EXPR_REDIR_REG_PROTO_MIN, NFT_REG_1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
}

static void
batch_rule(struct batch *t)
{
    struct nftnl_rule *rule = nftnl_rule_alloc();

    ag_assert(rule != NULL);
    nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, "brainbox");
    nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, "capture");
    fill_rule(rule);
    nftnl_rule_nlmsg_build_payload(
        batch_message(t, NFT_MSG_NEWRULE,
                      NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK),
        rule);
    mnl_nlmsg_batch_next(t->b);
    nftnl_rule_free(rule);
}

static int
redirect(struct ag_err *err)
{
    AG_AUTO(nl_closep)
    struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    struct batch t = {.seq = 0};

    if (nl == NULL || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
        return ag_err_sys(err, "netfilter netlink");
    t.b = mnl_nlmsg_batch_start(t.buf, sizeof(t.buf) / 2);
    nftnl_batch_begin(mnl_nlmsg_batch_current(t.b), ++t.seq);
    mnl_nlmsg_batch_next(t.b);
    batch_table(&t);
    batch_chain(&t);
    batch_rule(&t);
    uint32_t last = t.seq;
    nftnl_batch_end(mnl_nlmsg_batch_current(t.b), ++t.seq);
    mnl_nlmsg_batch_next(t.b);
    ssize_t n = mnl_socket_sendto(nl, mnl_nlmsg_batch_head(t.b),
                                  mnl_nlmsg_batch_size(t.b));
    mnl_nlmsg_batch_stop(t.b);
    if (n < 0)
        return ag_err_sys(err, "netfilter netlink");
    return nl_wait(nl, last, "nat rule", err);
}

/* ---- sockets --------------------------------------------------------- */

static int
bound_socket(int type, uint16_t port, struct ag_err *err)
{
    AG_AUTO(ag_closep)
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0
        || (type == SOCK_STREAM && listen(fd, 128) < 0))
        return ag_err_sys(err, "socket on port %u", port);
    int out = fd;
    fd = -1;
    return out;
}

/* Programs in a sandbox may listen on any port of their loopback. */
static void
allow_low_ports(void)
{
    AG_AUTO(ag_closep)
    int fd = open("/proc/sys/net/ipv4/ip_unprivileged_port_start",
                  O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "0", 1) < 0)
        return; /* they cannot, then */
}

int
launcher_net_setup(int *tcp, int *udp, struct ag_err *err)
{
    if (loopback_up(err) < 0 || local_route(err) < 0 || own_address(err) < 0
        || redirect(err) < 0)
        return -1;
    AG_AUTO(ag_closep) int t = bound_socket(SOCK_STREAM, CAPTURE_PORT, err);
    if (t < 0)
        return -1;
    *udp = bound_socket(SOCK_DGRAM, 53, err);
    if (*udp < 0)
        return -1;
    allow_low_ports();
    *tcp = t;
    t = -1;
    return 0;
}
