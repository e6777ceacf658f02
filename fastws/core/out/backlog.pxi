# The backlog of a peer that does not read: chunks by reference, in order, within budgets (docs/design.md, "Slow clients").
#
# Theory of operation. A backlog is a ring of chunks. A frame that is broadcast to a thousand slow peers is one chunk in a
# thousand rings. Two budgets bound it. `max_backlog` of the connection counts the bytes of frames that wait for it, as
# `buffered` and `high_water` do. The hub's counts what memory all of it takes: each chunk once, however many wait for it,
# and the rings.
#
# A short message would be small beside the chunk that it needs. Those that wait for one connection, and have no key, are
# joined in *runs* of a KiB, and so is a very short frame that many wait for: a place in a ring is no smaller.
#
# What becomes of a message that does not fit is decided in make_room(). Only *whole* chunks can be dropped: one message
# that has not begun to be sent and that no later one refers to. Never control frames, nor what was joined to others
# before the peer was slow, nor what belongs to a compressor's history.
#
# A message with a key replaces the one with the same key where that waits. `places` knows where: counted from the first
# chunk that ever waited here, so that it stays right when chunks leave at the front.

cdef enum overflow_kind:
    OVERFLOW_CLOSE             # with `overflow_code`
    OVERFLOW_DROP_NEW
    OVERFLOW_DROP_OLD
    OVERFLOW_CONFLATE
    OVERFLOW_AS_SERVICE        # of a push: what its service says

    RUN_LEN = 1024             # bytes of frames in a run
    RUN_MESSAGE_LEN = 128      # bytes of a message; a longer one waits in a chunk of its own
    RUN_SHARED_LEN = 32        # bytes of a frame that many wait for; likewise
    KEY_LEN = 80               # bytes that a table needs for each of its keys, about

    LOW_WATER_PART = 4         # low water is a fourth of high water
    MAX_VECTORS = 64           # that one sendmsg takes from the backlog

OVERFLOWS = ("close", "drop_new", "drop_old", "conflate")

cdef Py_ssize_t live_backlogs = 0


ctypedef struct policy_t:
    # How a message is pushed
    int overflow               # an overflow_kind
    PyObject *key              # borrowed, or NULL


cdef policy_t PLAINLY          # as the service says, without a key
PLAINLY.overflow = OVERFLOW_AS_SERVICE
PLAINLY.key = NULL


cdef int read_policy(object overflow, object key, policy_t *policy) except -1:
    """A push's word about its message; a key alone means to conflate. It is own_key()'s, and the caller keeps it."""
    policy.overflow = OVERFLOW_AS_SERVICE
    policy.key = NULL
    if overflow is not None:
        policy.overflow = overflow_of_name(overflow)
    if key is not None:
        if overflow is None:
            policy.overflow = OVERFLOW_CONFLATE
        policy.key = <PyObject *>key
    if (policy.overflow == OVERFLOW_CONFLATE) != (key is not None):
        raise ValueError("key= and overflow='conflate' go together")
    return 0


cdef int overflow_of_name(object name) except -1:
    if name not in OVERFLOWS:
        raise ValueError(f"overflow={name!r}: give one of {', '.join(OVERFLOWS)}")
    return OVERFLOWS.index(name)


cdef inline int overflow_of(Connection connection, const policy_t *policy) noexcept:
    return connection.endpoint.overflow if policy.overflow == OVERFLOW_AS_SERVICE else policy.overflow


# ---------------------------------------------------------------------------------------------------------------------
# Taking a message in

cdef bint queue_chunk(Connection connection, chunk_t *chunk, const policy_t *policy) except *:
    """Queue a message for a slow peer, as its policy wants it; the caller keeps its reference. False: it is dropped."""
    cdef outlet_t *outlet = &connection.outlet
    if not replace_same_key(outlet, chunk):
        if not make_room(connection, chunk_total(chunk), policy):
            outlet.dropped += 1
            return False
        if chunk.key is NULL and chunk_total(chunk) <= RUN_SHARED_LEN:
            run_append(outlet, chunk.data, chunk.length)
        else:
            backlog_append(outlet, chunk, 0)
            chunk.refs += 1
    note_backlog(connection)
    return True


