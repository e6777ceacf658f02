# One frame to many connections, and the sets that a frame goes to.
#
# Members is a dense array per lane, and a lane is made of those who need the same bytes: all of them, or as many as
# window sizes were negotiated. So a fan-out walks memory in order and touches no Python object. Joining appends, leaving
# moves the last member of the lane into the gap; each connection knows its places.
#
# A fan-out only makes the frame pending at every member: send_dirty() sends it at the end of the turn. Members that
# were given the same frames this turn hold the same chunk. So the second frame for a member that holds something is not
# copied per member but joined once for each chunk that is met, which remembers what became of it. And when all
# members of a lane still hold exactly the chunk that the last fan-out to the same members left, the frame is joined to
# that chunk in place, whatever the number of members.

ctypedef struct lane_t:
    PyObject *deflater         # of all its members, borrowed from the hub; NULL where nothing is compressed
    outlet_t **items           # their Connections are owned
    Py_ssize_t count
    Py_ssize_t capacity
    uint64_t tail              # serial of the chunk that all members hold, if they do; 0 when they cannot
    bint tail_stale            # they hold it as stale: compressed frames may be joined to it


@cython.final
cdef class Members:
    cdef lane_t *lanes
    cdef Py_ssize_t lane_count
    cdef Py_ssize_t count      # of all lanes
    cdef PyObject *group       # borrowed: the Group whose members these are; NULL where they are a service's

    def __dealloc__(self):
        cdef Py_ssize_t i, k
        for k in range(self.lane_count):
            for i in range(self.lanes[k].count):
                Py_DECREF(<object>self.lanes[k].items[i].connection)
            free(self.lanes[k].items)
        free(self.lanes)

    cdef inline lane_t *find_lane(self, const outlet_t *outlet) noexcept:
        """The lane that an outlet belongs to, or NULL."""
        cdef Py_ssize_t k
        for k in range(self.lane_count):
            if self.lanes[k].deflater is outlet.deflater:
                return &self.lanes[k]
        return NULL

    cdef lane_t *need_lane(self, const outlet_t *outlet) except NULL:
        cdef lane_t *lane = self.find_lane(outlet)
        cdef lane_t *lanes
        if lane is not NULL:
            return lane
        lanes = <lane_t *>realloc(self.lanes, (self.lane_count + 1) * sizeof(lane_t))
        if lanes is NULL:
            raise MemoryError
        self.lanes = lanes
        lane = &lanes[self.lane_count]
        self.lane_count += 1
        memset(lane, 0, sizeof(lane_t))
        lane.deflater = outlet.deflater
        return lane

    cdef Py_ssize_t add(self, Connection connection) except -1:
        """Append a member that is not in; returns its place in its lane."""
        cdef lane_t *lane = self.need_lane(&connection.outlet)
        cdef outlet_t **items
        if lane.count == lane.capacity:
            items = <outlet_t **>realloc(lane.items, max(2 * lane.capacity, <Py_ssize_t>8) * sizeof(outlet_t *))
            if items is NULL:
                raise MemoryError
            lane.items = items
            lane.capacity = max(2 * lane.capacity, <Py_ssize_t>8)
        Py_INCREF(connection)
        lane.items[lane.count] = &connection.outlet
        lane.count += 1
        lane.tail = 0
        self.count += 1
        return lane.count - 1

    cdef Connection remove(self, Connection connection, Py_ssize_t place):
        """Take a member out; returns the one that moved to its place, or None."""
        cdef lane_t *lane = self.find_lane(&connection.outlet)
        cdef Connection moved = None
        if CHECKS:
            check_place(self, connection, place)
        lane.count -= 1
        lane.tail = 0
        self.count -= 1
        if place < lane.count:
            lane.items[place] = lane.items[lane.count]
            moved = <Connection>lane.items[place].connection
        Py_DECREF(connection)
        return moved

    cdef int add_connection(self, Connection connection) except -1:
        connection.place = self.add(connection)
        return 0

    cdef void remove_connection(self, Connection connection):
        cdef Connection moved
        if connection.place >= 0:
            moved = self.remove(connection, connection.place)
            if moved is not None:
                moved.place = connection.place
            connection.place = -1

    # Public API

    def __len__(self):
        return self.count

    def __contains__(self, connection):
        cdef outlet_t *outlet
        cdef lane_t *lane
        cdef Py_ssize_t place
        if type(connection) is not Connection:
            return False
        if self.group is not NULL:
            return <object>self.group in ((<Connection>connection).memberships or ())
        outlet = &(<Connection>connection).outlet
        place = (<Connection>connection).place
        lane = self.find_lane(outlet)
        return lane is not NULL and 0 <= place < lane.count and lane.items[place] is outlet

    def __iter__(self):
        return iter(self.snapshot())

    cdef Connection last(self):
        """Any member, or None."""
        cdef Py_ssize_t k
        for k in range(self.lane_count):
            if self.lanes[k].count:
                return <Connection>self.lanes[k].items[self.lanes[k].count - 1].connection
        return None

    cdef list snapshot(self):
        cdef list connections = []  # before the walk: to make an object may run others
        cdef Py_ssize_t i, k
        for k in range(self.lane_count):
            for i in range(self.lanes[k].count):
                connections.append(<Connection>self.lanes[k].items[i].connection)
        return connections

    def __repr__(self):
        return f"<{self.count} connections>"


