/*
 * What the launcher tells the bridge: one fixed-size struct a packet. There is
 * no answer.
 */
#ifndef SANDBOX_SVC_BRIDGE_MSG_H
#define SANDBOX_SVC_BRIDGE_MSG_H

#include <stdint.h>

#define BRIDGE_MAGIC 0x61676231u

enum bridge_type {
    /* Serve a sandbox: its TCP listener and its name socket come along, in
     * this order. A sandbox that is known already is begun anew. */
    BRIDGE_ADD = 1,
    /* Drop its names and connections. */
    BRIDGE_REMOVE = 2,
};

struct bridge_msg {
    uint32_t magic;
    uint32_t type;
    char sandbox_id[40];
    /* By which egress knows it. */
    unsigned char address[16];
};

#endif
