# One live connection: what it knows, how it begins, what a read brings, and the face that users see. What happens to it
# in between is in the parts around this one: dispatch (handlers), closing, timing, handover (a slow peer).
#
# States (RFC 6455 4.1, 7.1):
#
#     CONNECTING --start()--> OPEN --close(), a close frame, fail()--> CLOSING --both close frames, or the end--> CLOSED
#                               |                                                                                  ^
#                               +------------- fail(), too slow, the transport is lost ----------------------------+
#
# CLOSED is the end as the service sees it: out of every registry, on_close is due. The transport may live on a little,
# to let the peer read our close frame. When both on_close and the transport are done the connection is released.

cdef enum connection_state:
    CONNECTING
    OPEN
    CLOSING
    CLOSED

cdef extern from *:
    """
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/socket.h>
    /* Whatever is no TCP, or knows no such limit, goes without */
    static void fastws_limit_unsent(int fd, int most) {
    #ifdef TCP_NOTSENT_LOWAT
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof(most));
    #else
        (void)fd;
        (void)most;
    #endif
    }
    """
    void fastws_limit_unsent(int fd, int most) noexcept nogil

cdef Py_ssize_t live_connections = 0

cdef object logger = Log("fastws")
# The Handling of the connection whose handler runs, or the Endpoint of a service whose background work does
cdef object current_place = contextvars.ContextVar("fastws.current_place")


@cython.final
@cython.internal
cdef class Handling:
    # What the context of a connection's handlers knows. Their tasks, threads and timers have copies of that context, which
    # may last for hours: the connection takes itself out when it has ended, or it would last as long
    cdef Endpoint endpoint
    cdef Connection connection # None once it is released


