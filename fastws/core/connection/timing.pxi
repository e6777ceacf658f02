# Ping, pong and idle timeouts, and the deadlines of closing: what a connection does when its bucket comes up.
#
# Nothing here runs when a message comes: reads and sends note the time, and the hub looks at a connection when it may be
# due.
#
# Pings. One is sent when either direction was silent for `ping_interval`: what lies between may cut each by itself. It
# waits for its turn behind everything that was sent before, here and in the kernel's buffer, and a client that reads
# slowly may need minutes to come to it. So what a client takes is a sign of life as what it says is, as long as something
# lies ahead of its answer: more in our backlog or in the kernel than the peer's window takes, or what had been sent and
# was not acknowledged when the ping was sent. Behind that its kernel alone may acknowledge, for a client that hangs, and
# only the answer counts. While something is ahead we look four times within `ping_timeout`.

cdef extern from *:
    """
    #include <string.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #if defined(__linux__) && defined(TCP_INFO) && defined(TIOCOUTQ)
    /* Of the kernel's struct tcp_info, which only ever grows; that of the C library ends before these. */
    #define FASTWS_BYTES_ACKED 120
    #define FASTWS_NOTSENT_BYTES 144
    #define FASTWS_TCP_INFO_LEN 148
    static int fastws_tcp_progress(int fd, uint32_t *acked, uint32_t *unacked, uint32_t *unsent) {
        char info[FASTWS_TCP_INFO_LEN];
        socklen_t length = sizeof(info);
        uint64_t count;
        int waiting;
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length) < 0 || length < FASTWS_TCP_INFO_LEN
            || ioctl(fd, TIOCOUTQ, &waiting) < 0)
            return 0;
        memcpy(&count, info + FASTWS_BYTES_ACKED, sizeof(count));
        *acked = (uint32_t)count;
        *unacked = (uint32_t)waiting;
        memcpy(unsent, info + FASTWS_NOTSENT_BYTES, sizeof(*unsent));
        return 1;
    }
    #else
    static int fastws_tcp_progress(int fd, uint32_t *acked, uint32_t *unacked, uint32_t *unsent) { return 0; }
    #endif
    """
    # Bytes that the peer acknowledged so far, that it has not, and of these those that wait for its window; False where
    # nobody knows: of a Unix socket, or on other systems
    bint fastws_tcp_progress(int fd, uint32_t *acked, uint32_t *unacked, uint32_t *unsent) noexcept nogil


cdef void arm_timer(Connection connection):
    """Be looked at again when the next deadline may have come."""
    cdef Endpoint endpoint = connection.endpoint
    cdef double now = connection.hub.now
    cdef double due = connection.deadline or 1e300
    cdef double beat
    if connection.state == OPEN:
        if connection.ping_sent and endpoint.ping_timeout:
            due = min(due, connection.ping_sent + endpoint.ping_timeout)
            if connection.ahead:
                due = min(due, now + endpoint.ping_timeout / 4)
        if endpoint.ping_interval:
            beat = max(silent_since(connection), connection.ping_sent) + endpoint.ping_interval
            # Past it, only an answer that may still come puts it off. Nothing else must: a sum of times is rounded, and
            # may have come although the difference that check_ping() looks at has not
            if now < beat or not (connection.ping_sent and endpoint.ping_timeout):
                due = min(due, beat)
        if endpoint.idle_timeout:
            due = min(due, connection.last_message + idle_time(connection))
    if due < 1e300:
        connection.hub.arm(&connection.link, due - now)


cdef inline double silent_since(Connection connection) noexcept:
    """Since when one direction has been. Ours is not while something waits: another ping would only wait behind it."""
    if connection.outlet.state == BLOCKED:
        return connection.last_seen
    return min(connection.last_seen, connection.outlet.last_sent)


cdef void look_at(Connection connection):
    cdef double now = connection.hub.now
    cdef Connection outer = connection.enter_callback()
    try:
        if connection.deadline and now >= connection.deadline:
            connection.deadline = 0
            on_deadline(connection)
        elif connection.state == OPEN:
            if connection.outlet.state != SEALED:
                check_ping(connection, now)
            check_idle(connection, now)
    finally:
        connection.leave_callback(outer)
        if not connection.released:
            arm_timer(connection)


cdef void check_ping(Connection connection, double now):
    cdef Endpoint endpoint = connection.endpoint
    if connection.last_seen >= connection.ping_sent:
        connection.ping_sent = 0  # answered, or none was sent
    if connection.ping_sent and endpoint.ping_timeout:
        if connection.ahead and makes_progress(connection, False):
            connection.ping_sent = now
        if now - connection.ping_sent < endpoint.ping_timeout:
            return
        if connection.paused:
            # Its pong may lie in front of us: it is we who do not listen
            connection.ping_sent = now
        else:
            fail(connection, 1011, "ping timeout")
            if connection.transport is not None:
                connection.transport.abort()
    elif endpoint.ping_interval and now - max(silent_since(connection), connection.ping_sent) >= endpoint.ping_interval:
        send_ping(connection)


cdef void send_ping(Connection connection):
    connection.ping_sent = connection.hub.now
    makes_progress(connection, True)
    # A client may speak and not read for ever: one that waits is enough
    if not (connection.outlet.state == BLOCKED and connection.ping_waits):
        connection.ping_waits = connection.outlet.state == BLOCKED
        push_control(connection, OP_PING, b"")


cdef bint makes_progress(Connection connection, bint from_here):
    """Whether the peer took any of what is ahead of its answer since the last look; `from_here`: a ping is sent now."""
    cdef uint32_t acked = connection.acked
    cdef uint32_t unacked = 0
    cdef uint32_t unsent = 0
    cdef bint taken = connection.taken
    cdef bint blocked = connection.outlet.state == BLOCKED
    connection.taken = False
    if fastws_tcp_progress(socket_of(connection.transport), &acked, &unacked, &unsent):
        if from_here or blocked or unsent:
            connection.ping_end = acked + unacked
    else:
        # What the transport holds still; only when it has nothing more is it written to, and then it says so
        acked = connection.ping_end = <uint32_t>connection.transport.get_write_buffer_size()
    taken = taken or (connection.ahead and acked != connection.acked)
    connection.acked = acked
    connection.ahead = blocked or <int32_t>(connection.ping_end - acked) > 0
    return taken


cdef inline double idle_time(Connection connection) noexcept:
    """How old the note of a message has to be: it was made by a clock that may have been a tick behind."""
    return connection.endpoint.idle_timeout + connection.hub.resolution


cdef void check_idle(Connection connection, double now):
    if connection.state != OPEN or not connection.endpoint.idle_timeout:
        return
    if now - connection.last_message < idle_time(connection) or connection.failing:
        return
    connection.last_message = now
    if connection.paused or connection.waits:
        return                 # what it said may lie in front of us: it is we who do not listen
    if connection.endpoint.on_idle_timeout is None:
        start_close(connection, 1001, "idle timeout")
    elif not connection.busy and connection.inbox is None:
        run_handler(connection, connection.endpoint.on_idle_timeout, None, None)
