# Bytes in; messages and control frames out (RFC 6455 5, 6.2 and 8.1).
#
# A reader is fed whatever a read brought and asked for one event at a time. It knows no socket, no loop and no handler,
# and serves both roles: a server insists on masked frames, a client on unmasked ones.
#
# Theory of operation. Almost every frame lies complete in the receive buffer, which all connections of a loop share: its
# text is unmasked straight into the final str, its bytes into the final bytes, and nothing of it stays behind. Only
# what is incomplete when the buffer ends is kept, in a partial_t that exists just as long:
#
#     between frames --header cut--> spill --header complete--> payload --last byte--> between frames
#           |                                                      ^
#           +------------------- payload cut ----------------------+
#
# A message that comes in pieces gathers in partial_t.message, whether it is cut by reads or by frames. Text that is not
# whole is validated as it comes, so that it fails at its first wrong byte; whole text is validated by decoding it.
#
# A compressed message is inflated as it comes, a bounded piece at a time: it is what comes out that gathers, is validated
# and counts against the limit, whatever a peer made of how few bytes.

cdef enum event_kind:
    # A reader's events; minus a close code where the peer broke the protocol
    EVENT_NONE = 0             # nothing yet: ask again while bytes are left
    EVENT_TEXT = OP_TEXT
    EVENT_BINARY = OP_BINARY
    EVENT_CLOSE = OP_CLOSE
    EVENT_PING = OP_PING
    EVENT_PONG = OP_PONG

    # So much of a message that is coming is read straight to its place, and at most so much at once
    DIRECT_LEN = 65536         # bytes
    MAX_DIRECT_LEN = 1048576


ctypedef struct partial_t:
    # A header that is cut
    uint8_t spill[MAX_HEADER_LEN]
    uint8_t spill_len
    # The frame whose payload is coming
    bint in_payload
    bint fin
    uint8_t opcode
    uint32_t key               # rotated to the next byte
    uint64_t remaining         # payload bytes to come
    # A control frame's payload
    uint8_t control[MAX_CONTROL_LEN]
    uint8_t control_len
    # The message that its frames gather in
    message_t message
    PyObject *inflater         # owned; NULL when the message is not compressed
    uint64_t wire_len          # bytes of its frames so far, as the peer sent them
    uint32_t fragments         # frames so far


ctypedef struct reader_t:
    partial_t *partial         # NULL while nothing is incomplete
    uint64_t max_message_size  # bytes
    uint32_t max_fragments     # frames of a message
    bint expects_mask          # a server's reader
    uint8_t rsv                # RSV1 where permessage-deflate was negotiated
    uint8_t window_bits        # of the peer's compressor
    uint8_t inflated           # a compressed message came
    uint8_t overreached        # it failed because compressed data refers to what the handshake ruled out
    uint32_t inflated_len      # bytes that were inflated, whatever became of them, until somebody takes account
    PyObject *history          # borrowed: the peer's Inflater if it takes its context over, or NULL


cdef Py_ssize_t live_partials = 0


cdef inline size_t take_inflated_len(reader_t *reader) noexcept:
    cdef size_t length = reader.inflated_len
    reader.inflated_len = 0
    return length


cdef inline void reader_init(reader_t *reader, uint64_t max_message_size, uint32_t max_fragments,
                             bint expects_mask) noexcept:
    memset(reader, 0, sizeof(reader_t))
    reader.max_message_size = max_message_size
    reader.max_fragments = max_fragments
    reader.expects_mask = expects_mask


cdef inline void reader_inflates(reader_t *reader, uint8_t window_bits, Inflater history) noexcept:
    """From here on the peer may compress its messages; `history`, kept alive by the caller, where it keeps a window."""
    reader.rsv = RSV1
    reader.window_bits = window_bits
    reader.history = NULL if history is None else <PyObject *>history


cdef void reader_reset(reader_t *reader) noexcept:
    """Forget everything incomplete and give its memory back."""
    global live_partials
    if reader.partial is not NULL:
        live_partials -= 1
        Py_XDECREF(reader.partial.inflater)
        Py_XDECREF(reader.partial.message.object)
        free(reader.partial)
        reader.partial = NULL


cdef inline partial_t *reader_partial(reader_t *reader) except NULL:
    global live_partials
    if reader.partial is NULL:
        reader.partial = <partial_t *>calloc(1, sizeof(partial_t))
        if reader.partial is NULL:
            raise MemoryError
        live_partials += 1
    return reader.partial


cdef inline void reader_settle(reader_t *reader) noexcept:
    """Between two frames: drop the partial unless it holds a message."""
    if reader.partial is not NULL and reader.partial.message.opcode == 0:
        reader_reset(reader)


