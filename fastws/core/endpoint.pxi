# What the connections of one service share: its handlers and limits, decided once, and the set of all of them.

@cython.final
cdef class Endpoint:
    # What the connections of one service share: handlers and limits, decided once, and the set of all of them
    cdef readonly Hub hub
    cdef readonly str name
    cdef readonly Members members
    cdef tuple owners          # the class and the instance that users know it by
    cdef HandlerCall on_open
    cdef HandlerCall on_text_message
    cdef HandlerCall on_binary_message
    cdef HandlerCall on_ping
    cdef HandlerCall on_pong
    cdef HandlerCall on_idle_timeout
    cdef HandlerCall on_backlog
    cdef HandlerCall on_error
    cdef HandlerCall on_close
    cdef Py_ssize_t path_len   # segments of the path that handlers may name
    cdef uint64_t max_message_size
    cdef size_t max_backlog
    cdef size_t high_water     # bytes that wait from which on on_backlog is told
    cdef int overflow          # an overflow_kind
    cdef int overflow_code     # of the close frame for whom too much waits
    cdef Py_ssize_t max_queue
    cdef uint32_t max_fragments
    cdef double message_seconds        # between two messages on average, at least; 0 is off
    cdef int deflate_level
    cdef size_t deflate_threshold      # bytes
    cdef double ping_interval  # seconds; 0 is off, as for all of these
    cdef double ping_timeout
    cdef double idle_timeout
    cdef double close_timeout
    cdef int kernel_backlog    # bytes that may lie unsent there, 0 for any number
    cdef bint inherits_kernel_backlog  # the sockets have that already
    cdef size_t write_len      # bytes of one write to a transport that takes all (TLS); they wait there as in the kernel
    cdef readonly Py_ssize_t live      # connections not yet released
    cdef public object on_empty        # called when the last of them is, or None
    cdef readonly uint64_t unhandled   # messages that no handler wanted
    cdef int told_unhandled            # the kinds of which that was said, a bit each

    def __cinit__(self, Hub hub, str name, list handlers, tuple path_names, *, uint64_t max_message_size,
                  size_t max_backlog, size_t high_water, str overflow not None, int overflow_code, Py_ssize_t max_queue,
                  Py_ssize_t max_fragments, max_message_rate,
                  int deflate_level, size_t deflate_threshold, ping_interval, ping_timeout, idle_timeout,
                  close_timeout, slow_handler_time=None, int kernel_backlog=0, bint inherits_kernel_backlog=True):
        cdef HandlerCall call
        cdef dict calls = {handler.event: HandlerCall(handler, path_names) for handler in handlers}
        self.hub = hub
        hub.endpoints.add(self)
        self.name = name
        self.members = Members()
        self.owners = ()
        self.on_open = calls.get("on_open")
        self.on_text_message = calls.get("on_text_message")
        self.on_binary_message = calls.get("on_binary_message")
        self.on_ping = calls.get("on_ping")
        self.on_pong = calls.get("on_pong")
        self.on_idle_timeout = calls.get("on_idle_timeout")
        self.on_backlog = calls.get("on_backlog")
        self.on_error = calls.get("on_error")
        self.on_close = calls.get("on_close")
        self.path_len = len(path_names)
        self.max_message_size = max_message_size
        self.max_backlog = max_backlog
        self.high_water = high_water
        self.overflow = overflow_of_name(overflow)
        self.overflow_code = overflow_code
        self.max_queue = max_queue
        self.max_fragments = <uint32_t>min(max_fragments, 0xFFFFFFFF)
        self.message_seconds = 1.0 / max_message_rate if max_message_rate else 0.0
        self.deflate_level = deflate_level
        self.deflate_threshold = deflate_threshold
        self.ping_interval = ping_interval or 0.0
        self.ping_timeout = ping_timeout or 0.0
        self.idle_timeout = idle_timeout or 0.0
        self.close_timeout = close_timeout
        self.kernel_backlog = kernel_backlog
        self.inherits_kernel_backlog = inherits_kernel_backlog
        self.write_len = min(<size_t>kernel_backlog, <size_t>JOIN_LEN) if kernel_backlog else JOIN_LEN
        for call in calls.values():
            call.slow_time = slow_handler_time or 0.0
        for seconds in (ping_interval, ping_timeout, idle_timeout, close_timeout):
            hub.need_resolution(seconds)

    # Public API

    def hurry(self):
        """Wait for no peer and no handler any longer: abort every connection, cancel what still runs."""
        cdef Connection connection
        self.close_timeout = 0
        for connection in [*self.members.snapshot(), *self.hub.ending]:
            if connection.endpoint is self:
                try:
                    give_up(connection)
                except Exception:
                    logger.exception("giving up %r failed", connection)
