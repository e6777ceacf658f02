# Calling the methods of a service: arguments by name, decided once; coroutines stepped without a Task until they suspend.
#
# The first step of a coroutine runs as the hub's parked Task, one that waits on a future of ours and has done nothing
# yet. A coroutine that returns from that step costs no Task. One that suspends is adopted: the parked Task wakes up,
# waits for what the coroutine waits for, and runs it to its end; the hub parks a new one when it needs it. So
# current_task(), timeout() and cancellation mean the same Task before and after the first await.

cdef enum handler_event:
    ON_OPEN
    ON_TEXT_MESSAGE
    ON_BINARY_MESSAGE
    ON_PING
    ON_PONG
    ON_IDLE_TIMEOUT
    ON_BACKLOG
    ON_ERROR
    ON_CLOSE

    MAX_ARGUMENTS = 16

    GIVE_CONNECTION = 0
    GIVE_FIRST = 1             # text, data, error, code
    GIVE_SECOND = 2            # reason
    GIVE_SENT_CODE = 3
    GIVE_RECEIVED_CODE = 4
    GIVE_PATH = 5              # and on: the segments of the path

cdef tuple EVENT_NAMES = ("on_open", "on_text_message", "on_binary_message", "on_ping", "on_pong", "on_idle_timeout",
               "on_backlog", "on_error", "on_close")
cdef dict ARGUMENT_SOURCES = {"connection": GIVE_CONNECTION, "text": GIVE_FIRST, "data": GIVE_FIRST, "error": GIVE_FIRST,
                    "code": GIVE_FIRST, "reason": GIVE_SECOND, "buffered": GIVE_FIRST, "high": GIVE_SECOND,
                    "sent_code": GIVE_SENT_CODE, "received_code": GIVE_RECEIVED_CODE}


@cython.final
@cython.internal
cdef class HandlerCall:
    # One handler of a service, ready to be called
    cdef object function       # a bound method
    cdef str label             # "Chat.said"
    cdef int event
    cdef bint is_async         # a coroutine function: it need not leave the Task of the one before it
    cdef bint told_result      # that what it returns goes nowhere was said
    cdef double slow_time      # seconds that it may keep the loop until that is said; 0: whatever it takes
    cdef int positional
    cdef int count
    cdef uint8_t sources[MAX_ARGUMENTS]
    cdef tuple keywords

    def __cinit__(self, handler, tuple path_names, double slow_time):
        cdef tuple names = tuple(handler.positional) + tuple(handler.keywords)
        if len(names) > MAX_ARGUMENTS:
            raise ConfigurationError(f"{handler.label} takes {len(names)} arguments, at most {MAX_ARGUMENTS} can be given")
        self.function = handler.function
        self.label = handler.label
        self.event = EVENT_NAMES.index(handler.event)
        self.is_async = handler.is_async
        self.slow_time = slow_time
        self.positional = len(handler.positional)
        self.count = len(names)
        self.keywords = tuple(handler.keywords) or None
        for i, name in enumerate(names):
            self.sources[i] = ARGUMENT_SOURCES[name] if name in ARGUMENT_SOURCES else GIVE_PATH + path_names.index(name)

    cdef inline object call(self, Connection connection, object first, object second):
        cdef PyObject *arguments[MAX_ARGUMENTS + 1]
        cdef int i
        cdef uint8_t source
        for i in range(self.count):
            source = self.sources[i]
            if source == GIVE_FIRST:
                arguments[1 + i] = <PyObject *>first
            elif source == GIVE_CONNECTION:
                arguments[1 + i] = <PyObject *>connection
            elif source == GIVE_SECOND:
                arguments[1 + i] = <PyObject *>second
            elif source == GIVE_SENT_CODE:
                arguments[1 + i] = <PyObject *>connection.sent_code
            elif source == GIVE_RECEIVED_CODE:
                arguments[1 + i] = <PyObject *>connection.received_code
            else:
                arguments[1 + i] = PyTuple_GET_ITEM(connection.path_arguments, source - GIVE_PATH)
        return PyObject_Vectorcall(self.function, arguments + 1, self.positional | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   NULL if self.keywords is None else <PyObject *>self.keywords)