cdef int reader_next(reader_t *reader, uint8_t **position, uint8_t *end, PyObject **result) except? -1:
    """Take bytes up to the next event; compressed ones are unmasked where they lie.

    Moves *position past what it took. Returns the kind of event, with a new reference in *result: str for a text
    message, bytes for all others; EVENT_NONE while there is none, to be asked again while bytes are left; or minus the
    close code to fail with, after which the reader is of no more use.
    """
    cdef header_t header
    cdef int header_len
    cdef partial_t *partial = reader.partial
    # 1. Go on with the payload that is coming
    if partial is not NULL and partial.in_payload:
        return reader_payload(reader, position, end, result)
    # 2. The header, in place or gathered in the spill
    if partial is not NULL and partial.spill_len:
        header_len = reader_spill(reader, position, end, &header)
        if header_len <= 0:
            return header_len
        partial.spill_len = 0
    else:
        header_len = parse_header(position[0], end - position[0], &header, reader.rsv)
        if header_len < 0:
            return header_len
        if header_len == NEED_MORE:
            if position[0] < end:
                partial = reader_partial(reader)
                partial.spill_len = <uint8_t>(end - position[0])
                memcpy(partial.spill, position[0], partial.spill_len)
                position[0] = end
            return EVENT_NONE
        position[0] += header_len
    # 3. Is such a frame allowed here, and may it be this long?
    header_len = reader_admit(reader, &header)
    if header_len < 0:
        return header_len
    # 4. A whole message or control frame that lies complete in front of us: the way of nearly all
    if header.fin and header.opcode != OP_CONTINUATION and <uint64_t>(end - position[0]) >= header.length:
        if not header.rsv:
            reader_settle(reader)
            return reader_whole(&header, position, result)
    # 5. The rest comes in pieces, or is compressed
    partial = reader_partial(reader)
    partial.in_payload = True
    partial.fin = header.fin
    partial.opcode = header.opcode
    partial.key = header.key
    partial.remaining = header.length
    partial.control_len = 0
    if header.opcode == OP_TEXT or header.opcode == OP_BINARY:
        message_begin(&partial.message, header.opcode)
        partial.wire_len = 0
        partial.fragments = 0
        if header.rsv:
            reader_begin_inflating(reader)
    if header.opcode <= OP_BINARY:
        partial.wire_len += header.length
        partial.fragments += 1
    return reader_payload(reader, position, end, result)


cdef inline uint8_t *reader_place(const reader_t *reader, uint8_t *buffer, size_t *room) noexcept nogil:
    """Where to read to: a buffer with *room, or where much of the payload that is coming has to lie in the end."""
    cdef const partial_t *partial = reader.partial
    if partial is NULL or partial.inflater is not NULL or partial.remaining < DIRECT_LEN:
        return buffer
    if partial.message.capacity < partial.message.length + DIRECT_LEN:
        return buffer
    room[0] = min(partial.message.capacity - partial.message.length, partial.remaining, <size_t>MAX_DIRECT_LEN)
    return message_data(&partial.message) + partial.message.length


cdef int reader_begin_inflating(reader_t *reader) except -1:
    inflater = <Inflater>reader.history if reader.history is not NULL else Inflater.__new__(Inflater, reader.window_bits)
    Py_INCREF(inflater)
    reader.partial.inflater = <PyObject *>inflater
    return 0


cdef int reader_spill(reader_t *reader, uint8_t **position, uint8_t *end, header_t *header) noexcept:
    """Complete a header that was cut, byte by byte; its length, NEED_MORE, or minus the close code."""
    cdef partial_t *partial = reader.partial
    cdef int header_len
    while position[0] < end:
        partial.spill[partial.spill_len] = position[0][0]
        partial.spill_len += 1
        position[0] += 1
        header_len = parse_header(partial.spill, partial.spill_len, header, reader.rsv)
        if header_len != NEED_MORE:
            return header_len
    return NEED_MORE


cdef inline int reader_admit(const reader_t *reader, const header_t *header) noexcept:
    """Judge a header by what came before it: 0, or minus the close code."""
    cdef const partial_t *partial = reader.partial
    cdef bint in_message = partial is not NULL and partial.message.opcode != 0
    # "a server MUST close the connection upon receiving a frame that is not masked", a client the other way (5.1)
    if header.masked != reader.expects_mask:
        return -1002
    if header.opcode & 0x8:
        return 0
    if in_message != (header.opcode == OP_CONTINUATION):
        return -1002
    if in_message and partial.fragments >= reader.max_fragments:
        return -1008
    if header.rsv or (in_message and partial.inflater is not NULL):
        return reader_admit_compressed(reader, header)
    if header.length > reader.max_message_size:
        return -1009
    if in_message and partial.message.length > reader.max_message_size - header.length:
        return -1009
    return 0


