# The hub of an event loop, shared by all of its connections: the receive buffer, the list of those with frames to send at
# the end of the turn, the coarse timer, the registries of names and groups, and the thread that all of it belongs to.
#
# A turn. Within a turn of the loop frames collect: those of a connection whose own read callback runs are sent when that
# callback ends, all others by flush(), which runs once behind the callbacks of the turn. A lone push outside of any
# callback goes out at once and only its followers in the same turn wait for flush().
#
# What bounds memory goes before the end of the turn (slices.pxi): where a member still holds so much that a frame cannot be
# joined to it (JOIN_LEN), or all together hold so much that no other does (COLLECT_LEN), the call sends that to make room,
# one by one and at once.
#
# A peer that has more to say than its share (WORK_A_TURN) is not read from any more and queues up. What a few such shares
# make (WORK_OF_TURN) is all that a turn does for peers with much to say: when it is used up the rest of the queue waits for
# the next turn, and so do others who come with much. So a turn is short however many they are, and who says little never
# waits behind them.
#
# Time. One timer per loop ticks every `resolution` seconds while there are connections. A connection hangs in the bucket
# of its next deadline; reads and messages only note the time, so the deadline is looked at when its bucket comes up and
# moved on if something happened meanwhile.
#
# A handler may hold up the loop for longer than a timeout. Nobody was listened to meanwhile, so that time does not count:
# the hub's clock goes on by no more than a tick. And what clients sent lies unread, so after a late tick the loop reads
# once before anybody is looked at.
#
# A test's clock tells the time itself (`keep_time`). It stands still while the test looks on, so nothing ticks: each
# connection has a timer of its own there, for the very moment of its deadline.

cdef enum:
    RECEIVE_LEN = 262144       # bytes that one read may bring
    BUCKETS = 64               # of the timer; a later deadline is looked at again after a lap
    SLICE_SENDS = 2048         # that one turn makes in a row, at most
    SLICE_USECS = 4000         # microseconds; likewise
    RELEASE_GIL_SENDS = 16     # from so many sends in a row on, other threads may run meanwhile
    RELEASE_GIL_LEN = 131072   # bytes; likewise for one send
    WORK_OF_TURN = 4096         # done in a turn for all who have much to say; see WORK_A_TURN
    USUAL_BLOCK = 8388608      # bytes; twice as much may stay free in the C library's heap
    MAX_RETIRED_GROUPS = 100000  # names of removed groups that are remembered

cdef double MAX_RESOLUTION = 1.0           # seconds between two ticks, at most
cdef double MIN_RESOLUTION = 0.01          # and at least
cdef double MAX_LATENESS = 0.01            # of a tick, before the loop counts as held up
cdef double ROUNDING = 1e-6                # seconds; a sum of times may be less than its parts by some billionths

cdef extern from *:
    """
    /* glibc gives the end of its heap back when more than twice the largest block that it has freed so far is free
     * there. A large message then comes and goes with its pages, and each costs a fault: two thirds of the time. One
     * block that nobody ever touches tells it that such sizes are usual. Other allocators make nothing of it. */
    static void fastws_expect_large_blocks(size_t length) {
        void *volatile block = malloc(length);
        free(block);
    }
    """
    void fastws_expect_large_blocks(size_t length) noexcept

cdef Py_ssize_t live_hubs = 0


