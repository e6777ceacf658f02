# Handlers that keep the loop for long: while one runs nobody else is served, and a handler that blocks is a mistake that is
# easily made and hardly found. It is told of once, with its name and time.
#
# No message pays for that. Calls of one handler that follow each other in one callback are one stretch, and the clock is
# read where a stretch begins and where it ends: twice a read, however many messages that brings. What is called by a
# handler from within ends its stretch, so that the time of one is never told of another.

cdef extern from *:
    """
    #include <time.h>
    /* Of the last tick of the kernel: no more than 10 ms old, and read like a variable. */
    #ifdef CLOCK_MONOTONIC_COARSE
    #define FASTWS_COARSE_CLOCK CLOCK_MONOTONIC_COARSE
    #else
    #define FASTWS_COARSE_CLOCK CLOCK_MONOTONIC
    #endif
    static inline double fastws_coarse_time(void) {
        struct timespec now;
        clock_gettime(FASTWS_COARSE_CLOCK, &now);
        return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    }
    """
    double fastws_coarse_time() noexcept nogil


cdef inline int watch(Hub hub, HandlerCall handler) except -1:
    """A handler is about to be called."""
    if hub.watched is not handler:
        begin_stretch(hub, handler)
    return 0


cdef int begin_stretch(Hub hub, HandlerCall handler) except -1:
    end_stretch(hub)
    hub.watched = handler
    if handler.slow_time:
        hub.watched_since = fastws_coarse_time()
    return 0


cdef int end_stretch(Hub hub) except -1:
    """No handler runs any more, or another one is to."""
    cdef HandlerCall handler = hub.watched
    hub.watched = None
    if handler is not None and handler.slow_time:
        tell_if_slow(handler, fastws_coarse_time() - hub.watched_since)
    return 0


cdef int tell_if_slow(HandlerCall handler, double seconds) except -1:
    if not handler.slow_time or seconds < handler.slow_time:
        return 0
    handler.slow_time = 0          # once is enough
    logger.warning(logs.SLOW_HANDLER, handler.label, seconds)
    return 0
