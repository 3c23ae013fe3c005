/*
 * The closed set of messages between vault_svc and the keeper: one SEQPACKET
 * datagram each way, a head and up to two byte strings. Both sides check every
 * message they read.
 */
#ifndef KEEPER_MSG_H
#define KEEPER_MSG_H

#include "lib/buf.h"

enum {
    KEEPER_MSG_MAX = 4096,
    KEEPER_WRAPPED_BYTES = 12 + 32 + 16,
    KEEPER_SIGNATURE_BYTES = 64,
    KEEPER_INTERMEDIATE_SECONDS = 24 * 3600,
};

enum keeper_op {
    KEEPER_CHECK = 1, /* () -> assertion public key, root certificate DER */
    KEEPER_WRAP,      /* (aad, data key) -> wrapped key */
    KEEPER_UNWRAP,    /* (aad, wrapped key) -> data key */
    KEEPER_MAC,       /* (domain, message) -> HMAC-SHA256 */
    KEEPER_SIGN_ASSERTION, /* (serialized Assertion) -> signature */
    KEEPER_SIGN_CA,        /* (P-256 public key, SPKI DER) -> certificate DER */
    KEEPER_SIGN_HEAD,      /* ("TENANT SEQ MAC TIME_US") -> signature */
};

enum keeper_status {
    KEEPER_OK,
    KEEPER_INVALID, /* the message breaks a rule */
    KEEPER_CORRUPT, /* the wrapped key does not open under this master key */
    KEEPER_FAILED,
};

struct keeper_msg {
    uint16_t op;     /* enum keeper_op */
    uint16_t status; /* enum keeper_status; 0 in a request */
    ag_str_t a, b;
};

/* Append the datagram to `out`. */
int keeper_msg_encode(const struct keeper_msg *msg, struct ag_buf *out,
                      struct ag_err *err);
/* `msg` points into `raw`. AG_ERR_INVALID for anything malformed. */
int keeper_msg_decode(ag_str_t raw, struct keeper_msg *msg, struct ag_err *err);

#endif