cdef int reader_admit_compressed(const reader_t *reader, const header_t *header) noexcept:
    """What cannot be compressed grows a little, and then it may be sent in small pieces: twice the limit bounds that."""
    cdef uint64_t most = reader.max_message_size + min(reader.max_message_size, <uint64_t>1 << 62) + FIRST_MESSAGE_LEN
    cdef uint64_t before = 0 if header.rsv else reader.partial.wire_len
    return -1009 if header.length > most or before > most - header.length else 0


cdef inline int reader_whole(const header_t *header, uint8_t **position, PyObject **result) except? -1:
    """Make the object of a complete, unfragmented frame."""
    cdef uint8_t *payload = position[0]
    cdef Py_ssize_t length = <Py_ssize_t>header.length
    cdef uint32_t key = header.key
    position[0] += length
    if header.opcode == OP_TEXT:
        return decode_masked(payload, length, key, result)
    result[0] = PyBytes_FromStringAndSize(NULL, length)
    fastws_mask(<uint8_t *>PyBytes_DATA(result[0]), payload, length, key)
    return header.opcode


cdef int reader_payload(reader_t *reader, uint8_t **position, uint8_t *end, PyObject **result) except? -1:
    """Take payload of the frame that is coming; an event once its last byte completes a message or control frame."""
    cdef partial_t *partial = reader.partial
    cdef uint8_t *payload = position[0]
    cdef size_t length = end - payload
    cdef bint is_control = partial.opcode & 0x8 != 0
    cdef int failure
    if length > partial.remaining:
        length = <size_t>partial.remaining
    partial.remaining -= length
    position[0] += length
    if is_control:
        fastws_mask(partial.control + partial.control_len, payload, length, partial.key)
        partial.control_len += <uint8_t>length
    elif partial.inflater is not NULL:
        fastws_mask(payload, payload, length, partial.key)
        failure = reader_inflate(reader, payload, length)
        if failure:
            return failure
    elif not message_append(&partial.message, payload, length, partial.key, reader_most(reader, length)):
        return -1007
    partial.key = fastws_mask_rotate(partial.key, length)
    if partial.remaining:
        return EVENT_NONE
    partial.in_payload = False
    if is_control:
        return reader_control(reader, result)
    return reader_message(reader, result) if partial.fin else EVENT_NONE


cdef inline uint64_t reader_most(const reader_t *reader, size_t length) noexcept:
    """How long the message can become: its last frame says it, with which `length` bytes are at hand."""
    cdef const partial_t *partial = reader.partial
    return partial.message.length + length + partial.remaining if partial.fin else reader.max_message_size


cdef int reader_control(reader_t *reader, PyObject **result) except? -1:
    """Make the object of a control frame that came in pieces."""
    cdef partial_t *partial = reader.partial
    cdef int opcode = partial.opcode
    result[0] = PyBytes_FromStringAndSize(<const char *>partial.control, partial.control_len)
    reader_settle(reader)
    return opcode


cdef int reader_inflate(reader_t *reader, const uint8_t *payload, size_t length) except? -1:
    """Inflate what came, the end of the message with its last byte; 0, or minus the close code."""
    cdef partial_t *partial = reader.partial
    cdef Inflater inflater = <Inflater>partial.inflater
    cdef int failure
    inflater.feed(PyMemoryView_FromMemory(<char *>payload, length, PyBUF_READ))
    failure = reader_drain_inflater(reader, inflater)
    if failure == 0 and partial.fin and partial.remaining == 0:
        inflater.finish()
        failure = reader_drain_inflater(reader, inflater)
    return failure


cdef int reader_drain_inflater(reader_t *reader, Inflater inflater) except? -1:
    cdef partial_t *partial = reader.partial
    cdef size_t most, room
    cdef bytes piece
    while True:
        room = reader.max_message_size - partial.message.length
        # One byte more than fits tells whether there is more; none would mean "no limit" to zlib
        most = min(room, <size_t>(INFLATE_LEN - 1)) + 1
        try:
            piece = inflater.read(most)
        except zlib_error as error:
            reader.overreached = reader_has_limit(reader) and "too far back" in str(error)
            return -1007
        reader.inflated_len += <uint32_t>PyBytes_GET_SIZE(piece)
        if <size_t>PyBytes_GET_SIZE(piece) > room:
            return -1009
        if not message_append(&partial.message, <const uint8_t *>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), 0,
                              reader.max_message_size):
            return -1007
        if <size_t>PyBytes_GET_SIZE(piece) < most:
            return 0


cdef inline bint reader_has_limit(const reader_t *reader) noexcept:
    """Whether the handshake keeps a message from referring to what came before: a smaller window, or none that lasts."""
    return reader.window_bits < 15 or (reader.history is NULL and reader.inflated)


cdef int reader_message(reader_t *reader, PyObject **result) except? -1:
    """Make the object of a message that is complete."""
    cdef int kind = message_finish(&reader.partial.message, result)
    if kind > 0:
        reader.inflated |= reader.partial.inflater is not NULL
        reader_reset(reader)
    return kind
