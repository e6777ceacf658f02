# The hubs of this process: which one serves a thread and a loop, and who calls from somewhere else.

cdef dict hubs = {}            # thread id -> list of the Hubs that serve there, one for each loop, or more that stand apart
# Of those that stand apart the one that is meant here: in the contexts of all that runs for it
cdef object home = contextvars.ContextVar("fastws.home", default=None)


def hub_of_thread(loop, make_headers, make_query):
    """The hub of the running loop, made when there is none."""
    cdef Hub hub = hub_of_loop(hubs.get(PyThread_get_thread_ident()), loop)
    return Hub(loop, make_headers, make_query) if hub is None else hub


cdef Hub hub_of_loop(list found, object loop):
    for hub in found or ():
        if (<Hub>hub).loop is loop and not (<Hub>hub).apart:
            return <Hub>hub
    return None


cdef Hub hub_here(str function):
    """The hub that serves in this thread: the only one, or of several the one meant here, or that of the loop that runs."""
    cdef list found = None if fastws_forked else hubs.get(PyThread_get_thread_ident())
    cdef Hub hub = None
    if found is not None:
        hub = <Hub>found[0] if len(found) == 1 else hub_of_several(found)
    if hub is None or not hub.servers:
        raise wrong_place(function) or NotServingError(function)
    return hub


cdef Hub hub_of_several(list found):
    cdef list serving
    meant = home.get()
    if meant in found:
        return <Hub>meant
    serving = [hub for hub in found if (<Hub>hub).servers]
    return <Hub>serving[0] if len(serving) == 1 else hub_of_loop(serving, asyncio._get_running_loop())


cdef bint one_serves(list found):
    for hub in found or ():
        if (<Hub>hub).servers:
            return True
    return False


cdef inline object identity(object owner):
    """A key for any object, hashable or not; the Endpoint keeps the object alive."""
    return <size_t><PyObject *>owner


cdef object wrong_place(str function):
    """The error where servers run in other threads only, or in the process that this one was forked from; or None."""
    notice_fork()
    if one_serves(hubs.get(PyThread_get_thread_ident())):
        return None
    for found in list(hubs.values()):
        if one_serves(found):
            return WrongThreadError(function)
    return ForkedProcessError(function) if has_left else None


cdef inline int check_thread(Hub hub, str function) except -1:
    if hub.thread_id != PyThread_get_thread_ident() or fastws_forked:
        refuse(hub, function)
    return 0
