# The end of a connection: the closing handshake (RFC 6455 7), failing it, and letting go.
#
# Every end has a deadline: a peer that does not answer or hang up, and a handler that does not return, get
# `close_timeout` seconds.

cdef int LOG_DEBUG = logging.DEBUG

cdef double HANG_UP_TIMEOUT = 2.0  # seconds, at most `close_timeout`

# All that a peer ever learns of why it is failed
cdef dict FAIL_REASONS = {
    1002: "protocol error",
    1007: "invalid payload",       # no UTF-8, or not what deflate makes
    1008: "too many fragments",
    1009: "message too big",
}
# Of 1007, where zlib refuses what a client with the window that it was refused would have made
cdef str OVERREACHED = "refers further back than the handshake allows"


cdef inline void become(Connection connection, connection_state state) noexcept:
    """Go on to another state; there is no way back."""
    if CHECKS:
        must(state > connection.state and (connection.state != CONNECTING or state == OPEN))
    connection.state = state
    connection.outlet.accepting = state == OPEN


cdef bint start_close(Connection connection, int code, str reason) except *:
    """Send a close frame and wait for the peer's."""
    if connection.state != OPEN:
        return False
    send_close(connection, code, reason)
    return True


cdef void send_close(Connection connection, int code, str reason):
    become(connection, CLOSING)
    connection.close_sent = True
    connection.sent_code = code
    if not connection.close_received:
        connection.code = code
        connection.reason = reason
    push_control(connection, OP_CLOSE, make_close(code, reason))
    give_time(connection)


cdef int on_close_frame(Connection connection, bytes payload) except -1:
    """The peer's close frame: answer it unless it is the answer, then let go of the transport."""
    hand_out(connection)
    code, reason = parse_close(payload)
    if code < 0:
        fail(connection, -code, FAIL_REASONS[-code])
        return 0
    connection.close_received = True
    connection.received_code = code
    connection.code = code
    connection.reason = reason
    if not connection.close_sent:
        # "the endpoint typically echos the status code it received" (5.5.1)
        send_close(connection, code, "")
    connection.outlet.finishing = True
    if connection.outlet.pending is NULL:
        finish_sending(connection)
    end_service_side(connection)
    if not connection.busy and connection.outlet.queued == 0:
        # Nobody has anything to say any more: the peer only has to hang up
        connection.deadline = min(connection.deadline, connection.hub.now + HANG_UP_TIMEOUT)
        arm_timer(connection)
    return 0


cdef int hand_out(Connection connection) except -1:
    """Let who awaits messages take those that came before the end, and answer them."""
    if connection.client is not None:
        connection.client.tell()
    return 0


cdef int fail_reading(Connection connection, int code) except -1:
    """Fail for what the reader does not take."""
    hand_out(connection)
    return fail(connection, code, OVERREACHED if connection.reader.overreached else FAIL_REASONS[code])


cdef int fail(Connection connection, int code, str reason) except -1:
    """Fail the WebSocket Connection (7.1.7): say why, take nothing more, and end it for the service at once."""
    if connection.state == CLOSED:
        return 0
    if not connection.close_sent:
        send_close(connection, code, reason)
    reader_reset(&connection.reader)
    connection.leftover = None
    connection.outlet.finishing = True
    if connection.outlet.pending is NULL:
        finish_sending(connection)
    end_service_side(connection)
    return 0


cdef void finish_sending(Connection connection):
    """Once all is sent: end our direction. The transport closes when the peer ends its own, or at the deadline.

    Closing a socket with unread input would reset it, and the reset may overtake our close frame.
    """
    cdef outlet_t *outlet = &connection.outlet
    if outlet.pending is not NULL or outlet.backlog is not NULL or outlet.state == BLOCKED or connection.transport is None:
        return
    outlet.finishing = False
    outlet_become(outlet, SEALED)
    try:
        if connection.hung_up:
            # Not now: asyncio's transport ends twice when it is closed by what it calls from its own write
            connection.hub.call_soon(_close_once, connection.transport)
        elif connection.transport.can_write_eof():
            connection.transport.write_eof()
        else:
            _close_once(connection.transport)
    except (OSError, RuntimeError):
        connection.transport.abort()


