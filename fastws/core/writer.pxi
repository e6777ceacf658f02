# Frames out: collected in a turn, sent straight on the socket, queued by reference when the kernel takes no more, bounded.
#
# Theory of operation. An outlet is in one of two conditions:
#
#   READY    Nothing waits anywhere. Frames collect in `pending`, one chunk, until somebody sends it with one system call.
#            What the kernel does not take becomes the first entry of the backlog, and its head is handed to the
#            transport, whose poll of the socket is the only sign of writability that there is: the outlet is BLOCKED.
#   BLOCKED  The transport holds bytes of ours. Every further frame goes to the backlog, within its budget. When the
#            transport has none left the backlog is sent straight on the socket again until it is empty or stuck.
#
# So the order of frames is the order of the calls: pending is only ever filled while the backlog is empty, and the
# socket is only ever written while the transport's buffer is. Without a socket to write to (TLS, in memory) everything
# takes the way through the backlog and the transport.
#
# A pending chunk may be shared by all outlets that were given the same frames this turn; who is given something else
# goes on with a copy of its own.

cdef enum:
    MAX_VECTORS = 64           # that one sendmsg takes from the backlog
    PENDING_LEN = 256          # bytes of a connection's own pending chunk at first


ctypedef struct backlog_t:
    chunk_t **chunks           # a ring
    size_t head
    size_t count
    size_t capacity            # a power of two
    size_t offset              # bytes of the first chunk that are sent


ctypedef struct outlet_t:
    PyObject *connection       # borrowed: the Connection that this is part of
    PyObject *deflater         # borrowed from the hub: the shared Deflater, or NULL where nothing is compressed
    chunk_t *pending           # frames of this turn, or NULL
    int fd                     # the socket, or -1: only the transport may write
    uint32_t turn              # the last turn in which a lone push went out at once
    uint8_t accepting             # frames with data are taken
    uint8_t blocked               # the transport holds bytes of ours
    uint8_t dirty                 # in the hub's list
    uint8_t skipped               # left out of the fan-out that is under way
    uint8_t finishing             # close the transport once everything is sent
    uint8_t sealed                # nothing can be sent any more
    uint8_t handing               # the transport is being written to
    uint8_t masking               # a client's: frames leave masked
    uint8_t stale                 # compressed frames passed that the connection's own Deflater does not know
    int error                  # errno of the send that failed, or 0
    size_t sent                # bytes of pending that the kernel took, when not all
    size_t queued              # bytes in the backlog and handed to the transport
    size_t handed              # of these, bytes that the transport holds
    size_t max_backlog         # bytes
    backlog_t *backlog         # NULL while nothing waits


cdef inline void outlet_init(outlet_t *outlet, PyObject *connection, size_t max_backlog, bint masking) noexcept:
    memset(outlet, 0, sizeof(outlet_t))
    outlet.connection = connection
    outlet.fd = -1
    outlet.max_backlog = max_backlog
    outlet.masking = masking


cdef inline void outlet_send(outlet_t *outlet) noexcept nogil:
    """Send pending if the socket may be written. What is left afterwards in `pending` needs Connection.sent_pending()."""
    cdef chunk_t *chunk = outlet.pending
    cdef ssize_t sent
    if chunk is NULL or outlet.blocked or outlet.fd < 0:
        return
    sent = chunk_send(outlet.fd, chunk)
    if sent < 0:
        outlet.sent = 0
        outlet.error = 0 if sent == -EAGAIN else <int>-sent
    elif <size_t>sent < chunk_total(chunk) or outlet.finishing or (chunk.refs == 1 and chunk.owner is not NULL):
        outlet.sent = <size_t>sent
    else:
        outlet.pending = NULL
        chunk.refs -= 1
        if chunk.refs == 0:
            chunk_free(chunk)


# ---------------------------------------------------------------------------------------------------------------------
# The backlog

cdef Py_ssize_t live_backlogs = 0