@cython.final
cdef class Connection:
    # Sending, first: the fan-out touches nothing else
    cdef outlet_t outlet
    cdef Py_ssize_t place      # in the endpoint's members, or -1
    cdef History history       # of its own, where a context is taken over (RFC 7692 7.1.1)
    # Receiving
    cdef reader_t reader
    cdef double last_seen      # loop time, coarse: any byte came
    cdef double last_message   # a message came
    cdef double ping_sent      # or the last sign of life behind it; 0 when none is under way
    cdef double deadline       # 0, or when to give up waiting
    cdef double paid_until     # monotonic time up to which its messages have used what max_message_rate allows
    cdef uint32_t acked        # bytes that the peer had acknowledged at the last look, modulo 2**32; see timing
    cdef uint32_t ping_end     # likewise, up to the ping that is under way
    cdef link_t link
    cdef Hub hub
    cdef Endpoint endpoint
    cdef object transport      # None once it is lost
    cdef object address        # the peer's: what a proxy said, or once the transport is lost
    cdef object on_release     # called when we are released, or None
    # State
    cdef readonly uint64_t id
    cdef uint8_t state
    cdef uint8_t close_sent
    cdef uint8_t close_received
    cdef uint8_t failing          # a handler failed: 1011 goes out when on_error is done
    cdef uint8_t busy             # a handler is suspended
    cdef uint8_t paused           # reading is
    cdef uint8_t waits            # for a turn
    cdef uint8_t high             # more than high water waits for it
    cdef uint8_t told_high        # and on_backlog knows
    cdef uint8_t entered          # our context is the current one
    cdef uint8_t released
    cdef uint8_t hung_up          # the peer ended its direction
    cdef uint8_t ping_waits       # one is in the backlog
    cdef uint8_t ahead            # something lies before the answer to a ping
    cdef uint8_t taken            # the kernel took of what had waited, since the last look
    cdef uint8_t close_due        # on_close is to be called when all other handlers are done
    cdef uint8_t is_secure        # the client speaks TLS, with us or with a proxy
    cdef int code              # of the close frame that counts
    cdef str reason
    cdef readonly object sent_code         # an int once we sent a close frame, or None
    cdef readonly object received_code     # likewise the peer
    # Handlers
    cdef object context        # contextvars.Context of all handlers of this connection
    cdef Handling handling     # what it says of us; None before there is one, and once we are released
    cdef object running        # the Task of the suspended handler
    cdef object inbox          # deque of (handler, first, second) that wait for it, or None
    cdef size_t inbox_len      # characters and bytes of the messages in it
    cdef bytearray leftover    # bytes not parsed because the inbox is full
    cdef bytes pong            # to be answered when the peer reads again
    cdef dict drain_waiters    # who waits until all has left, or None; see waiting.pxi
    cdef dict end_waiters      # likewise for our release
    cdef ClientConnection client   # who awaits our messages, where no handlers are called; or None
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
        global live_connections
        self.endpoint = endpoint
        self.hub = endpoint.hub
        self.id = self.hub.next_id()
        self.place = -1
        self.path = "/"
        self.reason = ""
        outlet_init(&self.outlet, <PyObject *>self, endpoint.max_backlog, client)
        reader_init(&self.reader, endpoint.max_message_size, endpoint.max_fragments, not client)
        link_init(&self.link, <PyObject *>self)
        live_connections += 1

    def __dealloc__(self):
        global live_connections
        if self.link.next is NULL:
            return             # wrong arguments: nothing was made
        live_connections -= 1
        outlet_drop(&self.outlet)
        reader_reset(&self.reader)
        link_remove(&self.link)

    # -- opening

    def start(self, transport, bytes response, rest, *, str path="/", str query="", bytes head=b"",
              str subprotocol=None, tuple path_arguments=(), extension=None, address=None, bint secure=False,
              dict attributes=None, on_release=None):
        """Take over a transport whose opening handshake is done; `response` is still to be sent, `rest` was read."""
        if self.state != CONNECTING or len(path_arguments) != self.endpoint.path_len:
            raise ValueError("a connection starts once, with as many path arguments as its service has")
        self.path = path
        self.query_string = query
        self.head = head
        self.subprotocol = subprotocol
        self.path_arguments = path_arguments
        self.address = address
        self.is_secure = secure
        self.own_attributes = attributes
        self.on_release = on_release
        if extension is not None:
            self.use_deflate(extension)
        self.plug_in(transport)
        cdef HandlerTask parked = step_aside(self.hub)
        cdef Connection outer = self.enter_callback()
        try:
            if response:
                # By itself: some clients do not see a message that comes in one piece with it
                push_bytes(self, response)
                self.send_now()
            if self.endpoint.on_open is not None:
                run_handler(self, self.endpoint.on_open, None, None)
            if self.client is not None:
                # Whoever awaits its messages has not had the chance to
                pause(self, bytearray(rest))
            elif rest:
                self.receive_own(bytearray(rest))
        finally:
            self.leave_callback(outer)
            step_back(self.hub, parked)

    cdef int plug_in(self, transport) except -1:
        """Be open, on a transport that is ours from here on."""
        self.transport = transport
        self.outlet.fd = plain_socket(transport)
        if not self.endpoint.inherits_kernel_backlog:
            fastws_limit_unsent(socket_of(transport), self.endpoint.kernel_backlog)
        self.begin_life()
        transport.set_protocol(self)
        # Tell us only when nothing is left of what it has
        transport.set_write_buffer_limits(high=0)
        # The answer to an earlier request of the same peer may still be on its way
        if transport.get_write_buffer_size() > 0:
            outlet_become(&self.outlet, BLOCKED)
        return 0

    cdef int begin_life(self) except -1:
        self.endpoint.members.add_connection(self)
        become(self, OPEN)
        self.hub.live += 1
        self.endpoint.live += 1
        self.hub.start_ticking()
        self.last_seen = self.last_message = self.outlet.last_sent = self.hub.now
        arm_timer(self)
        return 0

    cdef int use_deflate(self, extension) except -1:
        """Compress as it was negotiated; `extension` is a handshake.deflate.Deflate."""
        cdef Endpoint endpoint = self.endpoint
        cdef Inflater inflater = None
        cdef Deflater shared
        cdef int bits = extension.send_window_bits
        if extension.send_takeover or extension.receive_takeover:
            self.history = History.__new__(History)
        if bits >= 9:  # zlib cannot keep to less: then what goes out stays as it is
            shared = self.hub.shared_deflater(bits, endpoint.deflate_level, endpoint.deflate_threshold)
            self.outlet.deflater = <PyObject *>shared
            if extension.send_takeover:
                self.history.deflater = Deflater.__new__(Deflater, bits, shared.level, shared.threshold, True)
        if extension.receive_takeover:
            inflater = self.history.inflater = Inflater.__new__(Inflater, extension.receive_window_bits)
        reader_inflates(&self.reader, extension.receive_window_bits, inflater)
        return 0

    # -- one callback of ours

    cdef inline Connection enter_callback(self):
        """Enter a callback: what is pushed to this connection collects until end()."""
        cdef Connection outer = self.hub.current
        self.hub.current = self
        self.hub.moment += 1
        return outer

    cdef inline void leave_callback(self, Connection outer):
        cdef Hub hub = self.hub
        cdef outlet_t *outlet = &self.outlet
        if hub.orphaned or fastws_forked:
            came_back()
        if self.client is not None:
            self.client.tell()
        hub.current = outer
        if self.entered:
            exit_context(self)
        if outlet.pending is not NULL and not outlet.dirty & DIRTY_THIS_TURN:
            self.send_now()
        if hub.watched is not None:
            end_stretch(hub)
        if CHECKS:
            check_connection(self)

    cdef inline void send_now(self):
        """Send what is pending; a chunk that had room for many replies is kept for the next who needs one."""
        cdef outlet_t *outlet = &self.outlet
        cdef chunk_t *chunk
        cdef ssize_t sent
        if self.hub.urgent:
            self.hub.node.flush()  # others may run
        chunk = outlet.pending
        if chunk is NULL:
            return
        outlet.last_sent = self.hub.now
        if JOIN_LEN <= chunk.capacity <= 2 * JOIN_LEN and chunk.refs == 1 and self.hub.spare_chunk is NULL and outlet.fd >= 0:
            chunk.refs += 1
            outlet_send(outlet)
            if outlet.pending is NULL:
                chunk_clear(chunk)
                self.hub.spare_chunk = chunk
                return
            chunk.refs -= 1
        elif chunk_total(chunk) >= RELEASE_GIL_LEN and outlet_ready(outlet):
            with nogil:
                sent = chunk_send(outlet.fd, chunk)
            # With the GIL: what is shared and counted may be counted down in a thread that collects garbage
            outlet_sent(outlet, sent)
        else:
            outlet_send(outlet)
        if outlet.pending is not NULL:
            sent_pending(self)

    # -- receiving

    cdef Py_ssize_t receive(self, uint8_t *position, uint8_t *end) except -1:
        """Handle what a read brought, until it is used up, others are due, the inbox is full or the connection ends.

        Returns how much work it was.
        """
        cdef PyObject *result
        cdef int kind
        cdef Py_ssize_t work = 0
        while position < end:
            if self.close_received or self.state == CLOSED:
                return work
            if work >= WORK_A_TURN:
                wait_for_a_turn(self, position, end)
                return work
            work += 1
            if self.leftover is not None or (self.inbox is not None and inbox_is_full(self)):
                pause(self, PyByteArray_FromStringAndSize(<char *>position, end - position))
                return work
            result = NULL
            kind = reader_next(&self.reader, &position, end, &result)
            if self.reader.inflated_len:
                work += take_inflated_len(&self.reader) >> 8
            if kind == EVENT_NONE:
                continue
            if kind < 0:
                fail_reading(self, -kind)
                return work
            payload = <object>result
            Py_DECREF(payload)
            work += len(payload) >> 10
            if self.endpoint.message_seconds and not self.is_within_rate():
                fail(self, 1008, "too many messages")
                return work
            if kind <= EVENT_BINARY:
                self.message(kind, payload)
            else:
                self.control(kind, payload)
        return work

    cdef int receive_own(self, bytearray data) except -1:
        cdef uint8_t *position = <uint8_t *>PyByteArray_AS_STRING(data)
        self.hub.spend(self.receive(position, position + PyByteArray_GET_SIZE(data)))
        return 0

    cdef bint is_within_rate(self) noexcept:
        """Whether one more message, ping or pong may come now: a second's worth of them may come at once."""
        cdef Endpoint endpoint = self.endpoint
        cdef timespec clock
        cdef double now
        clock_gettime(CLOCK_MONOTONIC, &clock)
        now = clock.tv_sec + clock.tv_nsec * 1e-9
        self.paid_until = max(self.paid_until, now) + endpoint.message_seconds
        return self.paid_until <= now + max(1.0, endpoint.message_seconds) + 1e-9

    cdef inline int message(self, int kind, object payload) except -1:
        cdef HandlerCall handler
        if self.state != OPEN or self.failing:
            return 0
        self.last_message = self.hub.now
        handler = self.endpoint.on_text_message if kind == EVENT_TEXT else self.endpoint.on_binary_message
        if handler is None:
            return take_unhandled(self, kind, payload)
        return post(self, handler, payload, None)

    cdef int control(self, int kind, bytes payload) except -1:
        cdef HandlerCall handler
        if kind == EVENT_CLOSE:
            on_close_frame(self, payload)
            return 0
        if kind == EVENT_PING:
            if not self.close_sent:
                self.send_pong(payload)
            handler = self.endpoint.on_ping
        else:
            handler = self.endpoint.on_pong
        if handler is not None and self.state == OPEN and not self.failing:
            post(self, handler, payload, None)
        elif self.client is not None and kind == EVENT_PONG:
            self.client.answer_pings(payload)
        return 0

    cdef void send_pong(self, bytes payload):
        # "An endpoint MAY elect to send a Pong frame in response only to the most recently processed Ping" (5.5.3)
        if self.outlet.state == BLOCKED:
            self.pong = payload
        else:
            push_control(self, OP_PONG, payload)

    def _go_on(self):
        """For the loop to call."""
        go_on(self)

    # -- the transport's callbacks (asyncio.BufferedProtocol)

    def connection_made(self, transport):
        """Never called: start() takes over a transport that is connected."""

    @property
    def get_buffer(self):
        # A transport keeps what it gets here: one callable for all connections, not a bound method for each
        return self.hub.get_buffer

    def buffer_updated(self, Py_ssize_t nbytes):
        if self.read_arrived(self.hub.receive_ptr, nbytes) > LITTLE_WORK and nbytes == RECEIVE_LEN and not self.paused:
            # libuv reads up to 32 times for a transport of the loop's before it looks at anybody else
            give_way(self)

    cdef Py_ssize_t read_arrived(self, uint8_t *place, Py_ssize_t nbytes) except -1:
        """Take in what a read brought; how much work it was."""
        cdef Hub hub = self.hub
        cdef Connection outer = self.enter_callback()
        cdef Py_ssize_t work = 0
        self.last_seen = hub.now
        try:
            if self.state == CLOSED:
                return 0
            if hub.spent >= WORK_OF_TURN and is_much(&self.reader, nbytes):
                wait_for_a_turn(self, place, place + nbytes)
                return 0
            work = self.receive(place, place + nbytes)
            # What gathers of a message is work, too, and counts again when it is complete
            hub.spend(work if self.reader.partial is NULL else work + (nbytes >> 10))
            return work
        finally:
            self.leave_callback(outer)

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
        self.hung_up = True
        if self.outlet.finishing and self.transport.can_write_eof():
            # It has only ended its own direction, and our close frame still waits behind what it is slow to read
            return True
        outlet_become(&self.outlet, SEALED)
        wake_drain(self)
        if not self.deadline:
            # The transport closes once its buffer is empty, and the peer may never read it
            give_time(self)
        return False

    cdef void unplug(self):
        """Write to the socket no more: its number may soon be somebody else's."""
        cdef outlet_t *outlet = &self.outlet
        outlet_become(outlet, SEALED)
        outlet_drop(outlet)
        outlet.queued = outlet.handed = 0

    def connection_lost(self, exc):
        shut_down(self.transport)
        self.unplug()
        reader_reset(&self.reader)
        self.leftover = None
        wake_drain(self)
        self.address = self.remote_address
        self.transport = None
        end_service_side(self)
        release_connection(self)

    def pause_writing(self):
        """Nothing to do: we asked the transport's buffer ourselves."""

    def resume_writing(self):
        room_again(self)

    # Public API

    @property
    def compression(self):
        if self.outlet.deflater is NULL:
            return None
        return "shared" if self.history is None else "dedicated"

    @property
    def is_open(self):
        return self.state == OPEN

    @property
    def is_busy(self):
        return bool(self.busy or self.inbox is not None or self.leftover is not None
                    or self.reader.partial is not NULL or self.outlet.queued)

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
        if self.address is not None or self.transport is None:
            return self.address
        # Of IPv6 there are two fields more, and a Unix socket has a path, which is nobody's address
        peer = self.transport.get_extra_info("peername")
        return peer[:2] if isinstance(peer, tuple) else None

    @property
    def secure(self):
        return self.is_secure != 0

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
        if self.outlet.backlog is NULL and self.outlet.state != BLOCKED:
            self.send_now()
        if self.outlet.state != BLOCKED or self.state == CLOSED:
            return
        if self.drain_waiters is None:
            self.drain_waiters = {}
        await _wait_among(self.drain_waiters, self.hub.loop)

    async def wait_closed(self):
        check_thread(self.hub, "connection.wait_closed")
        if self.released or self.state == CONNECTING:
            return
        if self.end_waiters is None:
            self.end_waiters = {}
        await _wait_among(self.end_waiters, self.hub.loop)

    @property
    def dropped(self):
        return self.outlet.dropped

    @property
    def conflated(self):
        return self.outlet.conflated

    def push_text(self, text, *, overflow=None, key=None):
        check_thread(self.hub, "connection.push_text")
        return deliver(self, OP_TEXT, text, overflow, key, None, None)

    def push_binary(self, data, *, overflow=None, key=None):
        check_thread(self.hub, "connection.push_binary")
        return deliver(self, OP_BINARY, data, overflow, key, None, None)

    def broadcast_text(self, text, *, exclude=None, overflow=None, key=None):
        check_thread(self.hub, "connection.broadcast_text")
        check_served(self.endpoint, "connection.broadcast_text")
        return broadcast_at(self.endpoint, OP_TEXT, text, exclude, overflow, key)

    def broadcast_binary(self, data, *, exclude=None, overflow=None, key=None):
        check_thread(self.hub, "connection.broadcast_binary")
        check_served(self.endpoint, "connection.broadcast_binary")
        return broadcast_at(self.endpoint, OP_BINARY, data, exclude, overflow, key)

    def store(self, name):
        check_thread(self.hub, "connection.store")
        store(self, name)

    def join(self, group):
        check_thread(self.hub, "connection.join")
        join(self, group)

    def leave(self, group):
        check_thread(self.hub, "connection.leave")
        return leave(self, group)

    def close(self, int code=1000, reason=""):
        check_thread(self.hub, "connection.close")
        check_close_code(code)
        return start_close(self, code, own_text(reason))

    def __repr__(self):
        return f"<Connection {self.id} of {self.endpoint.name}, {STATE_NAMES[self.state]}>"


cdef tuple STATE_NAMES = ("connecting", "open", "closing", "closed")


cdef int plain_socket(transport) except -2:
    """The descriptor that may be written past the transport, or -1: TLS, in memory."""
    if type(transport) is not SocketTransport and transport.get_extra_info("sslcontext") is not None:
        return -1
    return socket_of(transport)


cdef int socket_of(transport) except -2:
    """The descriptor below a transport, or -1: in memory, or lost."""
    if type(transport) is SocketTransport:
        return (<SocketTransport>transport).poll.fd
    socket = None if transport is None else transport.get_extra_info("socket")
    return -1 if socket is None else socket.fileno()