@cython.final
@cython.internal
cdef class HandlerTask:
    # What a Task of ours runs: nothing while it is parked, then the one coroutine that it adopted
    cdef Hub hub
    cdef object task
    cdef object idle           # the future that it waits on while parked; None before its first step
    cdef bint retired          # end instead of waiting on
    # The adopted handler
    cdef Connection connection
    cdef HandlerCall handler
    cdef object coroutine
    cdef object awaited        # what its first step waits for, to be passed on to the Task
    cdef bint has_awaited

    cdef bint is_cancelled(self):
        """Whether a handler that ran here asked its Task to cancel and then returned all the same."""
        if self.idle is not None:
            return self.idle.done()
        return self.task._must_cancel

    cdef void adopt(self, Connection connection, HandlerCall handler, object coroutine, object awaited):
        self.connection = connection
        self.handler = handler
        self.coroutine = coroutine
        self.awaited = awaited
        self.has_awaited = True
        self.wake()

    cdef void retire(self):
        self.retired = True
        self.wake()

    cdef void wake(self):
        if self.idle is not None and not self.idle.done():
            self.idle.set_result(None)

    cdef object step(self, object error):
        """One step of the Task: returns what to wait for, raises StopIteration at the end."""
        if self.coroutine is None:
            return self.step_parked(error)
        if self.has_awaited:
            awaited = self.awaited
            self.has_awaited = False
            self.awaited = None
            # A cancellation that came before we could wait goes to what is awaited first, as a Task does it
            if error is None or (awaited is not None and isinstance(error, asyncio.CancelledError) and awaited.cancel()):
                return awaited
        return self.step_handler(error)

    cdef object step_parked(self, object error):
        """Wait for a handler."""
        if error is not None:
            # Somebody cancelled it, with all other tasks perhaps: the next handler gets another
            if self.hub.parked is self:
                self.hub.parked = None
            raise error
        if self.retired or self.idle is not None:
            raise StopIteration
        self.idle = self.hub.loop.create_future()
        self.idle._asyncio_future_blocking = True
        return self.idle

    cdef object step_handler(self, object error):
        """Have the handler go on, in the context of its connection."""
        cdef Connection connection = self.connection
        cdef PyObject *value = NULL
        cdef int outcome = PYGEN_RETURN
        result = failure = None
        watch(self.hub, self.handler)
        PyContext_Enter(connection.context)
        try:
            if error is None:
                outcome = PyIter_Send(self.coroutine, <PyObject *>None, &value)
                result = <object>value
                Py_DECREF(result)
            else:
                result = self.coroutine.throw(error)
                outcome = PYGEN_NEXT
        except StopIteration as stop:
            result = stop.value
        except BaseException as exception:
            failure = exception
        finally:
            PyContext_Exit(connection.context)
        end_stretch(self.hub)
        if outcome != PYGEN_NEXT:
            self.part_with_handler(result, failure)
            raise StopIteration
        return result

    cdef int part_with_handler(self, object result, object failure) except -1:
        """The handler has ended, and this Task ends with it."""
        cdef Connection connection = self.connection
        self.coroutine = None
        self.connection = None
        self.task = None           # or each would keep the other alive
        self.idle = None
        self.retired = True
        return handler_ended(connection, self.handler, result, failure)

    # The coroutine protocol, for the Task

    def send(self, value):
        return self.step(None)

    def throw(self, kind, value=None, traceback=None):
        error = value if value is not None else kind if isinstance(kind, BaseException) else kind()
        return self.step(error)

    def close(self):
        if self.coroutine is not None:
            self.coroutine.close()

    def __next__(self):
        return self.step(None)

    def __iter__(self):
        return self

    def __await__(self):
        return self


collections.abc.Coroutine.register(HandlerTask)


cdef object new_task = functools.partial(asyncio.Task, name="fastws handler")


cdef HandlerTask park(Hub hub):
    """A Task that waits to adopt a handler."""
    cdef HandlerTask parked = HandlerTask.__new__(HandlerTask)
    parked.hub = hub
    # In a context of its own: the current one would keep the current connection alive
    parked.task = hub.base_context.run(new_task, parked, loop=hub.loop)
    return parked


cdef object coroutine_of(object result):
    """The coroutine to step if a handler returned something to await, or None."""
    if PyCoro_CheckExact(result):
        return result
    if isinstance(result, (str, bytes, bytearray, memoryview)) or not inspect.isawaitable(result):
        return None
    return _wait_for(result)


async def _wait_for(awaitable):
    """Have anything with __await__ the methods of a coroutine."""
    return await awaitable


# ---------------------------------------------------------------------------------------------------------------------
# Being the current Task while a coroutine takes its first step

cdef object asyncio_enter_task = asyncio.tasks._enter_task
cdef object asyncio_leave_task = asyncio.tasks._leave_task


cdef int enter_task(Hub hub) except -1:
    if hub.parked is None:
        hub.parked = park(hub)
    try:
        asyncio_enter_task(hub.loop, hub.parked.task)
    except RuntimeError:
        # We were called by a task of somebody else, which steps aside meanwhile
        hub.outer_task = asyncio.current_task(hub.loop)
        asyncio_leave_task(hub.loop, hub.outer_task)
        asyncio_enter_task(hub.loop, hub.parked.task)
    hub.task_entered = True
    return 0


cdef int leave_task(Hub hub) except -1:
    hub.task_entered = False
    asyncio_leave_task(hub.loop, hub.parked.task)
    if hub.outer_task is not None:
        outer, hub.outer_task = hub.outer_task, None
        asyncio_enter_task(hub.loop, outer)
    return 0


cdef int spoil_task(Hub hub) except -1:
    """Part with a parked Task that a handler cancelled and then did not wait."""
    cdef HandlerTask parked = hub.parked
    leave_task(hub)
    hub.parked = None
    parked.retired = True
    return 0


cdef HandlerTask step_aside(Hub hub):
    """Before a connection starts within the first step of another's handler: leave that handler's Task."""
    cdef HandlerTask parked = None
    if hub.task_entered:
        leave_task(hub)
        parked, hub.parked = hub.parked, None
    return parked


cdef int step_back(Hub hub, HandlerTask parked) except -1:
    if parked is not None:
        hub.retire_task()
        hub.parked = parked
        enter_task(hub)
    return 0
