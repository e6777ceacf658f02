# One frame to one connection.
#
# Pushes never wait and never raise because of the recipient: they say whether the frame was taken.

cdef inline bint push_message(Connection connection, const payload_t *payload, const policy_t *policy) except *:
    """A text or binary message, compressed where that was negotiated; the caller keeps its owner alive.

    False when it is dropped.
    """
    cdef outlet_t *outlet = &connection.outlet
    cdef payload_t compressed
    cdef bytes body
    if outlet.deflater is not NULL and outlet.accepting:
        body = compress(connection, payload)
        if body is not None:
            payload_of_bytes(payload.kind | RSV1, body, &compressed)
            return push_frame(connection, &compressed, policy)
    return push_frame(connection, payload, policy)


cdef inline bint push_frame(Connection connection, const payload_t *payload, const policy_t *policy) except *:
    """A whole message in one frame; False when it is dropped."""
    cdef outlet_t *outlet = &connection.outlet
    cdef chunk_t *chunk
    if not outlet.accepting:
        return False
    if outlet.state == BLOCKED:
        return queue_message(connection, payload, policy)
    if payload.length > BORROW_LEN_SHARED and not outlet.masking and not joins_pending(outlet, payload.length):
        chunk = new_frame(payload)
        # What belongs to a history must arrive
        make_whole(chunk, policy, connection.history is None)
        put_alone(connection, chunk)
    else:
        put_pending(connection, payload)
    settle(connection, payload.length)
    return outlet.state != SEALED


cdef bint queue_message(Connection connection, const payload_t *payload, const policy_t *policy) except *:
    """Behind what waits already, or as the policy wants it; False when it is dropped."""
    cdef chunk_t *chunk
    if payload.length <= RUN_MESSAGE_LEN and policy.key is NULL:
        return queue_short(connection, payload, policy)
    chunk = new_own_frame(&connection.outlet, payload)
    make_whole(chunk, policy, True)
    try:
        return queue_chunk(connection, chunk, policy)
    finally:
        chunk_release(chunk)


cdef inline void make_whole(chunk_t *chunk, const policy_t *policy, bint whole) noexcept:
    """A new chunk is one message, which may be dropped if it is `whole`, and replaced if it has a key, too."""
    chunk.whole = whole
    if policy.key is not NULL:
        Py_INCREF(<object>policy.key)
        chunk.key = policy.key


cdef inline bytes deflated(Deflater deflater, const payload_t *payload):
    """A compressed message for all who share the Deflater, or None where that does not pay."""
    cdef bytes body
    if not deflater.wants(payload.length):
        return None
    body = deflater.deflate(payload.data, payload.length)
    return body if body is not None and deflater.pays(PyBytes_GET_SIZE(body), payload.length) else None


cdef bytes compress(Connection connection, const payload_t *payload):
    """A compressed message for one connection, or None where that does not pay."""
    cdef outlet_t *outlet = &connection.outlet
    cdef Deflater shared = <Deflater>outlet.deflater
    cdef Deflater own = None if connection.history is None else connection.history.deflater
    cdef bytes body
    if own is None:
        return deflated(shared, payload)
    if not shared.wants(payload.length) or own.busy:
        return None            # busy: in the middle of this, somebody pushes something else, which comes first
    while outlet.state != BLOCKED:
        # It is part of the history from here on, and goes out even where it did not shrink
        body = compress_in_turn(connection, own, payload)
        if body is not None:
            return body
    # It may be dropped before it is sent: no later message may refer to it, nor it to one before
    body = deflated(shared, payload)
    outlet.stale |= body is not None
    return body


cdef bytes compress_in_turn(Connection connection, Deflater own, const payload_t *payload):
    """A message that refers to those before it; None where another came in between, which runs while we are at it.

    What is pending leaves first, if this cannot be joined to it: sending may run others, and then it would be too late.
    """
    cdef outlet_t *outlet = &connection.outlet
    cdef bytes body
    make_way(connection, payload.length + (payload.length >> 8) + MAX_HEADER_LEN, 1)
    if outlet.state == BLOCKED:
        return None
    if outlet.stale:
        outlet.stale = False
        own.forget()
    body = own.deflate(payload.data, payload.length)
    if outlet.stale or outlet.state == BLOCKED or needs_way(outlet, PyBytes_GET_SIZE(body) + MAX_HEADER_LEN, 1):
        outlet.stale = True    # nobody will see it
        return None
    return body


