# A loop that is closed under those whom it serves: a program ends without closing its servers, a test its loop.
#
# Nobody can be told of the end then, but what the loop's hub holds is let go: its connections, which are in no registry
# any more, and all that waits for them. The hub serves nobody from there on, also not a later thread of the same number.
# uvloop knows only its own handles, and libuv closes no loop that has any, so ours are closed first.

cdef object closing_of(loop):
    """Our guard in front of the loop's own close, or None."""
    close = getattr(loop, "__dict__", {}).get("close")
    return close if type(close) is CloseGuard else None


cdef int guard_close(loop) except -1:
    """Come before the end of a loop: what it served goes with it, and uvloop closes no loop that has handles of ours."""
    if closing_of(loop) is None and hasattr(loop, "__dict__"):
        loop.close = CloseGuard(loop)
    return 0


cdef int unguard_close(loop) except -1:
    if closing_of(loop) is not None and first_transport_of(loop) is None and not hubs_on(loop):
        del loop.close
    return 0


cdef list hubs_on(loop):
    """All hubs that a loop has: one, or several that stand apart."""
    return [hub for found in hubs.values() for hub in found if (<Hub>hub).loop is loop]


@cython.final
@cython.internal
cdef class CloseGuard:
    # In front of a loop's own close
    cdef object loop           # a weak reference

    def __cinit__(self, loop):
        self.loop = weakref.ref(loop)

    def __call__(self):
        cdef SocketTransport transport
        loop = self.loop()
        if loop.is_running():
            raise RuntimeError("Cannot close a running event loop")
        for hub in hubs_on(loop):
            (<Hub>hub).lose_loop()
        while (transport := first_transport_of(loop)) is not None:
            do_safely(transport._let_go)
        del loop.close
        loop.close()


cdef int do_safely(callback) except -1:
    try:
        callback()
    except Exception:
        logger.exception("an event loop was closed, and then %s failed", repr(callback))
    return 0


cdef int lose(Connection connection) except -1:
    try:
        lose_connection(connection)
    except Exception:
        logger.exception("letting go of %r failed", connection)
    return 0
