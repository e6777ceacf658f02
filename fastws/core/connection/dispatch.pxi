# From an event to its handler.
#
# Handlers of one connection never overlap. While one is suspended what arrives waits in the inbox; when that is full
# reading is paused and what is left of the read waits unparsed.
#
# Events of our own take no room there, or they would have reading paused, and with it pongs and the close frame left
# unread. Each is noted where it comes from and looked at again when the handler is done: on_backlog tells what is then
# unknown still, on_idle_timeout is put off, on_close always comes last. on_error never waits: what it comes from is done.

cdef inline int post(Connection connection, HandlerCall handler, object first, object second) except -1:
    """Call the handler of what the peer sent now, or when those before it are done."""
    if not connection.busy and connection.inbox is None:
        return run_handler(connection, handler, first, second)
    if connection.inbox is None:
        connection.inbox = collections.deque()
    connection.inbox.append((handler, first, second))
    if isinstance(first, (str, bytes)):
        connection.inbox_len += len(first)
    return 0


cdef int take_unhandled(Connection connection, int kind, object payload) except -1:
    """A message that no handler wants: it is awaited, or dropped."""
    if connection.client is not None:
        return connection.client.put(payload)
    return drop_unhandled(connection, kind)


cdef int drop_unhandled(Connection connection, int kind) except -1:
    """Count it; the first of its kind is told of."""
    cdef Endpoint endpoint = connection.endpoint
    endpoint.unhandled += 1
    if not endpoint.told_unhandled & (1 << kind):
        endpoint.told_unhandled |= 1 << kind
        logger.warning(logs.UNHANDLED_MESSAGE, endpoint.name, "text" if kind == EVENT_TEXT else "binary", connection.id,
                       EVENT_NAMES[ON_TEXT_MESSAGE if kind == EVENT_TEXT else ON_BINARY_MESSAGE])
    return 0


cdef tuple take_from_inbox(Connection connection):
    cdef tuple waiting = connection.inbox.popleft()
    if isinstance(waiting[1], (str, bytes)):
        connection.inbox_len -= len(waiting[1])
    if not connection.inbox:
        connection.inbox = None
    return waiting


cdef bint inbox_is_full(Connection connection):
    cdef Endpoint endpoint = connection.endpoint
    return len(connection.inbox) >= endpoint.max_queue or connection.inbox_len >= endpoint.max_message_size


cdef bint something_waits(Connection connection):
    """Whether there is something to do for the connection when a suspended handler is done."""
    return (connection.inbox is not None or connection.leftover is not None or connection.paused
            or connection.close_due or connection.high != connection.told_high)


cdef inline int enter_context(Connection connection) except -1:
    """Make our context the current one until end()."""
    if connection.context is None:
        connection.context = PyContext_Copy(connection.hub.base_context)
        PyContext_Enter(connection.context)
        connection.handling = Handling.__new__(Handling)
        connection.handling.endpoint = connection.endpoint
        connection.handling.connection = connection
        PyContextVar_Set(current_place, connection.handling)
    else:
        PyContext_Enter(connection.context)
    connection.entered = True
    return 0


cdef inline void exit_context(Connection connection):
    if connection.hub.task_entered:
        leave_task(connection.hub)
    connection.entered = False
    PyContext_Exit(connection.context)
    if connection.released:
        connection.context = None


cdef int run_handler(Connection connection, HandlerCall handler, object first, object second) except -1:
    try:
        if not connection.entered:
            enter_context(connection)
        watch(connection.hub, handler)
        if not handler.is_async and connection.hub.task_entered:
            leave_task(connection.hub)
        result = handler.call(connection, first, second)
        if result is not None and type(result) is not str and type(result) is not bytes:
            # What is returned decides, not what the handler is or wraps
            coroutine = coroutine_of(result)
            if coroutine is not None:
                return step_handler(connection, handler, coroutine)
        handler_returned(connection, handler, result)
    except BaseException as error:
        if connection.hub.task_entered and connection.hub.parked.is_cancelled():
            spoil_task(connection.hub)
        handler_failed(connection, handler, error)
    return 0


