/* Threads that help with one piece of work at a time, and sleep in between.
 *
 * fastws_crew_run() has every helper and the caller do the same work, each with
 * a number of its own, and returns when all of them are done: whoever calls it
 * shares its data for exactly that long, and needs no lock for it before or
 * afterwards. The helpers know nothing of Python.
 */
#ifndef FASTWS_CREW_H
#define FASTWS_CREW_H

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

typedef void (*fastws_work_t)(void *job, int member);

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t begin; /* a round has begun, or all is over */
    pthread_cond_t done; /* the last helper has ended its round */
    unsigned round;
    int busy; /* helpers that are still at it */
    int over;
    int joined; /* helpers that know their number */
    int count;
    pid_t process; /* that has the threads: a fork does not */
    fastws_work_t work;
    void *job;
    pthread_t helpers[];
} fastws_crew_t;

static inline void *fastws_crew_help(void *argument)
{
    fastws_crew_t *crew = argument;
    unsigned seen = 0;
    int member;
    pthread_mutex_lock(&crew->lock);
    member = ++crew->joined;
    for (;;) {
        while (crew->round == seen && !crew->over)
            pthread_cond_wait(&crew->begin, &crew->lock);
        if (crew->over)
            break;
        seen = crew->round;
        pthread_mutex_unlock(&crew->lock);
        crew->work(crew->job, member);
        pthread_mutex_lock(&crew->lock);
        if (--crew->busy == 0)
            pthread_cond_signal(&crew->done);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* So many helpers, or as many as the system has threads for. */
static inline fastws_crew_t *fastws_crew_new(int count)
{
    fastws_crew_t *crew = calloc(1, sizeof(*crew) + (size_t)count * sizeof(pthread_t));
    sigset_t all, before;
    if (crew == NULL)
        return NULL;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->begin, NULL);
    pthread_cond_init(&crew->done, NULL);
    crew->process = getpid();
    /* Signals are for the threads that wait for them */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (crew->count < count && pthread_create(&crew->helpers[crew->count], NULL, fastws_crew_help, crew) == 0)
        crew->count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return crew;
}

/* Have everybody do the work: the caller is member 0, and in a child of a fork there is nobody else. */
static inline void fastws_crew_run(fastws_crew_t *crew, fastws_work_t work, void *job)
{
    if (crew->process != getpid()) {
        work(job, 0);
        return;
    }
    pthread_mutex_lock(&crew->lock);
    crew->work = work;
    crew->job = job;
    crew->busy = crew->count;
    crew->round++;
    pthread_cond_broadcast(&crew->begin);
    pthread_mutex_unlock(&crew->lock);
    work(job, 0);
    pthread_mutex_lock(&crew->lock);
    while (crew->busy)
        pthread_cond_wait(&crew->done, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
}

static inline void fastws_crew_end(fastws_crew_t *crew)
{
    int i;
    if (crew->process == getpid()) {
        pthread_mutex_lock(&crew->lock);
        crew->over = 1;
        pthread_cond_broadcast(&crew->begin);
        pthread_mutex_unlock(&crew->lock);
        for (i = 0; i < crew->count; i++)
            pthread_join(crew->helpers[i], NULL);
        pthread_mutex_destroy(&crew->lock);
        pthread_cond_destroy(&crew->begin);
        pthread_cond_destroy(&crew->done);
    }
    free(crew);
}

/* Take the next `step` pieces of what all members share; the first of them. */
static inline size_t fastws_crew_take(size_t *next, size_t step)
{
    return __atomic_fetch_add(next, step, __ATOMIC_RELAXED);
}

#endif
