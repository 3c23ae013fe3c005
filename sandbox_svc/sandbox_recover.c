/*
 * Notes that outlived their process become records of calls that were started;
 * whoever asks for one is told that its end is unknown.
 */
#include "sandbox_svc/sandbox_recover.h"

#include "lib/log.h"
#include "sandbox_svc/sandbox_journal.h"
#include "sandbox_svc/sandbox_store.h"

#define RETRY_MS 1000

struct recovery {
    struct sandbox_svc *svc;
    const struct sandbox_note *note;
    int number;
    struct ag_timer retry;
};

static void record(struct recovery *r);

static void
on_retry(struct ag_timer *timer)
{
    record(
        (struct recovery *)((char *)timer - offsetof(struct recovery, retry)));
}

static void
on_recorded(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct recovery *r = arg;

    (void)res;
    if (err != NULL && !r->svc->is_stopping) {
        r->retry.fn = on_retry;
        ag_timer_start(r->svc->loop, &r->retry, RETRY_MS);
        return;
    }
    if (err == NULL) {
        ag_log(AG_WARN, "command.recovered",
               AG_S("session", r->note->session_id),
               AG_S("call", r->note->call_id));
        sandbox_journal_remove(r->svc->journal, r->number);
        r->svc->n_unrecovered--;
    }
    ag_freep(&r);
}

static void
record(struct recovery *r)
{
    sandbox_store_start_first(r->svc->db, r->note, ag_str(""), on_recorded, r);
}

void
sandbox_recover(struct sandbox_svc *svc)
{
    const struct sandbox_note *note;
    int next = 0;

    if (sandbox_journal_is_unsure(svc->journal))
        ag_log(AG_WARN, "journal.unsure");
    while ((note = sandbox_journal_next(svc->journal, &next)) != NULL) {
        struct recovery *r = ag_xcalloc(1, sizeof(*r));
        *r = (struct recovery){.svc = svc, .note = note, .number = next - 1};
        svc->n_unrecovered++;
        record(r);
    }
}
