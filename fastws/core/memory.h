/* Memory of ours, which comes from the C library.
 *
 * In debug builds a test may have one of the next allocations fail, so that it sees what becomes of a failure at every
 * place where memory is taken. In all others these are the functions of the C library, and nothing else.
 */
#ifndef FASTWS_MEMORY_H
#define FASTWS_MEMORY_H

#include <stdlib.h>

#ifdef FASTWS_DEBUG

static long fastws_failing; /* how many allocations from now one fails; 0: none */

static inline int fastws_fails(void)
{
    return fastws_failing != 0 && --fastws_failing == 0;
}

/* Have the allocation that comes so many from now fail; returns how many were still to come until the last one that
 * was asked for: 0 when it has failed. -1 where none can. */
static inline long fastws_fail(long count)
{
    long left = fastws_failing;
    fastws_failing = count;
    return left;
}

#define fastws_malloc(length) (fastws_fails() ? NULL : malloc(length))
#define fastws_calloc(count, length) (fastws_fails() ? NULL : calloc(count, length))
#define fastws_realloc(block, length) (fastws_fails() ? NULL : realloc(block, length))

#else

static inline long fastws_fail(long count)
{
    (void)count;
    return -1;
}

#define fastws_malloc malloc
#define fastws_calloc calloc
#define fastws_realloc realloc

#endif

#endif