@cython.final
cdef class Hub:
    # The loop and its thread
    cdef object loop
    cdef object call_soon
    cdef void *uv_loop         # of a loop of uvloop's, or NULL
    cdef unsigned long thread_id
    cdef readonly bint orphaned  # this process was forked from the one that has the loop
    cdef bint apart            # only who runs in a context of its own finds it; see hubs.pxi
    cdef object base_context   # what was current when serving began; handlers run in copies of it
    cdef Py_ssize_t users      # servers and clients that hold this hub
    cdef Py_ssize_t servers    # of these, servers
    cdef list on_loop_closed   # what to call should the loop be closed under them
    # Receiving
    cdef uint8_t *receive_ptr
    cdef object receive_view
    cdef readonly object get_buffer
    # The turn
    cdef Connection current    # whose callback runs now, or None
    cdef uint32_t turn
    cdef uint32_t moment       # something else may have happened since: another callback, or another turn
    cdef bint flush_scheduled
    cdef object flush_callback
    cdef outlet_t **dirty      # connections with pending frames; their Connection is owned meanwhile
    cdef size_t dirty_len
    cdef size_t dirty_capacity
    cdef outlet_t **later      # likewise, of large fan-outs that are under way
    cdef size_t later_len
    cdef size_t later_pos      # of these, done
    cdef public size_t slice_sends         # see SLICE_SENDS
    cdef public long slice_usecs           # see SLICE_USECS
    cdef size_t gil_sends      # see RELEASE_GIL_SENDS
    cdef size_t collected      # of COLLECT_LEN: bytes that collect for single connections
    cdef senders_t senders
    cdef chunk_t *spare_chunk         # a chunk with room for many replies, lent to `current`
    cdef list to_end           # connections to fail when no fan-out is under way
    cdef set backlog_changed           # connections whose service is to be told of their backlog
    cdef bint turns_scheduled
    cdef object queue          # deque of connections that wait for a turn
    cdef Py_ssize_t spent      # of WORK_OF_TURN
    # What waits for slow peers
    cdef link_t backlogs       # all of them
    cdef readonly size_t backlog_len      # bytes of memory that they hold, each chunk counted once
    cdef size_t max_backlog_len
    # Handlers
    cdef HandlerTask parked    # owns the handler that runs now should it suspend
    cdef bint task_entered
    cdef object outer_task     # a task that stepped aside for it
    cdef HandlerCall watched   # whose stretch it is, or None
    cdef double watched_since
    # Time
    cdef double now            # loop.time() of the last tick, less the time that the loop was held up
    cdef double ticked_at      # loop.time() of the last tick
    cdef bint reads_first      # the last tick came late
    cdef double resolution
    cdef object tick_handle
    cdef link_t buckets[BUCKETS]
    cdef size_t hand
    cdef object clock          # a test's, or None
    cdef dict timers           # Connection -> its timer on that clock
    # Registries
    cdef Py_ssize_t live       # connections that have not ended
    cdef set ending            # and those that are about to: a suspended handler may be all that knows them
    cdef uint64_t last_id
    cdef readonly dict groups  # name -> Group
    cdef readonly dict stored  # name -> Connection
    cdef set endpoints         # of all services that are served here
    cdef set client_endpoints  # of all clients here
    cdef dict services         # id of the class or instance that is served -> list of its Endpoints
    cdef readonly object retired  # OrderedDict of the names of removed groups: its oldest leaves in one step, a dict's does not
    cdef public Node node      # this one among others, or None
    cdef bint urgent           # it has to say what it wants of others before anything leaves
    cdef dict deflaters        # (window bits, level, threshold) -> the Deflater that all connections with these share
    # Given by the layer above: bytes of the request -> what connection.headers and .query return
    cdef object make_headers
    cdef object make_query

    def __cinit__(self, loop, make_headers, make_query):
        global live_hubs
        cdef int i
        self.loop = loop
        self.call_soon = loop.call_soon
        self.uv_loop = uv_loop_of(loop)
        self.thread_id = PyThread_get_thread_ident()
        self.base_context = contextvars.copy_context()
        self.receive_ptr = <uint8_t *>malloc(RECEIVE_LEN)
        if self.receive_ptr is NULL:
            raise MemoryError
        live_hubs += 1
        fastws_expect_large_blocks(USUAL_BLOCK)
        for i in range(BUCKETS):
            link_init(&self.buckets[i], NULL)
        self.receive_view = PyMemoryView_FromMemory(<char *>self.receive_ptr, RECEIVE_LEN, PyBUF_WRITE)
        self.get_buffer = self._get_buffer
        self.turn = 1
        self.flush_callback = self._flush
        self.on_loop_closed = []
        self.endpoints = set()
        self.client_endpoints = set()
        self.to_end = []
        self.backlog_changed = set()
        link_init(&self.backlogs, NULL)
        self.max_backlog_len = <size_t>-1
        self.slice_sends = SLICE_SENDS
        self.slice_usecs = SLICE_USECS
        self.send_with(by_ring=os.environ.get("FASTWS_IO_URING") != "0")
        self.queue = collections.deque()
        self.now = self.ticked_at = loop.time()
        self.resolution = MAX_RESOLUTION
        self.ending = set()
        self.groups = {}
        self.stored = {}
        self.services = {}
        self.retired = collections.OrderedDict()
        self.deflaters = {}
        self.make_headers = make_headers
        self.make_query = make_query

    def __dealloc__(self):
        global live_hubs
        cdef size_t i
        if self.receive_ptr is NULL:
            return             # wrong arguments: nothing was made
        live_hubs -= 1
        senders_end(&self.senders)
        forget_dirty(self)
        free(self.dirty)
        free(self.later)
        # The garbage collector may take us before a connection that still hangs in a bucket, or has a backlog
        while self.backlogs.next != &self.backlogs:
            link_remove(self.backlogs.next)
        for i in range(BUCKETS):
            while self.buckets[i].next != &self.buckets[i]:
                link_remove(self.buckets[i].next)
        if self.spare_chunk is not NULL:
            chunk_release(self.spare_chunk)
        free(self.receive_ptr)

    def _get_buffer(self, sizehint):
        return self.receive_view

    # -- the turn

    cdef inline void schedule(self):
        if not self.flush_scheduled:
            self.call_soon(self.flush_callback)
            self.flush_scheduled = True

    cdef inline bint collects(self, size_t length) noexcept:
        """Whether so many bytes more may collect for one connection; if not, they are to be sent at once."""
        if self.collected > COLLECT_LEN:
            return False
        self.collected += length
        return True

    cdef bint reserve_dirty(self, size_t count) noexcept:
        """Make room for so many calls of mark_dirty(); False: there is no memory."""
        cdef size_t capacity = max(2 * self.dirty_capacity, self.dirty_len + count, <size_t>64)
        cdef outlet_t **dirty
        if self.dirty_len + count <= self.dirty_capacity:
            return True
        dirty = <outlet_t **>realloc(self.dirty, capacity * sizeof(outlet_t *))
        if dirty is NULL:
            return False
        self.dirty = dirty
        self.dirty_capacity = capacity
        return True

    cdef bint mark_dirty(self, outlet_t *outlet) noexcept:
        """Have the outlet's pending frames sent at the end of the turn; False: there is no memory for that."""
        if not self.reserve_dirty(1):
            return False
        Py_INCREF(<object>outlet.connection)
        self.dirty[self.dirty_len] = outlet
        self.dirty_len += 1
        outlet.dirty |= DIRTY_THIS_TURN
        return True

    def _flush(self):
        """End a turn: send what collected, and see to the connections that are too slow.

        Handlers run, which push: what that comes to is for the next turn, or no turn might end.
        """
        if fastws_forked:
            notice_fork()
        self.flush_scheduled = False
        self.turn += 1
        self.moment += 1
        self.collected = 0
        if self.urgent:
            self.node.flush()
        try:
            send_dirty(self)
            close_too_slow(self)
            if self.backlog_len > self.max_backlog_len:
                close_slowest(self)
            tell_backlogs(self)
        finally:
            if self.later_pos < self.later_len or self.to_end or self.backlog_changed:
                self.schedule()

    cdef void tell_later(self, object error, Connection connection) noexcept:
        """Tell in a later turn what went wrong with one of many: first the others get what is theirs."""
        if isinstance(error, Exception):
            report_error(self, error, connection.transport, connection)
        else:
            self.call_soon(self._raise, error)

    cdef void queue_up(self, Connection connection):
        """Let the connection go on when it is its turn."""
        self.queue.append(connection)
        self.schedule_turns()

    cdef inline void spend(self, Py_ssize_t work):
        """Count what was done for one peer; what everybody does all the time is not counted."""
        if work > LITTLE_WORK:
            self.spent += work
            self.schedule_turns()

    cdef void schedule_turns(self):
        if not self.turns_scheduled:
            self.call_soon(self._next_turns)
            self.turns_scheduled = True

    def _next_turns(self):
        """Begin a turn: those who wait come first."""
        cdef Connection connection
        cdef Py_ssize_t left = len(self.queue)
        self.turns_scheduled = False
        self.spent = 0
        try:
            while left and self.spent < WORK_OF_TURN:
                left -= 1
                connection = self.queue.popleft()
                connection.waits = False
                go_on(connection)
                if type(connection.transport) is SocketTransport:
                    (<SocketTransport>connection.transport).take_turn()
        finally:
            if self.queue:
                self.schedule_turns()

    def _raise(self, error):
        raise error

    # -- time

    cdef void need_resolution(self, double seconds) noexcept:
        """Tick often enough for a timeout of so many seconds; 0 is none."""
        if seconds and self.clock is None:
            self.resolution = max(MIN_RESOLUTION, min(self.resolution, seconds / 4))

    cdef void start_ticking(self):
        if self.tick_handle is None and self.clock is None:
            self.now = self.ticked_at = self.loop.time()
            self.tick_handle = self.loop.call_later(self.resolution, self._tick)

    cdef void arm(self, link_t *link, double seconds) noexcept:
        """Look at the connection again in about `seconds`, or after a lap."""
        cdef size_t ticks = BUCKETS - 1
        if self.clock is not None:
            self.arm_exactly(<Connection>link.connection, seconds)
            return
        link_remove(link)
        if seconds < self.resolution * (BUCKETS - 1):
            ticks = 1 if seconds <= self.resolution else <size_t>(seconds / self.resolution + 0.999)
        link_append(&self.buckets[(self.hand + ticks) % BUCKETS], link)

    cdef int arm_exactly(self, Connection connection, double seconds) except -1:
        self.disarm(connection)
        self.timers[connection] = self.clock.call_later(max(seconds, 0.0) + ROUNDING, self._look_exactly, connection)
        return 0

    cdef int disarm(self, Connection connection) except -1:
        timer = self.timers.pop(connection, None)
        if timer is not None:
            timer.cancel()
        return 0

    def _look_exactly(self, Connection connection not None):
        del self.timers[connection]
        look_at(connection)

    def _tick(self):
        cdef double clock = self.loop.time()
        cdef double passed = clock - self.ticked_at
        self.ticked_at = clock
        self.now += min(passed, self.resolution + MAX_LATENESS)
        self.tick_handle = None
        if self.live:
            self.tick_handle = self.loop.call_later(self.resolution, self._tick)
        if self.reads_first:
            return
        if passed <= self.resolution + MAX_LATENESS:
            self._look()
        else:
            self.reads_first = True
            # Not at once: that may come before the loop polls, and comes before what it read is handled
            self.call_soon(self.call_soon, self._look)

    def _look(self):
        """Look at the connections whose bucket comes up."""
        cdef link_t due
        cdef link_t *bucket
        cdef link_t *link
        cdef Connection connection
        self.reads_first = False
        self.hand = (self.hand + 1) % BUCKETS
        bucket = &self.buckets[self.hand]
        if bucket.next == bucket:
            return
        # Callbacks may arm or end any connection, these too: move the bucket's list aside and pop from that
        due.next = bucket.next
        due.previous = bucket.previous
        due.next.previous = &due
        due.previous.next = &due
        link_init(bucket, NULL)
        try:
            while due.next != &due:
                link = due.next
                link_remove(link)
                connection = <Connection>link.connection
                look_at(connection)
        finally:
            # An exception that must not be caught, such as SystemExit: no link may point to what was on the stack
            bucket = &self.buckets[(self.hand + 1) % BUCKETS]
            while due.next != &due:
                link = due.next
                link_remove(link)
                link_append(bucket, link)

    # -- registries

    cdef uint64_t next_id(self) noexcept:
        self.last_id += 1
        return self.last_id

    cdef int withdraw(self, Endpoint endpoint) except -1:
        self.client_endpoints.discard(endpoint)
        self.endpoints.discard(endpoint)
        for owner in endpoint.owners:
            endpoints = self.services.get(identity(owner))
            if endpoints is not None and endpoint in endpoints:
                endpoints.remove(endpoint)
                if not endpoints:
                    del self.services[identity(owner)]
        return 0

    cdef Deflater shared_deflater(self, int window_bits, int level, size_t threshold):
        """The one Deflater for a window size, as a service sets it; it lives as long as this hub."""
        cdef tuple key = (window_bits, level, threshold)
        cdef Deflater deflater = self.deflaters.get(key)
        if deflater is None:
            # To make it may run others, who need it, too; outlets only borrow it
            deflater = self.deflaters.setdefault(key, Deflater.__new__(Deflater, window_bits, level, threshold, False))
        return deflater

    cdef offer(self, Endpoint endpoint):
        # Let a service be found by its class and by its instance, until they are given to `detach`
        for owner in endpoint.owners:
            self.services.setdefault(identity(owner), []).append(endpoint)

    # Public API

    @property
    def has_transports(self):
        """Whether sockets may have a SocketTransport here."""
        return self.uv_loop is not NULL and os.environ.get("FASTWS_TRANSPORT") != "loop"

    def make_transport(self, int fd, protocol):
        """Make a transport for a connected socket, which closes it; OSError: the socket stays the caller's."""
        if not self.users:
            guard_close(self.loop)
        return SocketTransport.__new__(SocketTransport, self, fd, protocol)

    def keep_time(self, clock not None):
        """Take the time from a test's clock, before the first connection; `tell_time` says when it has moved on."""
        self.clock = clock
        self.timers = {}
        self.resolution = 0
        self.now = clock.time()

    def tell_time(self, double now):
        self.now = now

    def stand_apart(self):
        """Be one of several on a loop: found in the context that this returns, in copies of it, and by handlers."""
        context = contextvars.copy_context()
        context.run(home.set, self)
        self.base_context = context.copy()
        self.apart = True
        return context

    def limit_backlog(self, size_t most):
        """Let no more than so many bytes wait for all slow peers together; the least of all limits counts."""
        self.max_backlog_len = min(self.max_backlog_len, most)

    def help_fanouts(self, int threads):
        """Have so many threads help with large fan-outs; the most that anybody asks for."""
        if threads > self.senders.wanted:
            senders_end(&self.senders)
            self.senders.wanted = min(threads, MAX_HELPERS)

    def send_with(self, *, bint by_ring=True, int helpers=0, bint always=False):
        """Choose how large fan-outs are sent."""
        if not 0 <= helpers <= MAX_HELPERS:
            raise ValueError(f"{helpers} helpers")
        senders_init(&self.senders, by_ring, helpers, always)
        self.gil_sends = 0 if always else RELEASE_GIL_SENDS

    @property
    def rings(self):
        return senders_rings(&self.senders)

    @property
    def helping(self):
        return 0 if self.senders.crew is NULL else self.senders.crew.count

    def check_process(self, str function not None):
        """Refuse a function in a process that was forked from the one that has the loop."""
        notice_fork()
        if self.orphaned:
            raise ForkedProcessError(function)

    def attach(self, on_loop_closed=None, *, bint client=False):
        """Count one more server or client on this loop, to be called if the loop is closed before it detaches."""
        if self.users == 0:
            hubs.setdefault(self.thread_id, []).append(self)
        self.users += 1
        self.servers += not client
        if on_loop_closed is not None:
            self.on_loop_closed.append(on_loop_closed)
        guard_close(self.loop)

    def detach(self, endpoints=(), on_loop_closed=None, *, bint client=False):
        """Count one less, which served these; with the last server the registries are emptied.

        Returns the task to wait for, or None.
        """
        if not self.users:
            return None        # the loop was closed
        for endpoint in endpoints:
            self.withdraw(endpoint)
        if on_loop_closed is not None:
            self.on_loop_closed.remove(on_loop_closed)
        self.users -= 1
        self.servers -= not client
        if not self.servers:
            self.forget_names()
        if self.users:
            return None
        self.retire()
        unguard_close(self.loop)
        return self.retire_task()

    cdef int retire(self) except -1:
        """Serve nobody any more."""
        cdef list found = hubs.get(self.thread_id)
        if found is not None and self in found:
            found.remove(self)
            if not found:
                del hubs[self.thread_id]
        if self.tick_handle is not None:
            self.tick_handle.cancel()
            self.tick_handle = None
        for connection in list(self.timers or ()):
            self.disarm(<Connection>connection)
        if self.spare_chunk is not NULL:
            chunk_release(self.spare_chunk)
            self.spare_chunk = NULL
        senders_end(&self.senders)
        self.queue.clear()
        self.client_endpoints.clear()
        return self.forget_names()

    cdef int forget_names(self) except -1:
        """Nothing is served any more."""
        self.groups.clear()
        self.stored.clear()
        self.services.clear()
        self.endpoints.clear()
        self.retired.clear()
        return 0

    cdef int lose_loop(self) except -1:
        """The loop is about to be closed under those that it serves: let go of them, nobody can be told any more."""
        cdef HandlerTask parked = self.parked
        callbacks, self.on_loop_closed = self.on_loop_closed, []
        for callback in callbacks:
            do_safely(callback)
        for endpoint in [*self.endpoints, *self.client_endpoints]:
            for connection in (<Endpoint>endpoint).members.snapshot():
                lose(<Connection>connection)
        for connection in list(self.ending):
            lose(<Connection>connection)
        forget_dirty(self)
        self.users = self.servers = 0
        self.parked = None
        if parked is not None:
            parked.task._log_destroy_pending = False  # it only waits, and is ours
        return self.retire()

    cdef object retire_task(self):
        cdef HandlerTask parked = self.parked
        self.parked = None
        if parked is None:
            return None
        parked.retire()
        parked.task._log_destroy_pending = False  # it only waits, and is ours: nobody has to wait for it
        return parked.task