cdef int step_handler(Connection connection, HandlerCall handler, object coroutine) except -1:
    """Take the first step of a handler that may suspend."""
    cdef PyObject *value = NULL
    cdef int outcome
    if not connection.hub.task_entered:
        enter_task(connection.hub)
    outcome = PyIter_Send(coroutine, <PyObject *>None, &value)
    result = <object>value
    Py_DECREF(result)
    if outcome == PYGEN_NEXT:
        return suspend_handler(connection, handler, coroutine, result)
    if connection.hub.parked.is_cancelled():
        spoil_task(connection.hub)
    return handler_returned(connection, handler, result)


cdef int suspend_handler(Connection connection, HandlerCall handler, object coroutine, object awaited) except -1:
    """Give a handler that awaits something to the Task that it already runs as."""
    cdef HandlerTask parked = connection.hub.parked
    connection.busy = True
    connection.running = parked.task
    leave_task(connection.hub)
    connection.hub.parked = None
    parked.adopt(connection, handler, coroutine, awaited)
    return 0


cdef inline int handler_returned(Connection connection, HandlerCall handler, object result) except -1:
    if result is not None and (handler.event == ON_TEXT_MESSAGE or handler.event == ON_BINARY_MESSAGE):
        if type(result) is str:
            reply_text(connection, <str>result)
        elif type(result) is bytes:
            reply_bytes(connection, <bytes>result)
        else:
            reply_other(connection, handler, result)
        return 0
    if result is not None:
        tell_of_result(handler, result)
    if handler.event >= ON_ERROR:
        after_final_handler(connection, handler.event)
    return 0


cdef void tell_of_result(HandlerCall handler, object result):
    if not handler.told_result:
        handler.told_result = True
        logger.warning(logs.UNUSED_RESULT, handler.label, type(result).__name__)


cdef int reply_other(Connection connection, HandlerCall handler, object result) except -1:
    if isinstance(result, str):
        reply_text(connection, own_text(result))
    elif isinstance(result, (bytes, bytearray, memoryview)):
        reply_bytes(connection, own_bytes(result))
    else:
        raise HandlerError(handler.label, type(result).__name__)
    return 0


cdef void after_final_handler(Connection connection, int event):
    """on_error or on_close is done."""
    if event == ON_ERROR:
        start_close(connection, 1011, "internal error")
    elif event == ON_CLOSE:
        context_done(connection)


cdef int handler_failed(Connection connection, HandlerCall handler, error) except -1:
    try:
        logger.error("%s failed on connection %d", handler.label, connection.id, exc_info=error)
    finally:
        if handler.event >= ON_ERROR:
            after_final_handler(connection, handler.event)
        elif connection.state == OPEN and not connection.failing:
            connection.failing = True
            end_in_failure(connection, error)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    return 0


cdef int end_in_failure(Connection connection, error) except -1:
    """Tell the service of a failed handler, then close; what waits in the inbox is not handled any more."""
    connection.inbox = None
    connection.inbox_len = 0
    connection.leftover = None
    if connection.endpoint.on_error is None:
        start_close(connection, 1011, "internal error")
        return 0
    give_time(connection)
    return run_handler(connection, connection.endpoint.on_error, error, None)


cdef int handler_ended(Connection connection, HandlerCall handler, object result, object failure) except -1:
    """A suspended handler came to its end, in its Task."""
    cdef Connection outer = connection.enter_callback()
    connection.busy = False
    connection.running = None
    try:
        if failure is not None:
            if connection.state == CLOSED and isinstance(failure, asyncio.CancelledError):
                after_final_handler(connection, handler.event)
            else:
                handler_failed(connection, handler, failure)
        else:
            try:
                handler_returned(connection, handler, result)
            except Exception as error:
                handler_failed(connection, handler, error)
    finally:
        connection.leave_callback(outer)
    if something_waits(connection):
        connection.hub.call_soon(connection._go_on)
    elif connection.state == CLOSED:
        context_done(connection)
    return 0
