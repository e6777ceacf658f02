# One live connection: its states, the way of a message to its handler, the closing handshake, ping and flow control.
#
# States (RFC 6455 4.1, 7.1):
#
#     CONNECTING --start()--> OPEN --close(), a close frame, fail()--> CLOSING --both close frames, or the end--> CLOSED
#                               |                                                                                  ^
#                               +------------- fail(), too slow, the transport is lost ----------------------------+
#
# CLOSED is the end as the service sees it: out of every registry, on_close is due. The transport may live on a little,
# to let the peer read our close frame. When both on_close and the transport are done the connection is released.
#
# Handlers of one connection never overlap. While one is suspended what arrives waits in the inbox; when that is full
# reading is paused and what is left of the read waits unparsed. on_close always comes last.

cdef enum connection_state:
    CONNECTING
    OPEN
    CLOSING
    CLOSED

cdef object logger = logging.getLogger("fastws")
# The Connection whose handler runs, or the Endpoint of a service whose background work does
cdef object current_place = contextvars.ContextVar("fastws.current_place")

cdef double HANG_UP_TIMEOUT = 2.0  # seconds, at most `close_timeout`

cdef dict FAIL_REASONS = {1002: "protocol error", 1007: "invalid UTF-8", 1009: "message too big"}


@cython.final
cdef class Endpoint:
    # What the connections of one service share: handlers and limits, decided once, and the set of all of them
    cdef readonly Hub hub
    cdef readonly str name
    cdef readonly Members members
    cdef HandlerCall on_open
    cdef HandlerCall on_text_message
    cdef HandlerCall on_binary_message
    cdef HandlerCall on_ping
    cdef HandlerCall on_pong
    cdef HandlerCall on_idle_timeout
    cdef HandlerCall on_error
    cdef HandlerCall on_close
    cdef Py_ssize_t path_len   # segments of the path that handlers may name
    cdef uint64_t max_message_size
    cdef size_t max_backlog
    cdef Py_ssize_t max_queue
    cdef double ping_interval  # seconds; 0 is off, as for all of these
    cdef double ping_timeout
    cdef double idle_timeout
    cdef double close_timeout
    cdef readonly Py_ssize_t live      # connections not yet released
    cdef readonly uint64_t unhandled   # messages that no handler wanted

    def __cinit__(self, Hub hub, str name, list handlers, tuple path_names, *, uint64_t max_message_size,
                  size_t max_backlog, Py_ssize_t max_queue, ping_interval, ping_timeout, idle_timeout, close_timeout):
        cdef dict calls = {handler.event: HandlerCall(handler, path_names) for handler in handlers}
        self.hub = hub
        self.name = name
        self.members = Members()
        self.on_open = calls.get("on_open")
        self.on_text_message = calls.get("on_text_message")
        self.on_binary_message = calls.get("on_binary_message")
        self.on_ping = calls.get("on_ping")
        self.on_pong = calls.get("on_pong")
        self.on_idle_timeout = calls.get("on_idle_timeout")
        self.on_error = calls.get("on_error")
        self.on_close = calls.get("on_close")
        self.path_len = len(path_names)
        self.max_message_size = max_message_size
        self.max_backlog = max_backlog
        self.max_queue = max_queue
        self.ping_interval = ping_interval or 0.0
        self.ping_timeout = ping_timeout or 0.0
        self.idle_timeout = idle_timeout or 0.0
        self.close_timeout = close_timeout
        for seconds in (ping_interval, ping_timeout, idle_timeout, close_timeout):
            hub.need_resolution(seconds)


