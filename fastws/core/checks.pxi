# Conditions that hold between any two steps of the core. Debug builds ask for them, where a breach ends the process on
# the spot; in all others these functions are never called, and the compiler drops them.

cdef extern from *:
    """
    #include <assert.h>
    #ifdef FASTWS_DEBUG
    #define FASTWS_CHECKS 1
    #else
    #define FASTWS_CHECKS 0
    #endif
    """
    const bint CHECKS "FASTWS_CHECKS"
    void must "assert"(bint condition) noexcept nogil


cdef void check_reader(const reader_t *reader) noexcept:
    """A partial exists as long as something is incomplete, and holds no more than it may."""
    cdef const partial_t *partial = reader.partial
    if partial is NULL:
        return
    must(partial.spill_len or partial.in_payload or partial.message.opcode)
    must(partial.spill_len < MAX_HEADER_LEN and partial.control_len <= MAX_CONTROL_LEN)
    must(partial.in_payload == (partial.remaining > 0))
    must(partial.message.length <= partial.message.capacity)
    must(partial.message.length <= reader.max_message_size)
    must((partial.message.object is NULL) == (partial.message.capacity == 0))
    must(partial.inflater is NULL or (partial.message.opcode and reader.rsv))


cdef void check_outlet(const outlet_t *outlet) noexcept:
    """All that waits was counted, byte by byte; frames collect only while nothing waits before them."""
    cdef const backlog_t *backlog = outlet.backlog
    cdef const chunk_t *chunk
    cdef size_t queued = outlet.handed
    cdef size_t i
    must(outlet.state != READY or outlet.handed == 0)
    must(not outlet.left)
    if outlet.pending is not NULL:
        must(outlet.pending.refs > 0 and backlog is NULL and outlet.state != BLOCKED)
    if backlog is not NULL:
        must(0 < backlog.count <= backlog.capacity and backlog.capacity & (backlog.capacity - 1) == 0)
        must(backlog.offset < chunk_total(backlog_first(backlog)))
        queued -= backlog.offset
        for i in range(backlog.count):
            chunk = backlog.chunks[(backlog.head + i) & (backlog.capacity - 1)]
            must(chunk.refs > 0 and chunk.serial == 0)
            queued += chunk_total(chunk)
    must(outlet.queued == queued)


cdef void check_connection(Connection connection) noexcept:
    """At the end of a callback."""
    check_reader(&connection.reader)
    check_outlet(&connection.outlet)
    must(connection.inbox is not None or connection.inbox_len == 0)
    must(connection.state != CLOSED or (connection.place < 0 and connection.memberships is None))
    if connection.place >= 0:
        check_place(connection.endpoint.members, connection, connection.place)


cdef void check_place(Members members, Connection connection, Py_ssize_t place) noexcept:
    """A connection knows where it stands."""
    cdef const lane_t *lane = members.find_lane(&connection.outlet)
    must(lane is not NULL and 0 <= place < lane.count and lane.items[place] is &connection.outlet)


cdef void check_shared(const lane_t *lane, const chunk_t *chunk) noexcept:
    """All members of the lane hold this chunk, and nobody else does."""
    cdef Py_ssize_t i
    must(<Py_ssize_t>chunk.refs == lane.count)
    for i in range(lane.count):
        must(lane.items[i].pending is chunk)
