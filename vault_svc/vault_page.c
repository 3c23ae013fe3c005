/* Lists by page: their limit, and their answer by its descriptor. */
#include "vault_svc/vault_page.h"

#define PAGE_DEFAULT 20
#define PAGE_MAX 100

struct vault_page *
vault_page_new(struct vault_op *op, int limit, struct ag_err *err)
{
    struct vault_page *page = ag_arena_alloc(op->arena, sizeof(*page));

    if (limit < 0 || limit > PAGE_MAX) {
        ag_err_set(err, AG_ERR_INVALID, "limit: not between 1 and %d",
                   PAGE_MAX);
        return NULL;
    }
    page->list = NULL;
    page->limit = limit == 0 ? PAGE_DEFAULT : limit;
    return page;
}

int64_t
vault_page_begin(struct vault_op *op, const struct vault_list *list, int limit)
{
    struct ag_err err = AG_ERR_INIT;
    struct vault_page *page = vault_page_new(op, limit, &err);

    if (page == NULL) {
        vault_op_fail(op, &err);
        return -1;
    }
    page->list = list;
    op->state = page;
    return page->limit + 1;
}

/* ---- the answer -------------------------------------------------------- */

static const ProtobufCFieldDescriptor *
field_of(const ProtobufCMessage *m, const char *name, ProtobufCType type)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);

    ag_assert(f != NULL && f->type == type);
    return f;
}

static void *
member(ProtobufCMessage *m, unsigned offset)
{
    return (char *)m + offset;
}

static char *
id_of(ProtobufCMessage *m)
{
    char *id;

    memcpy(&id, member(m, field_of(m, "id", PROTOBUF_C_TYPE_STRING)->offset),
           sizeof(id));
    return id;
}

static void
set_data(ProtobufCMessage *out, ProtobufCMessage **data, size_t n)
{
    const ProtobufCFieldDescriptor *f =
        field_of(out, "data", PROTOBUF_C_TYPE_MESSAGE);

    ag_assert(f->label == PROTOBUF_C_LABEL_REPEATED);
    memcpy(member(out, f->offset), &data, sizeof(data));
    memcpy(member(out, f->quantifier_offset), &n, sizeof(n));
}

static void
set_next_page(ProtobufCMessage *out, const char *id)
{
    const ProtobufCFieldDescriptor *f =
        field_of(out, "next_page", PROTOBUF_C_TYPE_STRING);

    ag_assert((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0);
    memcpy(member(out, f->offset), &id, sizeof(id));
    memcpy(member(out, f->quantifier_offset), &f->id, sizeof(f->id));
}

void
vault_page_reply(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_page *page = op->state;
    ProtobufCMessage *out, **data;
    size_t n;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    n = vault_page_rows(page, ag_db_rows(res));
    data = ag_arena_alloc(op->arena, (n + 1) * sizeof(*data));
    for (size_t i = 0; i < n; i++)
        data[i] = page->list->message(op, res, (int)i);
    out = ag_arena_alloc(op->arena, page->list->response->sizeof_message);
    protobuf_c_message_init(page->list->response, out);
    set_data(out, data, n);
    if (n < (size_t)ag_db_rows(res))
        set_next_page(out, id_of(data[n - 1]));
    ag_rpc_reply(op->call, out);
}
