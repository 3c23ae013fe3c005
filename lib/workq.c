/*
 * Work queue: a list of jobs, a few threads, and the way back by ag_loop_post.
 */
#include "lib/workq.h"

#include <pthread.h>
#include <stdlib.h>

struct ag_workq {
    struct ag_loop *loop;
    int n_threads;
    size_t limit;
    pthread_t *threads;
    pthread_cond_t ready;
    pthread_mutex_t lock; /* guards: all below */
    struct ag_job *head, **tail;
    size_t n_waiting;
    bool is_closing;
};

static void
job_done(struct ag_task *task)
{
    struct ag_job *job =
        (struct ag_job *)((char *)task - offsetof(struct ag_job, task));

    job->done(job);
}

static struct ag_job *
take_job(struct ag_workq *q)
{
    struct ag_job *job;

    (void)pthread_mutex_lock(&q->lock);
    while (q->head == NULL && !q->is_closing)
        (void)pthread_cond_wait(&q->ready, &q->lock);
    job = q->head;
    if (job != NULL) {
        q->head = job->next;
        if (q->head == NULL)
            q->tail = &q->head;
        q->n_waiting--;
    }
    (void)pthread_mutex_unlock(&q->lock);
    return job;
}

static void *
worker(void *arg)
{
    struct ag_workq *q = arg;
    struct ag_job *job;

    while ((job = take_job(q)) != NULL) {
        job->work(job);
        job->task.fn = job_done;
        ag_loop_post(q->loop, &job->task);
    }
    return NULL;
}

struct ag_workq *
ag_workq_new(struct ag_loop *loop, int threads, size_t limit,
             struct ag_err *err)
{
    struct ag_workq *q = ag_xcalloc(1, sizeof(*q));

    q->loop = loop;
    q->limit = limit;
    q->tail = &q->head;
    q->threads = ag_xcalloc((size_t)threads, sizeof(*q->threads));
    (void)pthread_mutex_init(&q->lock, NULL);
    (void)pthread_cond_init(&q->ready, NULL);
    for (; q->n_threads < threads; q->n_threads++) {
        if (pthread_create(&q->threads[q->n_threads], NULL, worker, q) != 0) {
            ag_err_set(err, AG_ERR_IO, "cannot start a worker thread");
            ag_workq_free(q);
            return NULL;
        }
    }
    return q;
}

void
ag_workq_free(struct ag_workq *q)
{
    if (q == NULL)
        return;
    (void)pthread_mutex_lock(&q->lock);
    q->is_closing = true;
    (void)pthread_cond_broadcast(&q->ready);
    (void)pthread_mutex_unlock(&q->lock);
    for (int i = 0; i < q->n_threads; i++)
        (void)pthread_join(q->threads[i], NULL);
    (void)pthread_cond_destroy(&q->ready);
    (void)pthread_mutex_destroy(&q->lock);
    free(q->threads);
    free(q);
}

int
ag_workq_submit(struct ag_workq *q, struct ag_job *job, struct ag_err *err)
{
    bool is_full;

    job->next = NULL;
    job->q = q;
    (void)pthread_mutex_lock(&q->lock);
    is_full = q->n_waiting >= q->limit;
    if (!is_full) {
        *q->tail = job;
        q->tail = &job->next;
        q->n_waiting++;
        (void)pthread_cond_signal(&q->ready);
    }
    (void)pthread_mutex_unlock(&q->lock);
    if (is_full)
        return ag_err_set(err, AG_ERR_LIMIT, "%zu jobs wait already", q->limit);
    return 0;
}