cdef bint queue_short(Connection connection, const payload_t *payload, const policy_t *policy) except *:
    """Queue a short message without a key in a run. False: it is dropped."""
    cdef outlet_t *outlet = &connection.outlet
    cdef uint8_t frame[RUN_MESSAGE_LEN + MAX_HEADER_LEN]
    cdef uint32_t key = masking_key() if outlet.masking else 0
    cdef uint8_t *end = put_frame(frame, payload.kind, payload.data, payload.length, outlet.masking, key)
    if not make_room(connection, end - frame, policy):
        outlet.dropped += 1
        return False
    run_append(outlet, frame, end - frame)
    note_backlog(connection)
    return True


cdef bint make_room(Connection connection, size_t length, const policy_t *policy) except *:
    """Whether so many bytes may be queued, after the policy has done what it does about it."""
    cdef outlet_t *outlet = &connection.outlet
    cdef int overflow
    if outlet_fits(outlet, length, NULL):
        return True
    overflow = overflow_of(connection, policy)
    if overflow == OVERFLOW_DROP_OLD:
        return drop_oldest(outlet, length)
    if overflow != OVERFLOW_DROP_NEW:
        # Of what is conflated nothing may be missing either: a peer that gets it all again comes back for it
        give_up_on(connection)
    return False


cdef inline bint outlet_fits(const outlet_t *outlet, size_t length, const chunk_t *replaced) noexcept:
    """Whether a frame of so many bytes is within the budget, in the place of another or beside all (NULL).

    When nothing else waits one of any size is.
    """
    cdef size_t others = outlet.queued
    if replaced is not NULL:
        others -= chunk_total(replaced)
    return others == 0 or others + length <= outlet.max_backlog


cdef bint drop_oldest(outlet_t *outlet, size_t length) except *:
    """Drop the oldest messages until so many bytes fit; False when they never will."""
    cdef backlog_t *backlog = outlet.backlog
    cdef size_t place
    if backlog is NULL or length > outlet.max_backlog:
        return False
    place = backlog.stuck
    while place < backlog.count:
        if not drop_at(outlet, place):
            place += 1
            continue
        outlet.dropped += 1
        if outlet.backlog is not NULL:
            backlog.stuck = place
        if outlet_fits(outlet, length, NULL):
            return True
        if outlet.backlog is NULL:
            return False
    backlog.stuck = place
    return False


cdef bint drop_at(outlet_t *outlet, size_t place) noexcept:
    """Drop the message, or the first of a run, that waits at this place; False when there is none that may be."""
    cdef backlog_t *backlog = outlet.backlog
    cdef chunk_t *chunk = backlog_at(backlog, place)
    cdef size_t begun = 0 if place else backlog.offset
    if chunk.run:
        return run_drop(outlet, place, begun)
    if not chunk.whole or begun:
        return False
    backlog_remove(outlet, place)
    return True


cdef bint replace_same_key(outlet_t *outlet, chunk_t *chunk) except *:
    """Put a message in the place of the one with its key, if that waits and the budget allows it."""
    cdef backlog_t *backlog = outlet.backlog
    cdef size_t place
    cdef chunk_t *replaced
    if backlog is NULL or backlog.places is NULL or not chunk_has_key(chunk):
        return False
    found = (<dict>backlog.places).get(<object>chunk.key)
    if found is None:
        return False
    place = <uint64_t>found - backlog.popped
    if place == 0 and backlog.offset:
        return False           # half of it is on its way
    replaced = backlog_at(backlog, place)
    if not outlet_fits(outlet, chunk_total(chunk), replaced):
        return False
    chunk.refs += 1
    count_in(outlet, chunk)
    backlog.chunks[(backlog.head + place) & (backlog.capacity - 1)] = chunk
    count_out(outlet, replaced, 0)
    chunk_release(replaced)
    outlet.dropped += 1
    outlet.conflated += 1
    return True


