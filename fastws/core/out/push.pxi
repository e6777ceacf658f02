# One frame to one connection.
#
# Pushes never wait and never raise because of the recipient: they say whether the frame was taken.

cdef bint push_message(Connection connection, uint8_t opcode, const uint8_t *payload, size_t length, object owner,
                       const policy_t *policy) except *:
    """A text or binary message, compressed where that was negotiated; `owner` keeps the payload alive.

    False when it is dropped.
    """
    cdef outlet_t *outlet = &connection.outlet
    cdef bytes body
    if outlet.deflater is not NULL and outlet.accepting:
        body = compress(connection, payload, length)
        if body is not None:
            return push_frame(connection, opcode | RSV1, <const uint8_t *>PyBytes_AS_STRING(body),
                              PyBytes_GET_SIZE(body), body, policy)
    return push_frame(connection, opcode, payload, length, owner, policy)


cdef bint push_frame(Connection connection, uint8_t kind, const uint8_t *payload, size_t length, object owner,
                     const policy_t *policy) except *:
    """A whole message in one frame; False when it is dropped."""
    cdef outlet_t *outlet = &connection.outlet
    cdef chunk_t *chunk
    if not outlet.accepting:
        return False
    if outlet.blocked:
        return queue_message(connection, kind, payload, length, owner, policy)
    if length > BORROW_LEN_SHARED and not outlet.masking and not joins_pending(outlet, length):
        chunk = new_frame(kind, payload, length, owner)
        # What belongs to a history must arrive
        make_whole(chunk, policy, connection.history is None)
        put_alone(connection, chunk)
    else:
        put_pending(connection, kind, payload, length, owner)
    settle(connection, length)
    return not outlet.sealed


cdef bint queue_message(Connection connection, uint8_t kind, const uint8_t *payload, size_t length, object owner,
                        const policy_t *policy) except *:
    """Behind what waits already, or as the policy wants it; False when it is dropped."""
    cdef chunk_t *chunk
    if length <= RUN_MESSAGE_LEN and policy.key is NULL:
        return queue_short(connection, kind, payload, length, policy)
    chunk = new_own_frame(&connection.outlet, kind, payload, length, owner)
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


cdef inline bytes deflated(Deflater deflater, const uint8_t *payload, size_t length):
    """A compressed message for all who share the Deflater, or None where that does not pay."""
    cdef bytes body
    if not deflater.wants(length):
        return None
    body = deflater.deflate(payload, length)
    return body if body is not None and deflater.pays(PyBytes_GET_SIZE(body), length) else None


cdef bytes compress(Connection connection, const uint8_t *payload, size_t length):
    """A compressed message for one connection, or None where that does not pay."""
    cdef outlet_t *outlet = &connection.outlet
    cdef Deflater shared = <Deflater>outlet.deflater
    cdef Deflater own = None if connection.history is None else connection.history.deflater
    cdef bytes body
    if own is None:
        return deflated(shared, payload, length)
    if not shared.wants(length) or own.busy:
        return None            # busy: in the middle of this, somebody pushes something else, which comes first
    while not outlet.blocked:
        # It is part of the history from here on, and goes out even where it did not shrink
        body = compress_in_turn(connection, own, payload, length)
        if body is not None:
            return body
    # It may be dropped before it is sent: no later message may refer to it, nor it to one before
    body = deflated(shared, payload, length)
    outlet.stale |= body is not None
    return body


cdef bytes compress_in_turn(Connection connection, Deflater own, const uint8_t *payload, size_t length):
    """A message that refers to those before it; None where another came in between, which runs while we are at it.

    What is pending leaves first, if this cannot be joined to it: sending may run others, and then it would be too late.
    """
    cdef outlet_t *outlet = &connection.outlet
    cdef bytes body
    make_way(connection, length + (length >> 8) + MAX_HEADER_LEN, 1)
    if outlet.blocked:
        return None
    if outlet.stale:
        outlet.stale = False
        own.forget()
    body = own.deflate(payload, length)
    if outlet.stale or outlet.blocked or needs_way(outlet, PyBytes_GET_SIZE(body) + MAX_HEADER_LEN, 1):
        outlet.stale = True    # nobody will see it
        return None
    return body


cdef void give_up_on(Connection connection):
    """More waits for this peer than it may: it is ended at the end of the turn, when nobody iterates over it."""
    connection.hub.to_end.append(connection)
    connection.outlet.accepting = False
    connection.hub.schedule()


cdef inline chunk_t *new_frame(uint8_t opcode, const uint8_t *payload, size_t length, object owner) except NULL:
    cdef chunk_t *chunk = chunk_of_frame(opcode, payload, length, owner)
    if chunk is NULL:
        raise MemoryError
    return chunk


cdef chunk_t *new_own_frame(outlet_t *outlet, uint8_t kind, const uint8_t *payload, size_t length,
                            object owner) except NULL:
    """One frame as a chunk, masked where that has to be."""
    cdef chunk_t *chunk
    cdef uint32_t key
    if not outlet.masking:
        return new_frame(kind, payload, length, owner)
    key = masking_key()
    chunk = chunk_new(length + MAX_HEADER_LEN)
    if chunk is NULL:
        raise MemoryError
    chunk.length = put_frame(chunk.data, kind, payload, length, True, key) - chunk.data
    return chunk


cdef int queue_frame(outlet_t *outlet, uint8_t kind, const uint8_t *payload, size_t length) except -1:
    """A frame that nothing may drop, behind what waits already."""
    cdef chunk_t *chunk = new_own_frame(outlet, kind, payload, length, None)
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
        if outlet.sealed:
            return 0
        if outlet.blocked:
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