cdef Members NOBODY = Members()  # and nobody ever joins


@cython.final
cdef class Group:
    # Connections under a name that any service may push to
    cdef readonly str name
    cdef readonly Members members
    cdef bint kept             # created explicitly: stays when its last member leaves
    cdef Target target         # what other nodes know it by, while it has members and there are any

    def __cinit__(self, name):
        self.name = own_name(name, "group")
        self.members = Members()
        self.members.group = <PyObject *>self

    def __dealloc__(self):
        # Who looked them up may hold them longer: they are nobody's then
        if self.members is not None:
            self.members.group = NULL

    # Public API

    def __len__(self):
        return self.members.count

    def __contains__(self, connection):
        return connection in self.members

    def __iter__(self):
        return iter(self.members.snapshot())

    def __repr__(self):
        return f"<Group {self.name!r} of {self.members.count}>"


# ---------------------------------------------------------------------------------------------------------------------
# The fan-out

ctypedef struct tally_t:
    Py_ssize_t matched
    Py_ssize_t queued
    bint skips                 # somebody is left out


cdef int fan_out(lane_t *lane, chunk_t *frame, bint compressed, tally_t *tally, list late) except -1:
    """Make one frame pending at every member that is not skipped; the caller keeps its reference.

    Nobody else runs meanwhile: what might have others run is left for `late`, the members that it is to be given to.
    """
    cdef Py_ssize_t before = tally.queued
    cdef chunk_t *met = NULL
    if (lane.tail_stale or not compressed) and extend_tail(lane, frame, tally.skips):
        tally.matched += lane.count
        tally.queued += lane.count
        return 0
    lane.tail = 0
    try:
        walk_lane(lane, frame, compressed, tally, &met, late)
    finally:
        forget_joined(met)
    remember_tail(lane, compressed, tally.queued - before)
    return 0


cdef int walk_lane(lane_t *lane, chunk_t *frame, bint compressed, tally_t *tally, chunk_t **met, list late) except -1:
    """The walk over all members; what a shared chunk becomes with the frame is noted in it, and in *met."""
    cdef Hub hub = (<Connection>lane.items[0].connection).hub
    cdef outlet_t *outlet
    cdef Py_ssize_t i
    for i in range(lane.count):
        outlet = lane.items[i]
        if outlet.skipped:
            continue
        tally.matched += 1
        if not outlet.accepting:
            continue
        if outlet.masking or outlet.state == BLOCKED:
            late.append(<Connection>outlet.connection)
            continue
        if outlet.pending is NULL:
            outlet.pending = frame
            frame.refs += 1
        elif not put_joined(outlet, frame, met) and not put_own(hub, outlet, frame):
            late.append(<Connection>outlet.connection)
            continue
        outlet.stale |= compressed
        if not outlet.dirty:
            hub.mark_dirty(outlet)     # for which there is room
        tally.queued += 1
    return 0


