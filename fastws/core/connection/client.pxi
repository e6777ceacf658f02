# A client whose messages are awaited: what came and nobody has received yet, who waits for it, and the face that users see.
#
# Theory of operation. A read puts its messages into `messages`. A task that receives takes the first one; where there is
# none it waits for an Arrival, of which there is one at most. When the callback ends that brought messages, the task goes on
# at once, inside of it: it takes all that came without another turn of the loop, and what it sends leaves with one system
# call. What ends the connection outside of a callback of its own wakes the task in a later turn.
#
# Full is a client when `max_queue` messages wait, or `max_message_size` bytes in sum. Who waits gets a chance to take them
# then; if it does not, reading is paused, and goes on when half of them have been taken.
#
# A message is only taken by a task that runs, so one that is cancelled while it waits leaves all of them where they are.

cdef enum:
    SENDS_A_TURN = 1024        # that a task makes until others have their turn: a message is one, and so is each KiB of it

cdef object current_task = asyncio.current_task
cdef object pause_of_turn = asyncio.sleep
cdef object clock = time.perf_counter


@cython.final
@cython.internal
@cython.freelist(8)
cdef class Arrival:
    # What a task waits for that receives: as much of a Future as a Task asks of one
    cdef Hub hub
    cdef object wakeup         # the Task's, once it waits
    cdef object context
    cdef uint8_t fired
    cdef uint8_t cancelled
    cdef public bint _asyncio_future_blocking

    cdef int fire(self, bint at_once) except -1:
        """Let the task go on, inside of this call if that may be."""
        wakeup, self.wakeup = self.wakeup, None
        self.fired = True
        if wakeup is None:
            return 0
        if not at_once or current_task(self.hub.loop) is not None:
            self.hub.call_soon(wakeup, self, context=self.context)
            return 0
        PyContext_Enter(self.context)
        try:
            wakeup(self)
        finally:
            PyContext_Exit(self.context)
        return 0

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.fired:
            self.result()
            raise StopIteration
        self._asyncio_future_blocking = True
        return self

    # What a Task calls

    def get_loop(self):
        return self.hub.loop

    def add_done_callback(self, wakeup, *, context=None):
        self.wakeup = wakeup
        self.context = contextvars.copy_context() if context is None else context
        if self.fired:
            self.fire(False)

    def cancel(self, msg=None):
        if self.fired:
            return False
        self.cancelled = True
        self.fire(False)
        return True

    def done(self):
        return self.fired != 0

    def result(self):
        if self.cancelled:
            raise asyncio.CancelledError