cdef inline chunk_t *new_frame(const payload_t *payload) except NULL:
    cdef chunk_t *chunk = chunk_of_frame(payload)
    if chunk is NULL:
        raise MemoryError
    return chunk


cdef chunk_t *new_own_frame(outlet_t *outlet, const payload_t *payload) except NULL:
    """One frame as a chunk, masked where that has to be."""
    cdef chunk_t *chunk
    cdef uint32_t key
    if not outlet.masking:
        return new_frame(payload)
    key = masking_key()
    chunk = chunk_new(payload.length + MAX_HEADER_LEN)
    if chunk is NULL:
        raise MemoryError
    chunk.length = put_frame(chunk.data, payload.kind, payload.data, payload.length, True, key) - chunk.data
    return chunk


cdef int queue_frame(outlet_t *outlet, const payload_t *payload) except -1:
    """A frame that nothing may drop, behind what waits already."""
    cdef chunk_t *chunk = new_own_frame(outlet, payload)
    try:
        backlog_append(outlet, chunk, 0)
        chunk.refs += 1
    finally:
        chunk_release(chunk)
    return 0


cdef int put_alone(Connection connection, chunk_t *chunk) except -1:
    """Make a whole chunk the pending one, once what is pending now is sent; takes over the caller's reference."""
    cdef outlet_t *outlet = &connection.outlet
    try:
        make_way(connection, JOIN_LEN + 1, 0)
        if outlet.state == SEALED:
            return 0
        if outlet.state == BLOCKED:
            backlog_append(outlet, chunk, 0)
        else:
            outlet.pending = chunk
        chunk.refs += 1
    finally:
        chunk_release(chunk)
    return 0


cdef inline bint needs_way(const outlet_t *outlet, size_t length, size_t parts) noexcept:
    """Whether so much cannot be joined to what is pending."""
    return outlet.pending is not NULL and not chunk_joins(outlet.pending, length, parts)


cdef inline int make_way(Connection connection, size_t length, size_t parts) except -1:
    """Send what is pending, until so much can be joined to it: sending may run others, who push again."""
    while needs_way(&connection.outlet, length, parts):
        connection.send_now()
    return 0


cdef inline bint joins_pending(const outlet_t *outlet, size_t length) noexcept:
    """Whether a payload may be joined, as a part, to what is pending already."""
    return outlet.pending is not NULL and chunk_joins(outlet.pending, length + MAX_HEADER_LEN, 1)


cdef inline int put_pending(Connection connection, const payload_t *payload) except -1:
    """Join a frame to those pending; a payload that is not short stays with its owner, if there is one."""
    cdef outlet_t *outlet = &connection.outlet
    cdef size_t length = payload.length
    cdef bint borrow = length > BORROW_LEN and payload.owner is not NULL and not outlet.masking
    cdef uint32_t key = masking_key() if outlet.masking else 0
    cdef chunk_t *chunk
    make_way(connection, length + MAX_HEADER_LEN, borrow)
    if outlet.state == SEALED:
        return 0
    if outlet.state == BLOCKED:
        return queue_frame(outlet, payload)
    if borrow:
        return borrow_pending(connection, payload)
    chunk = own_pending(connection, length + MAX_HEADER_LEN)
    chunk.length = put_frame(chunk.data + chunk.length, payload.kind, payload.data, length, outlet.masking, key) - chunk.data
    return 0


cdef int borrow_pending(Connection connection, const payload_t *payload) except -1:
    """Join a frame to those pending, whose payload stays with its owner."""
    cdef chunk_t *chunk = own_pending(connection, MAX_HEADER_LEN)
    if not chunk_put_borrowed(chunk, payload):
        if chunk.length == 0:
            drop_pending(&connection.outlet)
        raise MemoryError
    return 0


cdef chunk_t *own_pending(Connection connection, size_t needed) except NULL:
    """A pending chunk that nobody shares, with room for `needed` more bytes."""
    cdef outlet_t *outlet = &connection.outlet
    cdef chunk_t *chunk = outlet.pending
    if chunk is NULL:
        chunk = spare_chunk(connection.hub) if connection.hub.current is connection else chunk_new(needed + PENDING_LEN)
    elif chunk.refs > 1:
        chunk = own_copy(chunk, needed)
    if chunk is NULL:
        raise MemoryError
    outlet.pending = chunk
    if not chunk_reserve(chunk, needed):
        if chunk.length == 0:
            drop_pending(outlet)
        raise MemoryError
    return chunk