cdef void note_backlog(Connection connection):
    """See that the budget of all is kept, and that the service is told when much waits, and when little does again."""
    cdef Endpoint endpoint = connection.endpoint
    cdef Hub hub = connection.hub
    cdef bint high
    if hub.backlog_len > hub.max_backlog_len:
        hub.schedule()
    if endpoint.on_backlog is None:
        return
    high = connection.outlet.queued >= (endpoint.high_water // LOW_WATER_PART if connection.high else endpoint.high_water)
    if high != connection.high:
        hub.backlog_changed.add(connection)
        connection.high = high
        hub.schedule()


cdef void tell_backlog(Connection connection):
    """Tell the service what it does not know yet, or when the handler that is suspended is done."""
    cdef Connection outer
    if connection.high == connection.told_high or connection.state != OPEN or connection.failing or connection.busy:
        return
    connection.told_high = connection.high
    outer = connection.enter_callback()
    try:
        run_handler(connection, connection.endpoint.on_backlog, connection.outlet.queued, connection.high != 0)
    finally:
        connection.leave_callback(outer)


cdef inline bint chunk_has_key(const chunk_t *chunk) noexcept:
    """Whether it is one message with a key, which others of that key may replace."""
    return chunk.whole and chunk.key is not NULL


# ---------------------------------------------------------------------------------------------------------------------
# The ring

cdef inline chunk_t *backlog_at(const backlog_t *backlog, size_t place) noexcept:
    return backlog.chunks[(backlog.head + place) & (backlog.capacity - 1)]


cdef inline chunk_t *backlog_first(const backlog_t *backlog) noexcept:
    return backlog.chunks[backlog.head]


cdef inline void count_in(outlet_t *outlet, chunk_t *chunk) noexcept:
    """A chunk begins to wait here."""
    chunk.serial = 0           # what waits must not grow: no fan-out may take it for its tail
    outlet.queued += chunk_total(chunk)
    if chunk.waiting == 0:
        hold(outlet, chunk_held(chunk))
    chunk.waiting += 1


cdef inline void count_out(outlet_t *outlet, chunk_t *chunk, size_t sent) noexcept:
    """A chunk waits here no longer; of `sent` bytes that was told before."""
    outlet.queued -= chunk_total(chunk) - sent
    chunk.waiting -= 1
    if chunk.waiting == 0:
        let_go(outlet, chunk_held(chunk))


cdef inline void hold(outlet_t *outlet, size_t length) noexcept:
    """So many bytes of memory more are held by what waits."""
    (<Connection>outlet.connection).hub.backlog_len += length


cdef inline void let_go(outlet_t *outlet, size_t length) noexcept:
    cdef Hub hub = (<Connection>outlet.connection).hub
    if hub is not None:        # None: the garbage collector took both
        hub.backlog_len -= length


cdef inline size_t backlog_held(const backlog_t *backlog) noexcept:
    """Bytes of memory that a backlog takes without its chunks and keys."""
    return sizeof(backlog_t) + backlog.capacity * sizeof(chunk_t *) + 2 * BLOCK_LEN


cdef backlog_t *need_backlog(outlet_t *outlet) except NULL:
    """The backlog with room for one chunk more."""
    global live_backlogs
    cdef backlog_t *backlog = outlet.backlog
    cdef chunk_t **chunks
    cdef size_t capacity, i
    if backlog is NULL:
        backlog = <backlog_t *>calloc(1, sizeof(backlog_t))
        if backlog is NULL:
            raise MemoryError
        outlet.backlog = backlog
        link_init(&backlog.link, outlet.connection)
        link_append(&(<Connection>outlet.connection).hub.backlogs, &backlog.link)
        live_backlogs += 1
        hold(outlet, backlog_held(backlog))
    if backlog.count < backlog.capacity:
        return backlog
    capacity = max(2 * backlog.capacity, <size_t>8)
    chunks = <chunk_t **>malloc(capacity * sizeof(chunk_t *))
    if chunks is NULL:
        if backlog.count == 0:
            backlog_free(outlet)
        raise MemoryError
    for i in range(backlog.count):
        chunks[i] = backlog_at(backlog, i)
    free(backlog.chunks)
    hold(outlet, (capacity - backlog.capacity) * sizeof(chunk_t *))
    backlog.chunks = chunks
    backlog.head = 0
    backlog.capacity = capacity
    return backlog


cdef bint backlog_append(outlet_t *outlet, chunk_t *chunk, size_t offset) except False:
    """Queue what follows `offset` of the chunk; takes over the caller's reference."""
    cdef backlog_t *backlog = need_backlog(outlet)
    if chunk_has_key(chunk):
        try:
            note_key(outlet, <object>chunk.key, backlog.popped + backlog.count)
        except MemoryError:
            if backlog.count == 0:
                backlog_free(outlet)
            raise
    count_in(outlet, chunk)
    if backlog.count == 0:
        backlog.offset = offset
        outlet.queued -= offset
    backlog.chunks[(backlog.head + backlog.count) & (backlog.capacity - 1)] = chunk
    backlog.count += 1
    return True


cdef void backlog_pop(outlet_t *outlet) noexcept:
    """Forget the first chunk; its reference passes to the caller. An empty backlog is given back."""
    cdef backlog_t *backlog = outlet.backlog
    forget_first_key(outlet)
    count_out(outlet, backlog_first(backlog), backlog.offset)
    backlog.offset = 0
    if backlog.stuck:
        backlog.stuck -= 1
    backlog_shorten(outlet)


cdef void backlog_remove(outlet_t *outlet, size_t place) noexcept:
    """Drop a chunk in the middle: those before it, few and without a key but for one half sent, move up."""
    cdef backlog_t *backlog = outlet.backlog
    cdef size_t mask = backlog.capacity - 1
    cdef chunk_t *chunk = backlog_at(backlog, place)
    cdef size_t i
    if chunk_has_key(chunk):
        forget_key(outlet, chunk, backlog.popped + place)
    if place:
        forget_first_key(outlet)
    for i in range(place, 0, -1):
        backlog.chunks[(backlog.head + i) & mask] = backlog_at(backlog, i - 1)
    count_out(outlet, chunk, 0)
    backlog_shorten(outlet)
    chunk_release(chunk)


cdef void backlog_shorten(outlet_t *outlet) noexcept:
    """The first place is free."""
    cdef backlog_t *backlog = outlet.backlog
    backlog.head = (backlog.head + 1) & (backlog.capacity - 1)
    backlog.popped += 1
    backlog.count -= 1
    if backlog.count == 0:
        backlog_free(outlet)


cdef void backlog_free(outlet_t *outlet) noexcept:
    global live_backlogs
    cdef backlog_t *backlog = outlet.backlog
    outlet.backlog = NULL
    live_backlogs -= 1
    link_remove(&backlog.link)
    let_go(outlet, backlog_held(backlog))
    Py_XDECREF(backlog.places)
    free(backlog.chunks)
    free(backlog)


cdef int note_key(outlet_t *outlet, object key, uint64_t place) except -1:
    """The message with this key waits there; an earlier one, if there is any, stays where it is."""
    cdef backlog_t *backlog = outlet.backlog
    cdef dict places
    if backlog.places is NULL:
        places = new_table()
        Py_INCREF(places)
        backlog.places = <PyObject *>places
    places = <dict>backlog.places
    cdef bint known = key in places
    places[key] = place
    if not known:
        hold(outlet, KEY_LEN)
    return 0


cdef dict new_table():
    """A dict, made without having others run: they might push to this very outlet, which is half-way through a step."""
    cdef bint collects = PyGC_Disable()
    try:
        return {}
    finally:
        if collects:
            PyGC_Enable()


cdef void forget_first_key(outlet_t *outlet) noexcept:
    cdef chunk_t *chunk = backlog_first(outlet.backlog)
    if chunk_has_key(chunk):
        forget_key(outlet, chunk, outlet.backlog.popped)


cdef void forget_key(outlet_t *outlet, const chunk_t *chunk, uint64_t place) noexcept:
    """The message with this key waits there no longer; a later one may wait elsewhere."""
    cdef dict places = <dict>outlet.backlog.places
    if places.get(<object>chunk.key) == place:
        del places[<object>chunk.key]
        let_go(outlet, KEY_LEN)


cdef void outlet_drop(outlet_t *outlet) noexcept:
    """Drop everything that the transport does not hold yet: not a byte may follow."""
    cdef chunk_t *chunk
    drop_pending(outlet)
    while outlet.backlog is not NULL:
        chunk = backlog_first(outlet.backlog)
        backlog_pop(outlet)
        chunk_release(chunk)


cdef void outlet_cut(outlet_t *outlet, size_t last) noexcept:
    """Drop all that waits but what is half sent, because more frames follow, and so many chunks at the end."""
    cdef backlog_t *backlog
    cdef size_t first
    drop_pending(outlet)
    while outlet.backlog is not NULL:
        backlog = outlet.backlog
        first = backlog.offset > 0
        if backlog.count <= first + last:
            return
        backlog_remove(outlet, first)


cdef inline void drop_pending(outlet_t *outlet) noexcept:
    cdef chunk_t *chunk = outlet.pending
    if chunk is not NULL:
        outlet.pending = NULL
        outlet.left = False
        outlet.sent = 0
        chunk_release(chunk)


# ---------------------------------------------------------------------------------------------------------------------
# Runs of short messages

cdef bint run_append(outlet_t *outlet, const uint8_t *frame, size_t length) except False:
    """Queue a short frame in the last run, or in a new one where others wait behind that, or there is no room."""
    cdef backlog_t *backlog = outlet.backlog
    cdef chunk_t *run = NULL if backlog is NULL else backlog_at(backlog, backlog.count - 1)
    if run is NULL or not run.run or run.length + length > run.capacity:
        return begin_run(outlet, frame, length)
    memcpy(run.data + run.length, frame, length)
    run.length += length
    outlet.queued += length
    backlog.stuck = min(backlog.stuck, backlog.count - 1)
    return True


cdef bint begin_run(outlet_t *outlet, const uint8_t *frame, size_t length) except False:
    cdef chunk_t *run = chunk_new(RUN_LEN)
    if run is NULL:
        raise MemoryError
    run.run = True
    memcpy(run.data, frame, length)
    run.length = length
    try:
        return backlog_append(outlet, run, 0)
    except MemoryError:
        chunk_release(run)
        raise


cdef bint run_drop(outlet_t *outlet, size_t place, size_t begun) noexcept:
    """Drop the first frame of a run of which nothing is sent; False when there is none."""
    cdef chunk_t *run = backlog_at(outlet.backlog, place)
    cdef size_t start = 0
    cdef size_t length
    while start < begun:
        start += frame_length(run.data + start, run.length - start)
    if start == run.length:
        return False
    length = frame_length(run.data + start, run.length - start)
    if length == run.length:
        backlog_remove(outlet, place)
        return True
    memmove(run.data + start, run.data + start + length, run.length - start - length)
    run.length -= length
    outlet.queued -= length
    if run.length == begun:
        # All that is left of it was sent
        backlog_pop(outlet)
        chunk_release(run)
    return True


cdef inline size_t frame_length(const uint8_t *data, size_t available) noexcept:
    """Bytes of a frame of ours."""
    cdef header_t header
    return parse_header(data, available, &header, RSV1) + <size_t>header.length


# ---------------------------------------------------------------------------------------------------------------------
# Sending from it

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
            chunk = backlog_at(backlog, i)
            if count + 2 * chunk.part_count + 1 > MAX_VECTORS:
                break
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