cdef inline bint put_own(Hub hub, outlet_t *outlet, const chunk_t *frame) noexcept:
    """Join the frame to a pending chunk that nobody else holds, if there is room."""
    cdef chunk_t *pending = outlet.pending
    return pending.refs == 1 and frame_joins(pending, frame) and hub.collects(frame.length) and chunk_append(pending, frame)


cdef inline bint put_joined(outlet_t *outlet, chunk_t *frame, chunk_t **met) noexcept:
    """Join the frame to a pending chunk that others hold, too, once for all of them. False: this is none of those.

    So the bytes are joined as often as there are histories, in whatever order their members come. The chunks that were
    met are a list: each names its successor, and that the next of them. The list holds a reference to both.
    """
    cdef chunk_t *pending = outlet.pending
    cdef chunk_t *joined = pending.joined
    cdef Hub hub
    if joined is NULL:
        hub = (<Connection>outlet.connection).hub
        if pending.refs == 1 or not frame_joins(pending, frame) or hub.collected > COLLECT_LEN:
            return False
        joined = chunk_concat(pending, frame)
        if joined is NULL:
            return False
        hub.collected += joined.capacity
        joined.joined = met[0]
        pending.joined = joined
        met[0] = pending       # takes over the member's reference
    else:
        pending.refs -= 1      # the list holds one: this is never the last
    outlet.pending = joined
    joined.refs += 1
    return True


cdef void forget_joined(chunk_t *met) noexcept:
    """Forget what was noted in chunks during a walk."""
    cdef chunk_t *joined
    cdef chunk_t *following
    while met is not NULL:
        joined = met.joined
        following = joined.joined
        met.joined = joined.joined = NULL
        chunk_release(met)
        chunk_release(joined)
        met = following


cdef bint push_masked(Connection connection, const chunk_t *frame, const policy_t *policy) except *:
    """Give a client's connection the message of a frame: what it sends is masked with a key of its own."""
    cdef header_t header
    memset(&header, 0, sizeof(header))
    cdef int header_len = parse_header(frame.data, frame.length, &header, RSV1)
    cdef payload_t payload
    payload.kind = header.opcode | header.rsv
    payload.data = frame.parts[0].data if frame.part_count else frame.data + header_len
    connection.outlet.stale |= header.rsv != 0
    payload.length = <size_t>header.length
    payload.owner = NULL
    return push_frame(connection, &payload, policy)


cdef bint extend_tail(lane_t *lane, chunk_t *frame, bint skips) noexcept:
    """Join the frame to the one chunk that all members hold, if they do."""
    cdef chunk_t *chunk
    if lane.tail == 0 or lane.count == 0:
        return False
    chunk = lane.items[0].pending
    if chunk is NULL or chunk.serial != lane.tail or <Py_ssize_t>chunk.refs != lane.count:
        return False
    if CHECKS:
        check_shared(lane, chunk)
    return not skips and frame_joins(chunk, frame) and chunk_append(chunk, frame)


cdef inline bint frame_joins(const chunk_t *chunk, const chunk_t *frame) noexcept:
    return chunk_joins(chunk, chunk_total(frame), frame.part_count)


cdef inline void remember_tail(lane_t *lane, bint compressed, Py_ssize_t queued) noexcept:
    """Note the chunk that all members hold now, if there is one."""
    cdef chunk_t *chunk
    lane.tail = 0
    lane.tail_stale = compressed
    if queued == lane.count and lane.count > 1:
        chunk = lane.items[0].pending
        if chunk is not NULL:
            lane.tail = chunk.serial


cdef bint put_late(Connection connection, chunk_t *frame, bint compressed, const policy_t *policy) except *:
    """The cases that may run others: what is pending has to leave first, or the peer is slow, or ours is the client."""
    cdef outlet_t *outlet = &connection.outlet
    if not outlet.accepting:
        return False
    if outlet.masking:
        return push_masked(connection, frame, policy)
    while outlet.pending is not NULL:
        connection.send_now()  # others may run, and push again
    if outlet.state == SEALED:
        return False
    if outlet.state == BLOCKED:
        if not queue_chunk(connection, frame, policy):
            return False
    else:
        outlet.pending = frame
        frame.refs += 1
    outlet.stale |= compressed
    if outlet.pending is not NULL and not outlet.dirty and not connection.hub.mark_dirty(outlet):
        connection.send_now()
    return True