def _close_once(transport):
    """asyncio's over TLS is of no use any more after a second time."""
    if not transport.is_closing():
        transport.close()


cdef int end_service_side(Connection connection) except -1:
    """End the connection for the service: leave every registry, then on_close."""
    cdef Connection outer
    if connection.state == CLOSED:
        return 0
    become(connection, CLOSED)
    if not connection.close_received and not connection.close_sent:
        connection.code = 1006
    leave_registries(connection)
    wake_drain(connection)
    if connection.client is not None:
        connection.client.end()
    give_time(connection)
    connection.hub.ending.add(connection)
    if connection.endpoint.on_close is None:
        if not connection.busy and connection.inbox is None:
            context_done(connection)
    else:
        connection.close_due = True
        outer = connection.enter_callback()
        try:
            tell_close(connection)
        finally:
            connection.leave_callback(outer)
    log_end(connection)
    return 0


cdef int tell_close(Connection connection) except -1:
    """Call on_close, if it is due and all other handlers are done."""
    if not connection.close_due or connection.busy or connection.inbox is not None:
        return 0
    connection.close_due = False
    return run_handler(connection, connection.endpoint.on_close, connection.code, connection.reason)


cdef void log_end(Connection connection):
    """For who debugs only: whatever peers do must not fill a log."""
    if logger.is_enabled_for(LOG_DEBUG):
        logger.debug("connection %d of %s closed: %d %r (sent %s, received %s)", connection.id, connection.endpoint.name,
                     connection.code, connection.reason, connection.sent_code, connection.received_code)


cdef void context_done(Connection connection):
    """The last handler is done."""
    if not connection.entered:
        connection.context = None
    release_connection(connection)


cdef void release_connection(Connection connection):
    """Let go of everything once the service and the transport are both done with us."""
    if connection.released or connection.transport is not None or connection.state != CLOSED:
        return
    if connection.busy or connection.inbox is not None or connection.close_due:
        return
    connection.released = True
    if connection.handling is not None:
        connection.handling.connection = None
        connection.handling = None
    if connection.client is not None:
        connection.client.let_go()
    connection.hub.ending.discard(connection)
    link_remove(&connection.link)
    if connection.hub.clock is not None:
        connection.hub.disarm(connection)
    connection.hub.live -= 1
    connection.endpoint.live -= 1
    waiters, connection.end_waiters = connection.end_waiters, None
    wake(waiters)
    on_release, connection.on_release = connection.on_release, None
    if on_release is not None:
        on_release()
    if connection.endpoint.live == 0 and connection.endpoint.on_empty is not None:
        connection.endpoint.on_empty()


cdef int lose_connection(Connection connection) except -1:
    """End a connection whose loop is closed: nothing of it can run any more."""
    cdef bint known = connection.state != CLOSED
    connection.unplug()
    reader_reset(&connection.reader)
    if known:
        become(connection, CLOSED)
    if not connection.close_received and not connection.close_sent:
        connection.code = 1006
    connection.inbox = connection.leftover = connection.drain_waiters = connection.end_waiters = None
    connection.address = connection.remote_address
    connection.transport = None
    connection.context = None
    connection.busy = False
    if known:
        leave_registries(connection)
    release_connection(connection)
    return 0


cdef void abandon(Connection connection):
    """End it without another byte, whatever it has the beginning of."""
    send_failed(connection)
    if connection.transport is not None:
        connection.transport.abort()


cdef void give_time(Connection connection):
    """Wait so long for the peer, or for a handler, and no longer."""
    connection.deadline = connection.hub.now + connection.endpoint.close_timeout
    arm_timer(connection)


cdef void on_deadline(Connection connection):
    """A deadline passed: the peer does not close, or a handler does not end."""
    if connection.transport is not None:
        connection.transport.abort()
    if connection.state == CLOSED:
        if connection.running is not None:
            connection.running.cancel()
        give_time(connection)