@cython.final
cdef class Connection:
    # Sending, first: the fan-out touches nothing else
    cdef outlet_t outlet
    cdef Py_ssize_t place      # in the endpoint's members, or -1
    # Receiving
    cdef reader_t reader
    cdef double last_seen      # loop time, coarse: any byte came
    cdef double last_message   # a message came
    cdef double ping_sent      # 0 when none is under way
    cdef double deadline       # 0, or when to give up waiting
    cdef link_t link
    cdef Hub hub
    cdef Endpoint endpoint
    cdef object transport      # None once it is lost
    cdef object last_address   # the peer's, from then on
    # State
    cdef readonly uint64_t id
    cdef uint8_t state
    cdef uint8_t close_sent
    cdef uint8_t close_received
    cdef uint8_t failing          # a handler failed: 1011 goes out when on_error is done
    cdef uint8_t busy             # a handler is suspended
    cdef uint8_t paused           # reading is
    cdef uint8_t entered          # our context is the current one
    cdef uint8_t released
    cdef int code              # of the close frame that counts
    cdef str reason
    # Handlers
    cdef object context        # contextvars.Context of all handlers of this connection
    cdef object running        # the Task of the suspended handler
    cdef object inbox          # deque of (handler, first, second) that wait for it, or None
    cdef size_t inbox_len      # characters and bytes of the messages in it
    cdef bytearray leftover    # bytes not parsed because the inbox is full
    cdef bytes pong            # to be answered when the peer reads again
    cdef list drain_waiters
    # What the peer asked for
    cdef readonly str path
    cdef readonly str subprotocol
    cdef tuple path_arguments
    cdef str query_string
    cdef bytes head
    # Registries
    cdef dict memberships      # Group -> our place in it
    cdef set names             # that we are stored under
    cdef dict own_attributes
    cdef object __weakref__

    def __cinit__(self, Endpoint endpoint not None, *, bint client=False):
        self.endpoint = endpoint
        self.hub = endpoint.hub
        self.id = self.hub.next_id()
        self.place = -1
        self.path = "/"
        self.reason = ""
        outlet_init(&self.outlet, <PyObject *>self, endpoint.max_backlog, client)
        reader_init(&self.reader, endpoint.max_message_size, not client)
        link_init(&self.link, <PyObject *>self)

    def __dealloc__(self):
        outlet_drop(&self.outlet)
        reader_reset(&self.reader)
        link_remove(&self.link)

    # -- opening

    def start(self, transport, bytes response, rest, *, str path="/", str query="", bytes head=b"",
              str subprotocol=None, tuple path_arguments=()):
        """Take over a transport whose opening handshake is done; `response` is still to be sent, `rest` was read."""
        if self.state != CONNECTING or len(path_arguments) != self.endpoint.path_len:
            raise ValueError("a connection starts once, with as many path arguments as its service has")
        self.transport = transport
        self.path = path
        self.query_string = query
        self.head = head
        self.subprotocol = subprotocol
        self.path_arguments = path_arguments
        self.outlet.fd = plain_socket(transport)
        self.outlet.accepting = True
        self.state = OPEN
        self.hub.live += 1
        self.endpoint.live += 1
        self.endpoint.members.add_connection(self)
        self.hub.start_ticking()
        self.last_seen = self.last_message = self.hub.now
        self.arm()
        transport.set_protocol(self)
        if transport.get_write_buffer_size():
            # The answer to an earlier request of the same peer is still on its way
            transport.set_write_buffer_limits(high=0)
            self.outlet.blocked = True
        cdef HandlerTask parked = step_aside(self.hub)
        cdef Connection outer = self.begin()
        try:
            if response:
                push_bytes(self, response)
                if self.outlet.blocked:
                    self.send_now()
            if self.endpoint.on_open is not None:
                self.run(self.endpoint.on_open, None, None)
            if rest:
                self.receive_own(bytearray(rest))
        finally:
            self.end(outer)
            step_back(self.hub, parked)

    # -- one callback of ours

    cdef inline Connection begin(self):
        """Enter a callback: what is pushed to this connection collects until end()."""
        cdef Connection outer = self.hub.current
        self.hub.current = self
        return outer

    cdef inline void end(self, Connection outer):
        cdef Hub hub = self.hub
        cdef outlet_t *outlet = &self.outlet
        hub.current = outer
        if self.entered:
            self.exit()
        if outlet.pending is not NULL and not outlet.dirty:
            self.send_now()

    cdef inline void send_now(self):
        """Send what is pending; a chunk that had room for many replies is kept for the next who needs one."""
        cdef outlet_t *outlet = &self.outlet
        cdef chunk_t *chunk = outlet.pending
        if chunk is NULL:
            return
        if JOIN_LEN <= chunk.capacity <= 2 * JOIN_LEN and chunk.refs == 1 and self.hub.cork is NULL and outlet.fd >= 0:
            chunk.refs += 1
            outlet_send(outlet)
            if outlet.pending is NULL:
                chunk.length = 0
                self.hub.cork = chunk
                return
            chunk.refs -= 1
        elif chunk_total(chunk) >= RELEASE_GIL_LEN:
            with nogil:
                outlet_send(outlet)
        else:
            outlet_send(outlet)
        if outlet.pending is not NULL:
            self.sent_pending()

    # -- receiving

    cdef int receive(self, uint8_t *position, uint8_t *end) except -1:
        """Handle what a read brought, until it is used up, the inbox is full or the connection ends."""
        cdef PyObject *result
        cdef int kind
        while position < end:
            if self.close_received or self.state == CLOSED:
                return 0
            if self.leftover is not None or (self.inbox is not None and self.inbox_is_full()):
                self.pause(PyByteArray_FromStringAndSize(<char *>position, end - position))
                return 0
            result = NULL
            kind = reader_next(&self.reader, &position, end, &result)
            if kind == EVENT_NONE:
                continue
            if kind < 0:
                self.fail(-kind, FAIL_REASONS[-kind])
                return 0
            payload = <object>result
            Py_DECREF(payload)
            if kind <= EVENT_BINARY:
                self.message(kind, payload)
            else:
                self.control(kind, payload)
        return 0

    cdef int receive_own(self, bytearray data) except -1:
        cdef uint8_t *position = <uint8_t *>PyByteArray_AS_STRING(data)
        return self.receive(position, position + PyByteArray_GET_SIZE(data))

    cdef inline int message(self, int kind, object payload) except -1:
        cdef HandlerCall handler
        if self.state != OPEN or self.failing:
            return 0
        self.last_message = self.hub.now
        handler = self.endpoint.on_text_message if kind == EVENT_TEXT else self.endpoint.on_binary_message
        if handler is None:
            self.endpoint.unhandled += 1
            return 0
        return self.post(handler, payload, None)

    cdef int control(self, int kind, bytes payload) except -1:
        cdef HandlerCall handler
        if kind == EVENT_CLOSE:
            self.close_frame(payload)
            return 0
        if kind == EVENT_PING:
            if not self.close_sent:
                self.send_pong(payload)
            handler = self.endpoint.on_ping
        else:
            handler = self.endpoint.on_pong
        if handler is not None and self.state == OPEN and not self.failing:
            self.post(handler, payload, None)
        return 0

    cdef void send_pong(self, bytes payload):
        # "An endpoint MAY elect to send a Pong frame in response only to the most recently processed Ping frame" (5.5.3)
        if self.outlet.blocked:
            self.pong = payload
        else:
            push_control(self, OP_PONG, payload)

    cdef void pause(self, bytearray leftover):
        if self.leftover is not None:
            leftover = self.leftover + leftover
        self.leftover = leftover
        if not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()

    # -- handlers

    cdef inline int post(self, HandlerCall handler, object first, object second) except -1:
        """Call a handler now, or when those before it are done."""
        if not self.busy and self.inbox is None:
            return self.run(handler, first, second)
        if self.inbox is None:
            self.inbox = collections.deque()
        self.inbox.append((handler, first, second))
        if isinstance(first, (str, bytes)):
            self.inbox_len += len(first)
        return 0

    cdef tuple take_from_inbox(self):
        cdef tuple waiting = self.inbox.popleft()
        if isinstance(waiting[1], (str, bytes)):
            self.inbox_len -= len(waiting[1])
        if not self.inbox:
            self.inbox = None
        return waiting

    cdef bint inbox_is_full(self):
        return len(self.inbox) >= self.endpoint.max_queue or self.inbox_len >= self.endpoint.max_message_size

    cdef inline int enter(self) except -1:
        """Make our context the current one until end()."""
        if self.context is None:
            self.context = PyContext_Copy(self.hub.base_context)
            PyContext_Enter(self.context)
            PyContextVar_Set(current_place, self)
        else:
            PyContext_Enter(self.context)
        self.entered = True
        return 0

    cdef inline void exit(self):
        if self.hub.task_entered:
            leave_task(self.hub)
        self.entered = False
        PyContext_Exit(self.context)
        if self.released:
            self.context = None

    cdef int run(self, HandlerCall handler, object first, object second) except -1:
        cdef PyObject *value = NULL
        cdef int outcome
        try:
            if not self.entered:
                self.enter()
            if handler.is_async:
                coroutine = handler.call(self, first, second)
                if not self.hub.task_entered:
                    enter_task(self.hub)
                outcome = PyIter_Send(coroutine, <PyObject *>None, &value)
                result = <object>value
                Py_DECREF(result)
                if outcome == PYGEN_NEXT:
                    self.suspend(handler, coroutine, result)
                    return 0
                if self.hub.parked.is_cancelled():
                    spoil_task(self.hub)
            else:
                if self.hub.task_entered:
                    leave_task(self.hub)
                result = handler.call(self, first, second)
            self.handler_returned(handler, result)
        except BaseException as error:
            if self.hub.task_entered and self.hub.parked.is_cancelled():
                spoil_task(self.hub)
            self.handler_failed(handler, error)
        return 0

    cdef int suspend(self, HandlerCall handler, object coroutine, object awaited) except -1:
        """Give a handler that awaits something to the Task that it already runs as."""
        cdef HandlerTask parked = self.hub.parked
        self.busy = True
        self.running = parked.task
        leave_task(self.hub)
        self.hub.parked = None
        parked.adopt(self, handler, coroutine, awaited)
        return 0

    cdef inline int handler_returned(self, HandlerCall handler, object result) except -1:
        if result is not None and (handler.event == ON_TEXT_MESSAGE or handler.event == ON_BINARY_MESSAGE):
            if type(result) is str:
                push_str(self, <str>result)
            elif type(result) is bytes:
                push_message(self, OP_BINARY, <uint8_t *>PyBytes_AS_STRING(result), PyBytes_GET_SIZE(result), result)
            else:
                self.reply_other(handler, result)
        elif handler.event >= ON_ERROR:
            self.last_words(handler.event)
        return 0

    cdef int reply_other(self, HandlerCall handler, object result) except -1:
        if isinstance(result, str):
            push_str(self, str(result))
        elif isinstance(result, (bytes, bytearray, memoryview)):
            push_data(self, result)
        else:
            raise HandlerError(handler.label, type(result).__name__)
        return 0

    cdef void last_words(self, int event):
        """on_error or on_close is done."""
        if event == ON_ERROR:
            self.start_close(1011, "internal error")
        elif event == ON_CLOSE:
            self.context_done()

    cdef int handler_failed(self, HandlerCall handler, error) except -1:
        logger.error("%s failed on connection %d", handler.label, self.id, exc_info=error)
        if handler.event >= ON_ERROR:
            self.last_words(handler.event)
        elif self.state == OPEN and not self.failing:
            self.failing = True
            self.end_in_failure(error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        return 0

    cdef int end_in_failure(self, error) except -1:
        """Tell the service of a failed handler, then close; what waits in the inbox is not handled any more."""
        self.inbox = None
        self.inbox_len = 0
        self.leftover = None
        if self.endpoint.on_error is None:
            self.start_close(1011, "internal error")
            return 0
        self.give_time()
        return self.post(self.endpoint.on_error, error, None)

    cdef int handler_ended(self, HandlerCall handler, object result, object failure) except -1:
        """A suspended handler came to its end, in its Task."""
        cdef Connection outer = self.begin()
        self.busy = False
        self.running = None
        try:
            if failure is not None:
                if self.state == CLOSED and isinstance(failure, asyncio.CancelledError):
                    self.last_words(handler.event)
                else:
                    self.handler_failed(handler, failure)
            else:
                try:
                    self.handler_returned(handler, result)
                except Exception as error:
                    self.handler_failed(handler, error)
        finally:
            self.end(outer)
        if self.inbox is not None or self.leftover is not None or self.paused:
            self.hub.call_soon(self._go_on)
        elif self.state == CLOSED:
            self.context_done()
        return 0

    def _go_on(self):
        """Handle what waited for a suspended handler."""
        cdef Connection outer = self.begin()
        try:
            while self.inbox is not None and not self.busy:
                handler, first, second = self.take_from_inbox()
                self.run(handler, first, second)
            leftover, self.leftover = self.leftover, None
            if leftover is not None:
                self.receive_own(leftover)
            if self.paused and self.leftover is None and self.transport is not None:
                self.paused = False
                self.transport.resume_reading()
        finally:
            self.end(outer)
        if self.state == CLOSED and not self.busy:
            self.context_done()

    # -- closing (RFC 6455 7)

    cdef bint start_close(self, int code, str reason) except *:
        """Send a close frame and wait for the peer's."""
        if self.state != OPEN:
            return False
        self.send_close(code, reason)
        return True

    cdef void send_close(self, int code, str reason):
        self.state = CLOSING
        self.outlet.accepting = False
        self.close_sent = True
        if not self.close_received:
            self.code = code
            self.reason = reason
        push_control(self, OP_CLOSE, make_close(code, reason))
        self.give_time()

    cdef int close_frame(self, bytes payload) except -1:
        """The peer's close frame: answer it unless it is the answer, then let go of the transport."""
        code, reason = parse_close(payload)
        if code < 0:
            self.fail(-code, FAIL_REASONS[-code])
            return 0
        self.close_received = True
        self.code = code
        self.reason = reason
        if not self.close_sent:
            # "the endpoint typically echos the status code it received" (5.5.1)
            self.send_close(code, "")
        self.outlet.finishing = True
        if self.outlet.pending is NULL:
            self.finish_sending()
        self.ended()
        if not self.busy:
            # Nobody has anything to say any more: the peer only has to hang up
            self.deadline = min(self.deadline, self.hub.now + HANG_UP_TIMEOUT)
            self.arm()
        return 0

    cdef int fail(self, int code, str reason) except -1:
        """Fail the WebSocket Connection (7.1.7): say why, take nothing more, and end it for the service at once."""
        if self.state == CLOSED:
            return 0
        if not self.close_sent:
            self.send_close(code, reason)
        reader_reset(&self.reader)
        self.leftover = None
        self.outlet.finishing = True
        if self.outlet.pending is NULL:
            self.finish_sending()
        self.ended()
        return 0

    cdef void finish_sending(self):
        """Once all is sent: end our direction. The transport closes when the peer ends its own, or at the deadline.

        Closing a socket with unread input would reset it, and the reset may overtake our close frame.
        """
        cdef outlet_t *outlet = &self.outlet
        if outlet.pending is not NULL or outlet.backlog is not NULL or outlet.blocked or self.transport is None:
            return
        outlet.finishing = False
        outlet.sealed = True
        outlet.fd = -1
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()
        except (OSError, RuntimeError):
            self.transport.abort()

    cdef int ended(self) except -1:
        """End the connection for the service: leave every registry, then on_close."""
        cdef Connection outer
        if self.state == CLOSED:
            return 0
        self.state = CLOSED
        self.outlet.accepting = False
        if not self.close_received and not self.close_sent:
            self.code = 1006
        leave_registries(self)
        self.give_time()
        if self.endpoint.on_close is None:
            if not self.busy and self.inbox is None:
                self.context_done()
            return 0
        outer = self.begin()
        try:
            self.post(self.endpoint.on_close, self.code, self.reason)
        finally:
            self.end(outer)
        return 0

    cdef void context_done(self):
        """The last handler is done."""
        self.context = None if not self.entered else self.context
        self.release()

    cdef void release(self):
        """Let go of everything once the service and the transport are both done with us."""
        if self.released or self.transport is not None or self.state != CLOSED or self.busy or self.inbox is not None:
            return
        self.released = True
        link_remove(&self.link)
        self.hub.live -= 1
        self.endpoint.live -= 1

    cdef void overflowed(self):
        """The peer does not read what is sent to it: drop it all but what the transport holds."""
        if self.state == CLOSED:
            return
        outlet_drop(&self.outlet)
        self.outlet.queued = self.outlet.handed
        self.fail(1013, "too slow")

    cdef void give_time(self):
        """Wait so long for the peer, or for a handler, and no longer."""
        self.deadline = self.hub.now + self.endpoint.close_timeout
        self.arm()

    cdef void give_up(self):
        """A deadline passed: the peer does not close, or a handler does not end."""
        if self.transport is not None:
            self.transport.abort()
        if self.state == CLOSED:
            if self.running is not None:
                self.running.cancel()
            self.give_time()

    # -- time

    cdef void arm(self):
        """Be looked at again when the next deadline may have come."""
        cdef Endpoint endpoint = self.endpoint
        cdef double now = self.hub.now
        cdef double due = self.deadline or 1e300
        if self.state == OPEN:
            if self.ping_sent and endpoint.ping_timeout:
                due = min(due, self.ping_sent + endpoint.ping_timeout)
            if endpoint.ping_interval and now < max(self.last_seen, self.ping_sent) + endpoint.ping_interval:
                due = min(due, max(self.last_seen, self.ping_sent) + endpoint.ping_interval)
            if endpoint.idle_timeout:
                due = min(due, self.last_message + endpoint.idle_timeout)
        if due < 1e300:
            self.hub.arm(&self.link, due - now)

    cdef void on_timer(self):
        cdef double now = self.hub.now
        cdef Connection outer = self.begin()
        try:
            if self.deadline and now >= self.deadline:
                self.deadline = 0
                self.give_up()
            elif self.state == OPEN:
                self.check_ping(now)
                self.check_idle(now)
        finally:
            self.end(outer)
            if not self.released:
                self.arm()

    cdef void check_ping(self, double now):
        cdef Endpoint endpoint = self.endpoint
        if self.last_seen >= self.ping_sent:
            self.ping_sent = 0     # answered, or none was sent
        if self.ping_sent and endpoint.ping_timeout:
            if now - self.ping_sent >= endpoint.ping_timeout:
                self.fail(1011, "ping timeout")
                if self.transport is not None:
                    self.transport.abort()
        elif endpoint.ping_interval and now - max(self.last_seen, self.ping_sent) >= endpoint.ping_interval:
            self.ping_sent = now
            if not self.outlet.blocked:
                push_control(self, OP_PING, b"")

    cdef void check_idle(self, double now):
        if self.state != OPEN or not self.endpoint.idle_timeout:
            return
        if now - self.last_message < self.endpoint.idle_timeout or self.failing:
            return
        self.last_message = now
        if self.endpoint.on_idle_timeout is None:
            self.start_close(1001, "idle timeout")
        elif not self.busy:
            self.post(self.endpoint.on_idle_timeout, None, None)

    # -- the way out, when the kernel or the transport is in the way

    cdef void sent_pending(self):
        """Deal with what outlet_send() left: an error, a rest, or the end of sending."""
        cdef outlet_t *outlet = &self.outlet
        cdef chunk_t *chunk = outlet.pending
        cdef size_t sent = outlet.sent
        outlet.pending = NULL
        outlet.sent = 0
        if outlet.error:
            chunk_release(chunk)
            self.send_failed()
            return
        if sent == chunk_total(chunk):
            chunk_release(chunk)
        else:
            chunk = chunk_rest(chunk, &sent)
            backlog_append(outlet, chunk, sent)
            if not outlet.blocked:
                self.hand_over(outlet.fd < 0)
        if outlet.finishing:
            self.finish_sending()

    cdef void hand_over(self, bint whole):
        """Give the head of the backlog to the transport, whose buffer is empty; `whole`: all of it, chunk by chunk."""
        cdef outlet_t *outlet = &self.outlet
        cdef chunk_t *chunk
        cdef iovec parts[2]
        cdef int count
        cdef size_t length
        if outlet.handing:
            return
        outlet.handing = True
        try:
            while outlet.backlog is not NULL and not outlet.blocked:
                if self.transport is None or self.transport.is_closing():
                    outlet_drop(outlet)
                    return
                chunk = backlog_first(outlet.backlog)
                length = chunk_total(chunk) - outlet.backlog.offset
                count = chunk_iov(chunk, outlet.backlog.offset, parts)
                views = [memoryview(chunk_view(chunk, &parts[i])) for i in range(count)]
                backlog_pop(outlet)
                chunk_release(chunk)
                self.transport.set_write_buffer_limits(high=0)
                for view in views:
                    self.transport.write(view)
                if self.transport.get_write_buffer_size():
                    outlet.blocked = True
                    outlet.handed = length
                    outlet.queued += length
                elif not whole:
                    # The kernel has room again after all
                    outlet.error = backlog_send(outlet)
                    if outlet.error:
                        self.send_failed()
        except (OSError, RuntimeError):
            self.send_failed()
        finally:
            outlet.handing = False

    cdef void send_failed(self):
        """The peer is gone. What it sent before may still be unread: reading ends the connection, or a deadline."""
        cdef outlet_t *outlet = &self.outlet
        outlet.fd = -1
        outlet.error = 0
        outlet.accepting = False
        outlet.sealed = True
        outlet_drop(outlet)
        self.wake_drain()
        if not self.deadline:
            self.give_time()

    cdef void wake_drain(self):
        waiters, self.drain_waiters = self.drain_waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # -- the transport's callbacks (asyncio.BufferedProtocol)

    def connection_made(self, transport):
        """Never called: start() takes over a transport that is connected."""

    @property
    def get_buffer(self):
        # A transport keeps what it gets here: one callable for all connections, not a bound method for each
        return self.hub.get_buffer

    def buffer_updated(self, Py_ssize_t nbytes):
        cdef Hub hub = self.hub
        cdef Connection outer = self.begin()
        self.last_seen = hub.now
        try:
            if self.state != CLOSED:
                self.receive(hub.receive_ptr, hub.receive_ptr + nbytes)
        finally:
            self.end(outer)

    def data_received(self, bytes data):
        """For transports that do not know this as a BufferedProtocol: asyncio's own look at the type."""
        self.receive_bytes(data)

    cdef int receive_bytes(self, bytes data) except -1:
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t length
        while done < PyBytes_GET_SIZE(data):
            length = min(PyBytes_GET_SIZE(data) - done, <Py_ssize_t>RECEIVE_LEN)
            memcpy(self.hub.receive_ptr, PyBytes_AS_STRING(data) + done, length)
            self.buffer_updated(length)
            done += length
        return 0

    def eof_received(self):
        self.outlet.fd = -1
        self.outlet.accepting = False
        self.outlet.sealed = True
        if not self.deadline:
            # The transport closes once its buffer is empty, and the peer may never read it
            self.give_time()
        return False

    def connection_lost(self, exc):
        cdef outlet_t *outlet = &self.outlet
        outlet.fd = -1
        outlet.accepting = False
        outlet.sealed = True
        outlet.blocked = False
        outlet_drop(outlet)
        outlet.queued = outlet.handed = 0
        reader_reset(&self.reader)
        self.leftover = None
        self.wake_drain()
        self.last_address = self.remote_address
        self.transport = None
        self.ended()
        self.release()

    def pause_writing(self):
        """Nothing to do: we asked the transport's buffer ourselves."""

    def resume_writing(self):
        cdef outlet_t *outlet = &self.outlet
        if outlet.handing:
            return             # called from inside of a write: hand_over() goes on by itself
        outlet.blocked = False
        outlet.queued -= outlet.handed
        outlet.handed = 0
        if outlet.fd >= 0 and outlet.backlog is not NULL:
            outlet.error = backlog_send(outlet)
            if outlet.error:
                self.send_failed()
                return
        if outlet.backlog is not NULL:
            self.hand_over(outlet.fd < 0)
        if outlet.blocked:
            return
        self.wake_drain()
        if self.pong is not None and not self.close_sent:
            pong, self.pong = self.pong, None
            push_control(self, OP_PONG, pong)
        if outlet.finishing:
            self.finish_sending()

    # Public API

    @property
    def is_open(self):
        return self.state == OPEN

    @property
    def close_code(self):
        return self.code if self.state == CLOSED else None

    @property
    def close_reason(self):
        return self.reason if self.state == CLOSED else None

    @property
    def was_clean(self):
        return self.close_sent != 0 and self.close_received != 0

    @property
    def attributes(self):
        if self.own_attributes is None:
            self.own_attributes = {}
        return self.own_attributes

    @property
    def headers(self):
        return self.hub.make_headers(self.head)

    @property
    def query(self):
        return self.hub.make_query(self.query_string)

    @property
    def remote_address(self):
        return self.last_address if self.transport is None else self.transport.get_extra_info("peername")

    @property
    def groups(self):
        return frozenset([(<Group>group).name for group in self.memberships or ()])

    @property
    def buffered(self):
        check_thread(self.hub, "connection.buffered")
        pending = 0 if self.outlet.pending is NULL else chunk_total(self.outlet.pending)
        return self.outlet.queued + pending

    async def drain(self):
        check_thread(self.hub, "connection.drain")
        if self.outlet.backlog is NULL and not self.outlet.blocked:
            self.send_now()
        if not self.outlet.blocked:
            return
        waiter = self.hub.loop.create_future()
        if self.drain_waiters is None:
            self.drain_waiters = []
        self.drain_waiters.append(waiter)
        await waiter

    def push_text(self, str text not None):
        check_thread(self.hub, "connection.push_text")
        return DELIVERED if push_str(self, text) else DROPPED

    def push_binary(self, data):
        check_thread(self.hub, "connection.push_binary")
        return DELIVERED if push_data(self, data) else DROPPED

    def broadcast_text(self, str text not None, *, exclude=None):
        check_thread(self.hub, "connection.broadcast_text")
        return fan_out_str(self.endpoint.members, text, exclude)

    def broadcast_binary(self, data, *, exclude=None):
        check_thread(self.hub, "connection.broadcast_binary")
        return fan_out_data(self.endpoint.members, data, exclude)

    def store(self, name):
        check_thread(self.hub, "connection.store")
        store(self, name)

    def join(self, group):
        check_thread(self.hub, "connection.join")
        join(self, group)

    def leave(self, group):
        check_thread(self.hub, "connection.leave")
        return leave(self, group)

    def close(self, int code=1000, str reason not None=""):
        check_thread(self.hub, "connection.close")
        check_close_code(code)
        return self.start_close(code, reason)

    def __repr__(self):
        return f"<Connection {self.id} of {self.endpoint.name}, {STATE_NAMES[self.state]}>"


cdef tuple STATE_NAMES = ("connecting", "open", "closing", "closed")


cdef int plain_socket(transport) except -2:
    """The descriptor that may be written past the transport, or -1: TLS, in memory."""
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    socket = transport.get_extra_info("socket")
    return -1 if socket is None else socket.fileno()


cdef inline int check_close_code(int code) except -1:
    if not is_close_code(code):
        raise ValueError(f"close code {code} may not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
    return 0