cdef int fan_out_late(list late, chunk_t *frame, bint compressed, const policy_t *policy, tally_t *tally) except -1:
    """Give the frame to those whom the walk left; what goes wrong with one keeps it from nobody else."""
    cdef Connection connection
    for connection in late:
        try:
            tally.queued += put_late(connection, frame, compressed, policy)
        except BaseException as error:
            connection.hub.tell_later(error, connection)
    return 0


cdef Delivery fan_out_message(Members members, uint8_t opcode, object message, object exclude, object overflow,
                              object key, Node node, Target target):
    """Broadcast for the service API, here and, if there is a node, to those whom others know as the target."""
    cdef policy_t policy
    cdef payload_t payload
    cdef Delivery here = ABSENT
    owner = message_payload(opcode, message, &payload)
    key = own_key(key)
    read_policy(overflow, key, &policy)
    if members.count or exclude is not None:
        here = fan_out_lanes(members, &payload, as_connections(exclude), &policy)
    return here if node is None else node.pass_on(target, opcode, &payload, &policy, here)


cdef Delivery fan_out_lanes(Members members, const payload_t *payload, tuple left_out, const policy_t *policy):
    cdef tally_t tally
    cdef Py_ssize_t k = 0
    tally.matched = tally.queued = 0
    tally.skips = bool(left_out)
    while k < members.lane_count:
        # Others run in between, who may add a lane
        fan_out_lane(members, k, payload, left_out, policy, &tally)
        k += 1
    return Delivery(tally.matched, tally.queued, tally.matched - tally.queued)


cdef int fan_out_lane(Members members, Py_ssize_t k, const payload_t *payload, tuple left_out, const policy_t *policy,
                      tally_t *tally) except -1:
    """Build the frame as the members of a lane need it, and give it to all of them."""
    # Not the lane itself: what may run others comes before it is looked at, and who adds a lane moves them all
    cdef PyObject *deflater = members.lanes[k].deflater
    cdef Hub hub
    cdef bytes body = None
    cdef payload_t compressed
    cdef chunk_t *frame
    cdef list late
    if members.lanes[k].count == 0:
        return 0
    hub = (<Connection>members.lanes[k].items[0].connection).hub
    hub.schedule()
    late = []
    if deflater is not NULL:
        body = deflated(<Deflater>deflater, payload)
    if body is not None:
        payload_of_bytes(payload.kind | RSV1, body, &compressed)
        payload = &compressed
    frame = new_frame(payload)
    try:
        make_whole(frame, policy, True)
        fan_out_but(&members.lanes[k], left_out, frame, body is not None, hub, tally, late)
        fan_out_late(late, frame, body is not None, policy, tally)
    finally:
        chunk_release(frame)
    return 0


cdef int fan_out_but(lane_t *lane, tuple left_out, chunk_t *frame, bint compressed, Hub hub, tally_t *tally,
                     list late) except -1:
    """Fan out to all but some. Their mark stands only while nobody else runs, here or in another loop's thread."""
    if lane.count == 0:
        return 0
    if not hub.reserve_dirty(lane.count):
        raise MemoryError
    mark_skipped(left_out, True)
    try:
        fan_out(lane, frame, compressed, tally, late)
    finally:
        mark_skipped(left_out, False)
    return 0


cdef tuple as_connections(object connections):
    """The connections that are to be left out, or None."""
    if connections is None:
        return None
    if type(connections) is Connection:
        return (connections,)
    cdef tuple found = tuple(connections)
    for connection in found:
        if type(connection) is not Connection:
            raise TypeError(f"exclude takes connections, not {type(connection).__name__}")
    return found


cdef inline void mark_skipped(tuple connections, bint skipped) noexcept:
    if connections is not None:
        for connection in connections:
            (<Connection>connection).outlet.skipped = skipped
