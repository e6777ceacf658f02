# Ping, pong and idle timeouts, and the deadlines of closing: what a connection does when its bucket comes up.
#
# Nothing here runs when a message comes: reads note the time, and the hub looks at a connection when it may be due.

cdef void arm_timer(Connection connection):
    """Be looked at again when the next deadline may have come."""
    cdef Endpoint endpoint = connection.endpoint
    cdef double now = connection.hub.now
    cdef double due = connection.deadline or 1e300
    cdef double beat
    if connection.state == OPEN:
        if connection.ping_sent and endpoint.ping_timeout:
            due = min(due, connection.ping_sent + endpoint.ping_timeout)
        if endpoint.ping_interval:
            beat = max(connection.last_seen, connection.ping_sent) + endpoint.ping_interval
            # Past it, only an answer that may still come puts it off. Nothing else must: a sum of times is rounded, and
            # may have come although the difference that check_ping() looks at has not
            if now < beat or not (connection.ping_sent and endpoint.ping_timeout):
                due = min(due, beat)
        if endpoint.idle_timeout:
            due = min(due, connection.last_message + endpoint.idle_timeout)
    if due < 1e300:
        connection.hub.arm(&connection.link, due - now)


cdef void look_at(Connection connection):
    cdef double now = connection.hub.now
    cdef Connection outer = connection.begin()
    try:
        if connection.deadline and now >= connection.deadline:
            connection.deadline = 0
            give_up(connection)
        elif connection.state == OPEN:
            check_ping(connection, now)
            check_idle(connection, now)
    finally:
        connection.end(outer)
        if not connection.released:
            arm_timer(connection)


cdef void check_ping(Connection connection, double now):
    cdef Endpoint endpoint = connection.endpoint
    if connection.last_seen >= connection.ping_sent:
        connection.ping_sent = 0  # answered, or none was sent
    if connection.ping_sent and endpoint.ping_timeout:
        if now - connection.ping_sent < endpoint.ping_timeout:
            return
        if connection.paused:
            # Its pong may lie in front of us: it is we who do not listen
            connection.ping_sent = now
        else:
            fail(connection, 1011, "ping timeout")
            if connection.transport is not None:
                connection.transport.abort()
    elif endpoint.ping_interval and now - max(connection.last_seen, connection.ping_sent) >= endpoint.ping_interval:
        connection.ping_sent = now
        if not connection.outlet.blocked:
            push_control(connection, OP_PING, b"")


cdef void check_idle(Connection connection, double now):
    if connection.state != OPEN or not connection.endpoint.idle_timeout:
        return
    if now - connection.last_message < connection.endpoint.idle_timeout or connection.failing:
        return
    connection.last_message = now
    if connection.paused or connection.waits:
        return                 # what it said may lie in front of us: it is we who do not listen
    if connection.endpoint.on_idle_timeout is None:
        start_close(connection, 1001, "idle timeout")
    elif not connection.busy and connection.inbox is None:
        run_handler(connection, connection.endpoint.on_idle_timeout, None, None)
