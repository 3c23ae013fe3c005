/*
 * What the bridge knows of each sandbox: its address, the names it asked for,
 * its two sockets and its connections.
 */
#ifndef SANDBOX_SVC_BRIDGE_SANDBOX_H
#define SANDBOX_SVC_BRIDGE_SANDBOX_H

#include <stdint.h>

#include "lib/loop.h"
#include "sandbox_svc/bridge_dns.h"

#define BRIDGE_NAMES_MAX 1024
#define BRIDGE_CONNS_PER_SANDBOX 256
/* For programs that insist on a proxy: 198.18.0.1, any port. */
#define BRIDGE_PROXY_NAME "proxy.brainbox.internal"
#define BRIDGE_PROXY_ADDRESS 0xc6120001u

struct bridge_conn;
struct bridge_report;

/* One for the process. */
struct bridge {
    struct ag_loop *loop;
    const char *egress_tls, *egress_plain;
    const char *egress_report; /* "": nobody is told of refusals */
    int64_t idle_ms;
    int64_t max_connections;
    int64_t n_connections;
    /* Some sandbox waits for connections of others to end. */
    bool is_full;
    struct bridge_sandbox *sandboxes;
    struct bridge_report *reports;
    int n_reports;
};

struct bridge_sandbox {
    struct bridge_sandbox *next;
    struct bridge *bridge;
    char id[40];
    unsigned char address[16];
    struct ag_io tcp, udp;
    /* names[i] was issued with the i-th address of the range. */
    char *names[BRIDGE_NAMES_MAX];
    int n_names;
    struct bridge_conn *conns;
    int n_conns;
    /* Accepting stops while there are too many, and starts when one ends. */
    bool is_accepting;
    int n_refusals_logged;
    int64_t report_second;
    int n_reported, n_left_out;
};

/* Takes over both descriptors, also on failure. */
struct bridge_sandbox *bridge_sandbox_new(struct bridge *bridge, const char *id,
                                          const unsigned char address[16],
                                          int tcp, int udp, struct ag_err *err);
void bridge_sandbox_free(struct bridge_sandbox *sb);
struct bridge_sandbox *
bridge_sandbox_find(struct bridge *bridge, const char *id);

/* The name that was issued with `address` (host order), or NULL. */
const char *
bridge_sandbox_name(const struct bridge_sandbox *sb, uint32_t address);
/* A connection ended: accept again if that was why not. */
void bridge_sandbox_resume(struct bridge_sandbox *sb);
/* Say why a connection was refused, the first few times. */
void bridge_sandbox_refused(struct bridge_sandbox *sb, const char *why,
                            const char *name);

#endif