cdef bint backlog_append(outlet_t *outlet, chunk_t *chunk, size_t offset) except False:
    """Queue what follows `offset` of the chunk; takes over the caller's reference."""
    global live_backlogs
    cdef backlog_t *backlog = outlet.backlog
    cdef chunk_t **chunks
    cdef size_t i
    chunk.serial = 0           # what waits must not grow: no fan-out may take it for its tail
    if backlog is NULL:
        backlog = outlet.backlog = <backlog_t *>calloc(1, sizeof(backlog_t))
        if backlog is NULL:
            raise MemoryError
        live_backlogs += 1
    if backlog.count == backlog.capacity:
        chunks = <chunk_t **>malloc(max(2 * backlog.capacity, <size_t>8) * sizeof(chunk_t *))
        if chunks is NULL:
            raise MemoryError
        for i in range(backlog.count):
            chunks[i] = backlog.chunks[(backlog.head + i) & (backlog.capacity - 1)]
        free(backlog.chunks)
        backlog.chunks = chunks
        backlog.head = 0
        backlog.capacity = max(2 * backlog.capacity, <size_t>8)
    if backlog.count == 0:
        backlog.offset = offset
    backlog.chunks[(backlog.head + backlog.count) & (backlog.capacity - 1)] = chunk
    backlog.count += 1
    outlet.queued += chunk_total(chunk) - offset
    return True


cdef inline chunk_t *backlog_first(const backlog_t *backlog) noexcept:
    return backlog.chunks[backlog.head]


cdef void backlog_pop(outlet_t *outlet) noexcept:
    """Forget the first chunk; its reference passes to the caller. An empty backlog is given back."""
    global live_backlogs
    cdef backlog_t *backlog = outlet.backlog
    outlet.queued -= chunk_total(backlog_first(backlog)) - backlog.offset
    backlog.head = (backlog.head + 1) & (backlog.capacity - 1)
    backlog.count -= 1
    backlog.offset = 0
    if backlog.count == 0:
        live_backlogs -= 1
        free(backlog.chunks)
        free(backlog)
        outlet.backlog = NULL


cdef void outlet_drop(outlet_t *outlet) noexcept:
    """Drop everything that the transport does not hold yet."""
    cdef chunk_t *chunk
    if outlet.pending is not NULL:
        chunk = outlet.pending
        outlet.pending = NULL
        chunk_release(chunk)
    while outlet.backlog is not NULL:
        chunk = backlog_first(outlet.backlog)
        backlog_pop(outlet)
        chunk_release(chunk)


cdef inline bint outlet_fits(const outlet_t *outlet, size_t length) noexcept:
    """Whether a frame of so many bytes is within the budget; when nothing waits one of any size is."""
    cdef size_t held = outlet.queued
    if outlet.backlog is not NULL:
        held += outlet.backlog.count * sizeof(chunk_t)
    return held == 0 or held + length <= outlet.max_backlog


cdef int backlog_send(outlet_t *outlet) noexcept:
    """Send from the backlog until it is empty or the kernel takes no more; 0, or errno."""
    cdef iovec vectors[MAX_VECTORS]
    cdef msghdr message
    cdef backlog_t *backlog
    cdef chunk_t *chunk
    cdef ssize_t sent
    cdef size_t i, count, wanted, left
    while outlet.backlog is not NULL:
        backlog = outlet.backlog
        count = 0
        wanted = 0
        for i in range(backlog.count):
            if count + 2 > MAX_VECTORS:
                break
            chunk = backlog.chunks[(backlog.head + i) & (backlog.capacity - 1)]
            left = backlog.offset if i == 0 else 0
            wanted += chunk_total(chunk) - left
            count += chunk_iov(chunk, left, &vectors[count])
        memset(&message, 0, sizeof(message))
        message.msg_iov = vectors
        message.msg_iovlen = count
        with nogil:
            sent = sendmsg(outlet.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            if errno == EINTR:
                continue
            return 0 if errno == EAGAIN else errno
        backlog_advance(outlet, <size_t>sent)
        if <size_t>sent < wanted:
            return 0
    return 0


cdef void backlog_advance(outlet_t *outlet, size_t sent) noexcept:
    """Take off the front what the kernel took."""
    cdef chunk_t *chunk
    cdef size_t left
    while sent:
        chunk = backlog_first(outlet.backlog)
        left = chunk_total(chunk) - outlet.backlog.offset
        if sent < left:
            outlet.backlog.offset += sent
            outlet.queued -= sent
            return
        sent -= left
        backlog_pop(outlet)
        chunk_release(chunk)


@cython.final
@cython.internal
cdef class ChunkView:
    # Bytes of a chunk for a transport that wants Python buffers; keeps the chunk alive as long as the transport does
    cdef chunk_t *chunk
    cdef iovec bytes

    def __dealloc__(self):
        if self.chunk is not NULL:
            chunk_release(self.chunk)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.bytes.iov_base, self.bytes.iov_len, 1, flags)

    def __len__(self):
        return self.bytes.iov_len


cdef ChunkView chunk_view(chunk_t *chunk, const iovec *part):
    cdef ChunkView view = ChunkView.__new__(ChunkView)
    chunk.refs += 1
    view.chunk = chunk
    view.bytes = part[0]
    return view
