# One frame to many connections, and the sets that a frame goes to.
#
# Members is a dense array, so a fan-out walks memory in order and touches no Python object. Joining appends, leaving
# moves the last member into the gap; each connection knows its places.
#
# A fan-out only makes the frame pending at every member: hub.send_dirty() sends it at the end of the turn. Members that
# were given the same frames this turn hold the same chunk. So the second frame for a member that holds something is not
# copied per member but joined once: the loop remembers the last chunk it met and what became of it. And when all
# members still hold exactly the chunk that the last fan-out to the same members left, the frame is joined to that
# chunk in place, whatever the number of members.

@cython.final
cdef class Members:
    cdef outlet_t **items      # their Connections are owned
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef uint64_t tail         # serial of the chunk that all members hold, if they do; 0 when they cannot

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.count):
            Py_DECREF(<object>self.items[i].connection)
        free(self.items)

    cdef Py_ssize_t add(self, Connection connection) except -1:
        """Append a member that is not in; returns its place."""
        cdef outlet_t **items
        if self.count == self.capacity:
            items = <outlet_t **>realloc(self.items, max(2 * self.capacity, <Py_ssize_t>8) * sizeof(outlet_t *))
            if items is NULL:
                raise MemoryError
            self.items = items
            self.capacity = max(2 * self.capacity, <Py_ssize_t>8)
        Py_INCREF(connection)
        self.items[self.count] = &connection.outlet
        self.count += 1
        self.tail = 0
        return self.count - 1

    cdef Connection remove(self, Py_ssize_t place):
        """Take a member out; returns the one that moved to its place, or None."""
        cdef PyObject *removed = self.items[place].connection
        cdef Connection moved = None
        self.count -= 1
        self.tail = 0
        if place < self.count:
            self.items[place] = self.items[self.count]
            moved = <Connection>self.items[place].connection
        Py_DECREF(<object>removed)
        return moved

    cdef int add_connection(self, Connection connection) except -1:
        connection.place = self.add(connection)
        return 0

    cdef void remove_connection(self, Connection connection):
        cdef Connection moved
        if connection.place >= 0:
            if CHECKS:
                check_place(self, connection, connection.place)
            moved = self.remove(connection.place)
            if moved is not None:
                moved.place = connection.place
            connection.place = -1

    # Public API

    def __len__(self):
        return self.count

    def __contains__(self, connection):
        cdef Py_ssize_t place
        if type(connection) is not Connection:
            return False
        place = (<Connection>connection).place
        return 0 <= place < self.count and self.items[place] is &(<Connection>connection).outlet

    def __iter__(self):
        return iter(self.snapshot())

    cdef list snapshot(self):
        return [<Connection>self.items[i].connection for i in range(self.count)]

    def __repr__(self):
        return f"<{self.count} connections>"


@cython.final
cdef class Group:
    # Connections under a name that any service may push to
    cdef readonly str name
    cdef readonly Members members
    cdef bint kept             # created explicitly: stays when its last member leaves

    def __cinit__(self, str name not None):
        self.name = name
        self.members = Members()

    # Public API

    def __len__(self):
        return self.members.count

    def __contains__(self, connection):
        return type(connection) is Connection and self in ((<Connection>connection).memberships or ())

    def __iter__(self):
        return iter(self.members.snapshot())

    def __repr__(self):
        return f"<Group {self.name!r} of {self.members.count}>"


# ---------------------------------------------------------------------------------------------------------------------
# The fan-out

ctypedef struct tally_t:
    Py_ssize_t matched
    Py_ssize_t queued


cdef tally_t fan_out(Members members, chunk_t *frame) except *:
    """Make one frame pending at every member that is not skipped; the caller keeps its reference."""
    cdef tally_t tally
    cdef chunk_t *met = NULL           # what the last member with something pending held, and what that became
    cdef chunk_t *joined = NULL
    cdef chunk_t *pending
    cdef outlet_t *outlet
    cdef Py_ssize_t i
    tally.matched = 0
    tally.queued = 0
    if extend_tail(members, frame):
        tally.matched = tally.queued = members.count
        return tally
    for i in range(members.count):
        outlet = members.items[i]
        if outlet.skipped:
            continue
        tally.matched += 1
        if not outlet.accepting:
            continue
        if outlet.masking:
            tally.queued += push_masked(<Connection>outlet.connection, frame)
            continue
        pending = outlet.pending
        if pending is NULL and not outlet.blocked:
            outlet.pending = frame
            frame.refs += 1
        elif pending is not NULL and pending is met:
            outlet.pending = joined
            joined.refs += 1
            pending.refs -= 1          # met is held by us: this is never the last reference
        elif pending is not NULL and pending.refs > 1 and frame.payload is NULL and chunk_joins(pending, frame.length):
            if met is not NULL:
                chunk_release(met)
                chunk_release(joined)
            joined = chunk_concat(pending, frame)
            if joined is NULL:
                raise MemoryError
            met = pending              # takes over the member's reference
            outlet.pending = joined
            joined.refs += 1
        elif not put_frame_chunk(<Connection>outlet.connection, frame):
            continue
        if not outlet.dirty and outlet.pending is not NULL:
            (<Connection>outlet.connection).hub.mark_dirty(outlet)
        tally.queued += 1
    if met is not NULL:
        chunk_release(met)
        chunk_release(joined)
    remember_tail(members, tally)
    if tally.queued:
        (<Connection>members.items[0].connection).hub.schedule()
    return tally


