/*
 * Encoding of the messages between vault_svc and the keeper. Both ends run on
 * one machine and come from one build, so numbers are in host order.
 */
#include "vault_svc/keeper_msg.h"

struct head {
    uint32_t magic;
    uint16_t op, status;
    uint32_t a_len, b_len;
};

static const uint32_t MAGIC = 0x4b424231; /* "KBB1" */

int
keeper_msg_encode(const struct keeper_msg *msg, struct ag_buf *out,
                  struct ag_err *err)
{
    struct head h = {MAGIC, msg->op, msg->status, (uint32_t)msg->a.n,
                     (uint32_t)msg->b.n};

    if (msg->a.n > KEEPER_MSG_MAX || msg->b.n > KEEPER_MSG_MAX
        || sizeof(h) + msg->a.n + msg->b.n > KEEPER_MSG_MAX)
        return ag_err_set(err, AG_ERR_LIMIT,
                          "a keeper message has at most %d bytes",
                          KEEPER_MSG_MAX);
    if (ag_buf_append(out, ag_str_n(&h, sizeof(h)), err) < 0
        || ag_buf_append(out, msg->a, err) < 0
        || ag_buf_append(out, msg->b, err) < 0)
        return -1;
    return 0;
}

int
keeper_msg_decode(ag_str_t raw, struct keeper_msg *msg, struct ag_err *err)
{
    struct head h;

    if (raw.n < sizeof(h) || raw.n > KEEPER_MSG_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "a keeper message has a wrong length");
    memcpy(&h, raw.p, sizeof(h));
    if (h.magic != MAGIC || h.op < KEEPER_CHECK || h.op > KEEPER_SIGN_HEAD
        || h.status > KEEPER_FAILED || h.a_len > KEEPER_MSG_MAX
        || h.b_len > KEEPER_MSG_MAX || sizeof(h) + h.a_len + h.b_len != raw.n)
        return ag_err_set(err, AG_ERR_INVALID, "a keeper message is malformed");
    msg->op = h.op;
    msg->status = h.status;
    msg->a = ag_str_n(raw.p + sizeof(h), h.a_len);
    msg->b = ag_str_n(raw.p + sizeof(h) + h.a_len, h.b_len);
    return 0;
}
