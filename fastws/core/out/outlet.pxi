# A connection's end of what goes out: collected in a turn, sent straight on the socket, bounded where the peer is slow.
#
# Theory of operation. An outlet is in one of these states:
#
#         +--- all of it is sent ---+
#         v                         |
#       READY --- some is left ---> BLOCKED
#         |                         |
#         +--- the end, or the peer is gone ---> SEALED
#
#   READY    Nothing waits anywhere. Frames collect in `pending`, one chunk, until somebody sends it with one system call.
#   BLOCKED  What the kernel did not take waits, and every further frame behind it (handover.pxi). The core's transport
#            watches the socket for room. A transport of the loop's, where there is TLS or no socket, holds bytes itself.
#   SEALED   Nothing more is sent.
#
# So the order of frames is the order of the calls: pending is only ever filled while the backlog is empty, and the
# socket is only ever written while no transport holds bytes.
#
# A pending chunk may be shared by all outlets that were given the same frames this turn; who is given something else
# goes on with a copy of its own.

cdef enum outlet_state:
    READY
    BLOCKED
    SEALED

cdef enum:
    PENDING_LEN = 256          # bytes of a connection's own pending chunk at first


ctypedef struct backlog_t:
    link_t link                # in the hub's list of all backlogs
    chunk_t **chunks           # a ring
    size_t head
    size_t count
    size_t capacity            # a power of two
    size_t offset              # bytes of the first chunk that are sent
    size_t stuck               # chunks at the front of which none may be dropped, as far as somebody looked
    uint64_t popped            # chunks that left it so far: what a place in `places` is counted from
    PyObject *places           # owned dict: key -> place of the message that carries it; NULL while there is none


ctypedef struct outlet_t:
    PyObject *connection       # borrowed: the Connection that this is part of
    PyObject *deflater         # borrowed from the hub: the shared Deflater, or NULL where nothing is compressed
    chunk_t *pending           # frames of this turn, or NULL
    int fd                     # the socket, or -1: only the transport may write
    uint32_t turn              # the last turn in which a lone push went out at once
    uint8_t state                 # an outlet_state; see outlet_become()
    uint8_t accepting             # frames with data are taken
    uint8_t dirty                 # in which of the hub's lists: bits of dirty_kind
    uint8_t skipped               # left out of the fan-out that is under way
    uint8_t finishing             # close the transport once everything is sent
    uint8_t handing               # the transport is being written to
    uint8_t masking               # a client's: frames leave masked
    uint8_t left                  # of pending, after a send: sent_pending() is due, before anything else is sent
    uint8_t stale                 # compressed frames passed that the connection's own Deflater does not know
    int error                  # errno of the send that failed, or 0
    double last_sent           # loop time, coarse: something left
    size_t sent                # bytes of pending that the kernel took, when not all
    size_t queued              # bytes in the backlog and handed to the transport
    size_t handed              # of these, bytes that the transport holds
    size_t max_backlog         # bytes
    uint32_t dropped           # messages that did not fit, or made room for others
    uint32_t conflated         # of these, those that gave their place to another one with their key
    backlog_t *backlog         # NULL while nothing waits


cdef inline void outlet_init(outlet_t *outlet, PyObject *connection, size_t max_backlog, bint masking) noexcept:
    memset(outlet, 0, sizeof(outlet_t))
    outlet.connection = connection
    outlet.fd = -1
    outlet.max_backlog = max_backlog
    outlet.masking = masking


cdef inline void outlet_become(outlet_t *outlet, outlet_state state) noexcept:
    """Change the state; what is sealed stays so, and neither takes data nor knows its socket any more."""
    if outlet.state != SEALED:
        outlet.state = state
    if state == SEALED:
        outlet.fd = -1
        outlet.accepting = False


cdef inline bint outlet_ready(const outlet_t *outlet) noexcept nogil:
    """Whether something is pending and the socket may be written."""
    return outlet.pending is not NULL and outlet.state == READY and not outlet.left and outlet.fd >= 0


cdef inline void outlet_sent(outlet_t *outlet, ssize_t sent) noexcept nogil:
    """Take note of what the kernel said to a send of pending: bytes, or minus errno."""
    cdef chunk_t *chunk = outlet.pending
    outlet.sent = 0
    outlet.left = True
    if sent < 0:
        outlet.error = 0 if sent == -EAGAIN else <int>-sent
    elif <size_t>sent < chunk_total(chunk) or outlet.finishing or (chunk.refs == 1 and chunk_owns_objects(chunk)):
        outlet.sent = <size_t>sent
    else:
        outlet.left = False
        outlet.pending = NULL
        chunk.refs -= 1
        if chunk.refs == 0:
            chunk_free(chunk)


cdef inline void outlet_send(outlet_t *outlet) noexcept nogil:
    """Send pending if the socket may be written. What is left afterwards in `pending` needs Connection.sent_pending()."""
    if outlet_ready(outlet):
        outlet_sent(outlet, chunk_send(outlet.fd, outlet.pending))
    else:
        outlet.left = outlet.pending is not NULL
