/* Forks: whether this process is a child, and no signal while one is made.
 *
 * Python calls hooks of ours around its own forks. One that is made past
 * Python, by a library, is told by the C library alone, and may come at any
 * moment: it is noted here and seen to when the child comes to us.
 */
#ifndef FASTWS_FORK_H
#define FASTWS_FORK_H

#include <pthread.h>
#include <signal.h>

/* This process is a child, and has not parted with its parent yet. */
static volatile int fastws_forked;

static void fastws_note_fork(void)
{
    fastws_forked = 1;
}

static inline int fastws_watch_forks(void)
{
    return pthread_atfork(NULL, NULL, fastws_note_fork);
}

static inline void fastws_part(void)
{
    fastws_forked = 0;
}

/* What this thread let through before its signals were held back; a child has the thread that made it, and no other. */
static __thread sigset_t fastws_let_through;
static __thread int fastws_holds;

static inline void fastws_hold_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    fastws_holds = pthread_sigmask(SIG_SETMASK, &all, &fastws_let_through) == 0;
}

static inline void fastws_release_signals(void)
{
    if (fastws_holds)
        pthread_sigmask(SIG_SETMASK, &fastws_let_through, NULL);
    fastws_holds = 0;
}

#endif