cdef bint push_masked(Connection connection, const chunk_t *frame) except *:
    """Give a client's connection the message of a frame: what it sends is masked with a key of its own."""
    cdef header_t header
    cdef const uint8_t *payload = frame.payload
    memset(&header, 0, sizeof(header))
    cdef int header_len = parse_header(frame.data, frame.length, &header)
    if payload is NULL:
        payload = frame.data + header_len
    return push_message(connection, header.opcode, payload, <size_t>header.length, None)


cdef bint extend_tail(Members members, chunk_t *frame) noexcept:
    """Join the frame to the one chunk that all members hold, if they do."""
    cdef chunk_t *chunk
    if members.tail == 0 or members.count == 0 or frame.payload is not NULL:
        return False
    chunk = members.items[0].pending
    if chunk is NULL or chunk.serial != members.tail or <Py_ssize_t>chunk.refs != members.count:
        return False
    if CHECKS:
        check_shared(members, chunk)
    if any_skipped or not chunk_joins(chunk, frame.length) or not chunk_reserve(chunk, frame.length):
        return False
    memcpy(chunk.data + chunk.length, frame.data, frame.length)
    chunk.length += frame.length
    return True


cdef inline void remember_tail(Members members, tally_t tally) noexcept:
    """Note the chunk that all members hold now, if there is one."""
    cdef chunk_t *chunk
    members.tail = 0
    if tally.queued == members.count and members.count > 1:
        chunk = members.items[0].pending
        if chunk is not NULL:
            members.tail = chunk.serial


cdef bint put_frame_chunk(Connection connection, chunk_t *frame) except *:
    """The cases that are not shared: something of its own is pending, the frame is long, or the peer is slow."""
    cdef outlet_t *outlet = &connection.outlet
    cdef chunk_t *own
    if not outlet.blocked and frame.payload is NULL and chunk_joins(outlet.pending, frame.length):
        own = own_pending(connection, frame.length)
        memcpy(own.data + own.length, frame.data, frame.length)
        own.length += frame.length
        return True
    if not outlet.blocked:
        connection.send_now()
    if not outlet.blocked:
        outlet.pending = frame
        frame.refs += 1
        return True
    if not outlet_fits(outlet, chunk_total(frame)):
        give_up_on(connection)
        return False
    backlog_append(outlet, frame, 0)
    frame.refs += 1
    return True


cdef bint any_skipped = False


cdef Delivery fan_out_frame(Members members, uint8_t opcode, const uint8_t *payload, size_t length, object owner,
                            object exclude):
    cdef chunk_t *frame
    cdef tally_t tally
    if members.count == 0:
        return ABSENT
    left_out = mark_skipped(exclude, True)
    try:
        frame = new_frame(opcode, payload, length, owner)
        try:
            tally = fan_out(members, frame)
        finally:
            chunk_release(frame)
    finally:
        mark_skipped(left_out, False)
    return Delivery(tally.matched, tally.queued, tally.matched - tally.queued)


cdef object mark_skipped(object connections, bint skipped):
    """Leave connections out of the next fan-out, or no longer; returns them as a tuple."""
    global any_skipped
    if connections is None:
        return None
    if type(connections) is Connection:
        connections = (connections,)
    elif type(connections) is not tuple:
        connections = tuple(connections)
    for connection in connections:
        if type(connection) is not Connection:
            raise TypeError(f"exclude takes connections, not {type(connection).__name__}")
    for connection in connections:
        (<Connection>connection).outlet.skipped = skipped
    any_skipped = skipped and len(connections) > 0
    return connections


cdef Delivery fan_out_str(Members members, str text, object exclude):
    cdef bytes encoded
    if PyUnicode_IS_COMPACT_ASCII(text):
        return fan_out_frame(members, OP_TEXT, <const uint8_t *>PyUnicode_DATA(<PyObject *>text),
                             PyUnicode_GET_LENGTH(text), text, exclude)
    encoded = text.encode()
    return fan_out_frame(members, OP_TEXT, <const uint8_t *>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded),
                         encoded, exclude)


cdef Delivery fan_out_data(Members members, data, object exclude):
    cdef bytes owned = own_bytes(data)
    return fan_out_frame(members, OP_BINARY, <const uint8_t *>PyBytes_AS_STRING(owned), PyBytes_GET_SIZE(owned), owned,
                         exclude)
