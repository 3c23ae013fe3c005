/* The network of a sandbox: loopback, and two sockets that the bridge serves
 * from outside. */
#ifndef SANDBOX_SVC_LAUNCHER_NET_H
#define SANDBOX_SVC_LAUNCHER_NET_H

struct ag_err;

/*
 * In the child, in its fresh network namespace, still with all capabilities:
 * `lo` up, 198.18.0.0/15 local, every TCP port of it redirected to one
 * listener. *tcp and *udp get the listener and the name server's socket.
 */
int launcher_net_setup(int *tcp, int *udp, struct ag_err *err);

#endif