cdef int put_pending(Connection connection, uint8_t kind, const uint8_t *payload, size_t length, object owner) except -1:
    """Join a frame to those pending; a payload that is not short stays with its owner, if there is one."""
    cdef outlet_t *outlet = &connection.outlet
    cdef bint borrow = length > BORROW_LEN and owner is not None and not outlet.masking
    cdef uint32_t key = masking_key() if outlet.masking else 0
    cdef chunk_t *chunk
    cdef uint8_t *end
    make_way(connection, length + MAX_HEADER_LEN, borrow)
    if outlet.sealed:
        return 0
    if outlet.blocked:
        return queue_frame(outlet, kind, payload, length)
    if borrow:
        chunk = own_pending(connection, MAX_HEADER_LEN)
        if not chunk_put_borrowed(chunk, kind, payload, length, owner):
            if chunk.length == 0:
                drop_pending(outlet)
            raise MemoryError
        return 0
    chunk = own_pending(connection, length + MAX_HEADER_LEN)
    end = put_frame(chunk.data + chunk.length, kind, payload, length, outlet.masking, key)
    chunk.length = end - chunk.data
    return 0


cdef chunk_t *own_pending(Connection connection, size_t needed) except NULL:
    """A pending chunk that nobody shares, with room for `needed` more bytes."""
    cdef outlet_t *outlet = &connection.outlet
    cdef Hub hub = connection.hub
    cdef chunk_t *chunk = outlet.pending
    cdef chunk_t *shared
    if chunk is not NULL and chunk.refs == 1:
        if not chunk_reserve(chunk, needed):
            raise MemoryError
        return chunk
    if chunk is NULL and hub.current is connection:
        chunk = hub.spare_chunk
        hub.spare_chunk = NULL
        if chunk is NULL:
            chunk = chunk_new(JOIN_LEN)
            if chunk is NULL:
                raise MemoryError
        if not chunk_reserve(chunk, needed):
            chunk_release(chunk)
            raise MemoryError
        outlet.pending = chunk
        return chunk
    shared = chunk
    chunk = chunk_new(needed + (PENDING_LEN if shared is NULL else shared.length))
    if chunk is NULL:
        raise MemoryError
    if shared is not NULL:
        if not chunk_append(chunk, shared):
            chunk_release(chunk)
            raise MemoryError
        chunk_release(shared)
    outlet.pending = chunk
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


cdef int push_control(Connection connection, uint8_t opcode, bytes payload) except -1:
    """A control frame: never dropped while the transport is there, whatever waits."""
    cdef outlet_t *outlet = &connection.outlet
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(payload)
    if outlet.sealed:
        return 0
    if outlet.blocked:
        return queue_frame(outlet, opcode, data, PyBytes_GET_SIZE(payload))
    put_pending(connection, opcode, data, PyBytes_GET_SIZE(payload), payload)
    return settle(connection, PyBytes_GET_SIZE(payload))


cdef int push_bytes(Connection connection, bytes data) except -1:
    """Bytes that are no frame: the answer to the opening handshake."""
    cdef size_t length = PyBytes_GET_SIZE(data)
    cdef chunk_t *chunk = own_pending(connection, length)
    memcpy(chunk.data + chunk.length, PyBytes_AS_STRING(data), length)
    chunk.length += length
    return 0


cdef bint push_str(Connection connection, str text, const policy_t *policy) except *:
    cdef bytes encoded
    if PyUnicode_IS_COMPACT_ASCII(text):
        return push_message(connection, OP_TEXT, <const uint8_t *>PyUnicode_DATA(<PyObject *>text),
                            PyUnicode_GET_LENGTH(text), text, policy)
    encoded = text.encode()
    return push_message(connection, OP_TEXT, <const uint8_t *>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded),
                        encoded, policy)


cdef bint push_data(Connection connection, data, const policy_t *policy) except *:
    cdef bytes owned = own_bytes(data)
    return push_message(connection, OP_BINARY, <const uint8_t *>PyBytes_AS_STRING(owned), PyBytes_GET_SIZE(owned), owned,
                        policy)


cdef Delivery deliver_str(Connection connection, object text, object overflow, object key):
    """What a push of the service API does; what is wrong with it is told also where nobody (None) would get it."""
    cdef policy_t policy
    cdef str own = own_text(text)
    key = own_key(key)
    read_policy(overflow, key, &policy)
    if connection is None:
        own.encode()           # as for anybody
        return ABSENT
    return DELIVERED if push_str(connection, own, &policy) else DROPPED


cdef Delivery deliver_data(Connection connection, object data, object overflow, object key):
    cdef policy_t policy
    cdef bytes own = own_bytes(data)
    key = own_key(key)
    read_policy(overflow, key, &policy)
    if connection is None:
        return ABSENT
    return DELIVERED if push_data(connection, own, &policy) else DROPPED


# ---------------------------------------------------------------------------------------------------------------------
# Masking keys of a client (5.3: "derived from a strong source of entropy")

cdef bytes key_pool = b""
cdef Py_ssize_t key_pos = 0


cdef uint32_t masking_key() except? 0:
    global key_pool, key_pos
    if key_pos + 4 > len(key_pool):
        key_pool = os.urandom(4096)
        key_pos = 0
    key_pos += 4
    return fastws_mask_load(<const uint8_t *>PyBytes_AS_STRING(key_pool) + key_pos - 4)