cdef inline chunk_t *spare_chunk(Hub hub) noexcept:
    """A chunk with room for many replies, or NULL: no memory."""
    cdef chunk_t *chunk = hub.spare_chunk
    hub.spare_chunk = NULL
    return chunk_new(JOIN_LEN) if chunk is NULL else chunk


cdef chunk_t *own_copy(chunk_t *shared, size_t needed) noexcept:
    """A copy of a shared chunk with room for `needed` more bytes, in the place of one reference to it; NULL: no memory."""
    cdef chunk_t *chunk = chunk_new(needed + shared.length)
    if chunk is NULL:
        return NULL
    if not chunk_append(chunk, shared):
        chunk_release(chunk)
        return NULL
    chunk_release(shared)
    return chunk


cdef inline int settle(Connection connection, size_t length) except -1:
    """Decide when what is pending goes out, of which so many bytes were added."""
    cdef outlet_t *outlet = &connection.outlet
    cdef Hub hub = connection.hub
    if hub.current is connection or outlet.pending is NULL:
        return 0
    # First of all: a loop that is closed refuses, and the descriptor may be somebody else's by then
    hub.schedule()
    # Without a socket of its own (TLS) each write costs a record and its encryption: one a turn
    if hub.current is None and outlet.turn != hub.turn and outlet.fd >= 0 and not outlet.dirty & DIRTY_THIS_TURN:
        outlet.turn = hub.turn
        connection.send_now()
    elif not hub.collects(length):
        connection.send_now()
    elif not outlet.dirty & DIRTY_THIS_TURN and not hub.mark_dirty(outlet):
        connection.send_now()
    return 0


cdef int push_control(Connection connection, uint8_t opcode, bytes data) except -1:
    """A control frame: never dropped while the transport is there, whatever waits."""
    cdef outlet_t *outlet = &connection.outlet
    cdef payload_t payload
    payload_of_bytes(opcode, data, &payload)
    if outlet.state == SEALED:
        return 0
    if outlet.state == BLOCKED:
        return queue_frame(outlet, &payload)
    put_pending(connection, &payload)
    return settle(connection, payload.length)


cdef int push_bytes(Connection connection, bytes data) except -1:
    """Bytes that are no frame: the answer to the opening handshake."""
    cdef size_t length = PyBytes_GET_SIZE(data)
    cdef chunk_t *chunk = own_pending(connection, length)
    memcpy(chunk.data + chunk.length, PyBytes_AS_STRING(data), length)
    chunk.length += length
    return 0


cdef inline int reply_text(Connection connection, str text) except -1:
    """Push what a handler returned, as the service says and without a key."""
    cdef payload_t payload
    owner = text_payload(text, &payload)
    push_message(connection, &payload, &PLAINLY)
    return 0


cdef inline int reply_bytes(Connection connection, bytes data) except -1:
    cdef payload_t payload
    payload_of_bytes(OP_BINARY, data, &payload)
    push_message(connection, &payload, &PLAINLY)
    return 0


cdef Delivery deliver(Connection connection, uint8_t opcode, object message, object overflow, object key, Node node,
                      Target target):
    """Push for the service API; what is wrong with a push is told also where nobody (None) would get it.

    A target is that of a name, which a connection here or one elsewhere has.
    """
    cdef policy_t policy
    cdef payload_t payload
    owner = message_payload(opcode, message, &payload)
    key = own_key(key)
    read_policy(overflow, key, &policy)
    if connection is not None:
        return DELIVERED if push_message(connection, &payload, &policy) else DROPPED
    return ABSENT if node is None else node.pass_on(target, opcode, &payload, &policy, ABSENT)


# ---------------------------------------------------------------------------------------------------------------------
# Masking keys of a client (5.3: "derived from a strong source of entropy")

cdef enum:
    KEY_POOL_LEN = 4096        # bytes that are fetched at once

cdef bytes key_pool = b""
cdef Py_ssize_t key_pos = 0


cdef uint32_t masking_key() except? 0:
    global key_pool, key_pos
    if fastws_forked:
        notice_fork()
        forget_keys()
    if key_pos + 4 > PyBytes_GET_SIZE(key_pool):
        key_pool = os.urandom(KEY_POOL_LEN)
        key_pos = 0
    key_pos += 4
    return fastws_mask_load(<const uint8_t *>PyBytes_AS_STRING(key_pool) + key_pos - 4)


cdef void forget_keys() noexcept:
    """A child of a fork has the pool of its parent, which is going to mask with it."""
    global key_pos
    key_pos = PyBytes_GET_SIZE(key_pool)
