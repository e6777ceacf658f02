# A child of a fork has all that its parent has, and no part in it: `net/forking.py` says what becomes of what. Here is
# what concerns the core: its hubs are nobody's any more, and who comes back to one ends.
#
# Python tells of its own forks. One that a library makes past Python is noticed where the child comes to the core first:
# at the end of a callback, with an event or a turn of the loop, or when it calls a function of the API.

cdef object fork_part = None   # parts a child with its parent
cdef object fork_end = None    # ends a child that came back
cdef bint has_left = False     # this process is a child that has


cdef int notice_fork() except -1:
    """Part with the parent if this is a child, and nobody has told us."""
    if fastws_forked and fork_part is not None:
        fork_part()
    return 0


cdef int came_back() except -1:
    """A child that was forked in a callback comes out of it, with a loop behind it that is not its own."""
    notice_fork()
    if has_left and fork_end is not None:
        fork_end()
    return 0


cdef void on_return(void *handle) noexcept nogil:
    with gil:
        came_back()


cdef void watch_return(Hub hub):
    """Have uvloop's loop tell of a child that comes back to it, before it polls.

    Its libuv changes what it polls by a ring (io_uring) that a child shares with its parent, too.
    """
    cdef void *handle
    if hub.uv_loop is NULL:
        return
    handle = calloc(1, POLL_LEN)
    if handle is not NULL and libuv.prepare_init(hub.uv_loop, handle) == 0:
        libuv.prepare_start(handle, on_return)


cdef int refuse(Hub hub, str function) except -1:
    """Say what is wrong with the thread, or the process, that calls a function."""
    notice_fork()
    if hub.orphaned:
        raise ForkedProcessError(function)
    if hub.thread_id != PyThread_get_thread_ident():
        raise WrongThreadError(function)
    return 0


def on_fork(part, end):
    """Set what parts a child of a fork with its parent, and what ends one that comes back to a hub of the parent's."""
    global fork_part, fork_end
    fork_part = part
    fork_end = end


def hold_signals():
    """Hold back the signals of this thread if anything is served."""
    if hubs:
        fastws_hold_signals()


def release_signals():
    """Let through again what `hold_signals` held back."""
    fastws_release_signals()


def abandon_hubs():
    """In a child of a fork: belong to no loop any more.

    Returns the loops, each with whether this thread is the one that ran it, and the descriptors of all SocketTransports.
    """
    global has_left
    cdef list found
    cdef Hub hub
    cdef link_t *link = open_transports.next
    cdef list loops = []
    cdef list descriptors = []
    fastws_part()
    forget_keys()
    for found in hubs.values():
        for hub in found:
            if not hub.loop.is_closed():
                loops.append((hub.loop, hub.thread_id == PyThread_get_thread_ident()))
                watch_return(hub)
            hub.orphaned = True
            hub.thread_id = 0
            hub.senders.wanted = 0
            senders_end(&hub.senders)
    has_left |= len(loops) > 0
    hubs.clear()
    while link != &open_transports:
        descriptors.append((<SocketTransport>link.connection).poll.fd)
        link = link.next
    return loops, descriptors
