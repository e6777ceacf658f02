# A service as its connections share it: its handlers and limits, decided once, and the set of all of them.

@cython.final
cdef class Endpoint:
    # What the connections of one service share: handlers and limits, decided once, and the set of all of them
    cdef readonly Hub hub
    cdef readonly str name
    cdef readonly str path     # where clients connect, as it was written
    cdef readonly bint is_client   # its connections are those of clients: no push to a service or a group is for them
    cdef Target target         # what other nodes know it by, where there are any
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

    def __cinit__(self, Hub hub not None, service, options, int kernel_backlog=0, bint inherits_kernel_backlog=True, *,
                  bint client=False):
        if service.upgrade_path is None:
            raise ConfigurationError(f"{service.name} serves no WebSocket; annotate it with @ws.upgrade_path")
        path_names = service.upgrade_path.names
        self.hub = hub
        self.name = service.name
        self.is_client = client
        self.path = service.upgrade_path.text
        self.members = Members()
        self.path_len = len(path_names)
        self._take_limits(service.upgrade)
        self.close_timeout = options.close_timeout
        self.kernel_backlog = kernel_backlog
        self.inherits_kernel_backlog = inherits_kernel_backlog
        self.write_len = min(<size_t>kernel_backlog, <size_t>JOIN_LEN) if kernel_backlog else JOIN_LEN
        self._take_handlers({
            event: HandlerCall(service.handlers[event], path_names, options.slow_handler_time or 0.0)
            for event in EVENT_NAMES if event in service.handlers
        })
        for seconds in (self.ping_interval, self.ping_timeout, self.idle_timeout, self.close_timeout):
            hub.need_resolution(seconds)
        self.owners = (service.cls, service.instance)
        if client:
            hub.client_endpoints.add(self)
        else:
            self._be_served()

    cdef _be_served(self):
        self.hub.endpoints.add(self)
        self.hub.offer(self)
        if self.hub.node is not None:
            self.hub.node.enter_service(self)

    cdef _take_limits(self, upgrade):
        self.max_message_size = upgrade.max_message_size
        self.max_backlog = upgrade.max_backlog
        self.high_water = upgrade.high_water
        self.overflow = overflow_of_name(upgrade.overflow)
        self.overflow_code = upgrade.overflow_code
        self.max_queue = upgrade.max_queue
        self.max_fragments = <uint32_t>min(upgrade.max_fragments, 0xFFFFFFFF)
        self.message_seconds = 1.0 / upgrade.max_message_rate if upgrade.max_message_rate else 0.0
        self.deflate_level = upgrade.compression_level
        self.deflate_threshold = upgrade.compression_threshold
        self.ping_interval = upgrade.ping_interval or 0.0
        self.ping_timeout = upgrade.ping_timeout or 0.0
        self.idle_timeout = upgrade.idle_timeout or 0.0

    cdef _take_handlers(self, dict calls):
        self.on_open = calls.get("on_open")
        self.on_text_message = calls.get("on_text_message")
        self.on_binary_message = calls.get("on_binary_message")
        self.on_ping = calls.get("on_ping")
        self.on_pong = calls.get("on_pong")
        self.on_idle_timeout = calls.get("on_idle_timeout")
        self.on_backlog = calls.get("on_backlog")
        self.on_error = calls.get("on_error")
        self.on_close = calls.get("on_close")

    # Public API

    def hurry(self):
        """Wait for no peer and no handler any longer: abort every connection, cancel what still runs."""
        cdef Connection connection
        self.close_timeout = 0
        for connection in [*self.members.snapshot(), *self.hub.ending]:
            if connection.endpoint is self:
                try:
                    on_deadline(connection)
                except Exception:
                    logger.exception("giving up %r failed", connection)
