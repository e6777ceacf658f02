# Reading in turns: who has to stop, where what it said waits, and how it goes on.
#
# A connection stops for one of two reasons: its inbox is full (dispatch), or it had its share of a turn while others wait
# for theirs (hub). What is left of a read is kept unparsed (`leftover`) and reading is paused. Who was not read at all,
# because nothing was left of the turn, is not even paused: its transport leaves the socket alone until the turn comes.

cdef enum:
    # What is done for one peer until all others have had their turn: a frame is one, and so is each KiB of a message; to
    # inflate a KiB, and to compress an answer to it, is about four
    WORK_A_TURN = 1024
    LITTLE_WORK = 32           # what nobody counts. libuv reads up to 32 times before it looks at anybody else
    LITTLE_LEN = 4096          # bytes of a read that cannot be much work
    LITTLE_LEN_COMPRESSED = 128  # likewise if they may inflate to a thousand times as many


cdef inline bint is_much(const reader_t *reader, Py_ssize_t length) noexcept nogil:
    """Whether so many bytes may be much work."""
    return length > (LITTLE_LEN_COMPRESSED if reader.rsv else LITTLE_LEN)


cdef void pause(Connection connection, bytearray leftover):
    if connection.leftover is not None:
        leftover = connection.leftover + leftover
    connection.leftover = leftover
    pause_reading(connection)


cdef void pause_reading(Connection connection):
    if not connection.paused and connection.transport is not None:
        connection.paused = True
        connection.transport.pause_reading()


cdef int wait_for_a_turn(Connection connection, uint8_t *position, uint8_t *end) except -1:
    pause(connection, PyByteArray_FromStringAndSize(<char *>position, end - position))
    give_way(connection)
    return 0


cdef void give_way(Connection connection):
    """Let others have their turn."""
    pause_reading(connection)
    queue_up(connection)


cdef void queue_up(Connection connection):
    connection.last_seen = connection.hub.now
    if not connection.waits:
        connection.waits = True
        connection.hub.queue_up(connection)


cdef int go_on(Connection connection) except -1:
    """Handle what waited; an error ends the connection, as one in a read does."""
    try:
        handle_what_waited(connection)
    except Exception as error:
        report_error(connection.hub, error, connection.transport, connection)
        if connection.transport is not None:
            connection.transport.abort()
    return 0


cdef int handle_what_waited(Connection connection) except -1:
    """For a suspended handler, or for others to have their turn."""
    cdef Connection outer = connection.enter_callback()
    try:
        tell_backlog(connection)
        while connection.inbox is not None and not connection.busy:
            handler, first, second = take_from_inbox(connection)
            run_handler(connection, handler, first, second)
        leftover, connection.leftover = connection.leftover, None
        if leftover is not None:
            connection.receive_own(leftover)
        if connection.paused and connection.leftover is None and connection.transport is not None:
            connection.paused = False
            connection.transport.resume_reading()
        tell_close(connection)
    finally:
        connection.leave_callback(outer)
    if connection.state == CLOSED and not connection.busy:
        context_done(connection)
    return 0