@cython.final
cdef class ClientConnection:
    cdef Connection connection
    cdef object messages       # deque of those that nobody has received yet, or None
    cdef size_t messages_len   # characters and bytes of them
    cdef Arrival arrival       # what the task waits for that receives, or None
    cdef bint resumes          # reading is about to go on
    cdef size_t sent           # of SENDS_A_TURN
    cdef dict pings            # payload -> (future, clock when it left), the oldest first; None before there is one
    cdef uint64_t last_ping
    cdef object __weakref__

    def __cinit__(self, Connection connection not None):
        self.connection = connection
        connection.client = self

    # -- what comes

    cdef int put(self, object message) except -1:
        """Keep a message until somebody receives it."""
        if self.messages is None:
            self.messages = collections.deque()
        self.messages.append(message)
        self.messages_len += len(message)
        if self.is_full(1):
            self.tell()
            if self.is_full(1) and self.connection.leftover is None:
                pause(self.connection, bytearray())
        return 0

    cdef bint is_full(self, size_t part) except *:
        """Whether a part of what may wait does: 1 is all of it, 2 is half."""
        cdef Endpoint endpoint = self.connection.endpoint
        if self.messages is None:
            return False
        return part * len(self.messages) >= <size_t>endpoint.max_queue or part * self.messages_len >= endpoint.max_message_size

    cdef object take(self):
        """Take the first message, and let reading go on where half of them are gone."""
        message = self.messages.popleft()
        self.messages_len -= len(message)
        if not self.messages:
            self.messages = None
        if self.connection.paused and not self.is_full(2):
            self.resume()
        return message

    cdef int resume(self) except -1:
        """Have reading go on, in a later turn."""
        if not self.resumes and self.connection.paused and not self.connection.waits:
            self.resumes = True
            self.connection.hub.call_soon(self._go_on)
        return 0

    def _go_on(self):
        """For the loop to call."""
        self.resumes = False
        if not self.is_full(1):
            go_on(self.connection)

    cdef inline int tell(self) except -1:
        """Let who waits take what came, inside of this call."""
        cdef Arrival arrival = self.arrival
        if arrival is None or arrival.fired or not self.has_news():
            return 0
        return arrival.fire(True)

    cdef inline bint has_news(self):
        return self.messages is not None or self.connection.state == CLOSED

    cdef int end(self) except -1:
        """The connection is closed: nothing more comes, and nobody has to wait for it."""
        pings, self.pings = self.pings, None
        for future, _ in (pings or {}).values():
            if not future.done():
                future.set_exception(self.closed())
        # Else the end of the callback that brought the end tells it
        if self.connection.hub.current is not self.connection and self.arrival is not None and not self.arrival.fired:
            self.arrival.fire(False)
        return 0

    cdef int let_go(self) except -1:
        """The connection is released, and knows nobody any more."""
        self.connection.client = None
        if self.arrival is not None and not self.arrival.fired:
            self.arrival.fire(False)
        return 0

    cdef object closed(self):
        return ConnectionClosed(self.connection.code, self.connection.reason)

    cdef Arrival expect(self):
        """What to wait for until there is a message; raises at the end."""
        check_thread(self.connection.hub, "connection.receive")
        if self.arrival is not None:
            raise ConcurrentReceiveError
        if self.connection.state == CLOSED:
            raise self.closed()
        self.arrival = Arrival.__new__(Arrival)
        self.arrival.hub = self.connection.hub
        return self.arrival

    # -- what is sent

    cdef int push(self, object message) except -1:
        cdef payload_t payload
        check_thread(self.connection.hub, "connection.send")
        owner = message_payload(OP_TEXT if isinstance(message, str) else OP_BINARY, message, &payload)
        self.sent += 1 + (payload.length >> 10)
        if not push_message(self.connection, &payload, &PLAINLY):
            raise self.closed()
        return 0

    cdef bint has_room(self, object message) except *:
        """Whether a message may be sent now: no more than high water waits, and it fits behind that."""
        cdef outlet_t *outlet = &self.connection.outlet
        cdef size_t length
        if outlet.state != BLOCKED or outlet.queued == 0:
            return True
        if outlet.queued >= self.connection.endpoint.high_water:
            return False
        length = len(message.encode() if isinstance(message, str) else memoryview(message).cast("B"))
        # What does not shrink grows a little when it is compressed
        return outlet_fits(outlet, length + (length >> 8) + 2 * MAX_HEADER_LEN, NULL)

    cdef object begin_ping(self):
        """Send a ping of our own, and return the future of its answer."""
        cdef Connection connection = self.connection
        check_thread(connection.hub, "connection.ping")
        if connection.state != OPEN:
            raise self.closed()
        if self.pings is None:
            self.pings = {}
        self.last_ping += 1
        payload = self.last_ping.to_bytes(8, "big")
        future = connection.hub.loop.create_future()
        self.pings[payload] = (future, clock())
        push_control(connection, OP_PING, payload)
        return payload, future

    cdef int answer_pings(self, bytes payload) except -1:
        """A pong: it answers its ping, and all before that, which the peer may have left out (RFC 6455 5.5.3)."""
        cdef dict pings = self.pings
        if pings is None or payload not in pings:
            return 0
        now = clock()
        for earlier in list(pings):
            future, sent_at = pings.pop(earlier)
            if not future.done():
                future.set_result(now - sent_at)
            if earlier == payload:
                return 0
        return 0

    def start_reading(self):
        self.resume()

    # Public API

    async def send(self, message):
        if self.sent >= SENDS_A_TURN:
            self.sent = 0
            await pause_of_turn(0)
        while not self.has_room(message):
            await self.connection.drain()
        self.push(message)

    async def receive(self):
        while self.messages is None or self.arrival is not None:
            arrival = self.expect()
            try:
                await arrival
            finally:
                self.arrival = None
        return self.take()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while self.messages is None or self.arrival is not None:
            if self.connection.state == CLOSED and self.connection.code in (1000, 1001):
                raise StopAsyncIteration
            arrival = self.expect()
            try:
                await arrival
            finally:
                self.arrival = None
        return self.take()

    async def ping(self):
        payload, future = self.begin_ping()
        try:
            return await future
        finally:
            if self.pings is not None:
                self.pings.pop(payload, None)

    async def close(self, int code=1000, reason=""):
        self.connection.close(code, reason)
        # Nobody receives any more, and the answer may lie behind what nobody took
        self.messages = None
        self.messages_len = 0
        self.resume()
        await self.connection.wait_closed()

    async def wait_closed(self):
        await self.connection.wait_closed()

    async def drain(self):
        await self.connection.drain()

    def push_text(self, text, *, overflow=None, key=None):
        return self.connection.push_text(text, overflow=overflow, key=key)

    def push_binary(self, data, *, overflow=None, key=None):
        return self.connection.push_binary(data, overflow=overflow, key=key)

    @property
    def path(self):
        return self.connection.path

    @property
    def headers(self):
        return self.connection.headers

    @property
    def subprotocol(self):
        return self.connection.subprotocol

    @property
    def compression(self):
        return self.connection.compression

    @property
    def remote_address(self):
        return self.connection.remote_address

    @property
    def secure(self):
        return self.connection.secure

    @property
    def is_open(self):
        return self.connection.is_open

    @property
    def buffered(self):
        return self.connection.buffered

    @property
    def dropped(self):
        return self.connection.dropped

    @property
    def close_code(self):
        return self.connection.close_code

    @property
    def close_reason(self):
        return self.connection.close_reason

    @property
    def sent_code(self):
        return self.connection.sent_code

    @property
    def received_code(self):
        return self.connection.received_code

    @property
    def was_clean(self):
        return self.connection.was_clean

    def __repr__(self):
        return f"<ClientConnection {self.connection.id}, {STATE_NAMES[self.connection.state]}>"
