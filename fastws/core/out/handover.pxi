# The slow peer, from the first byte that the kernel does not take to the last that is sent or the end.
#
#   1. `sent_pending`  The kernel took a part. The rest is the head of the backlog, and the outlet is blocked: `hand_over`
#                      asks the core's transport to tell when there is room, and gives a transport of the loop's what it
#                      takes, whose buffer is the only sign of writability that there is then.
#   2. `queue_chunk`   What is pushed meanwhile waits, within the budgets, or as the policy wants it (backlog.pxi);
#                      `note_backlog` has its service told.
#   3. `room_again`    The backlog is sent straight on the socket, until it is empty and the outlet ready, or 1.
#   4. `give_up_on`    More waits than may. At the end of the turn, when nobody walks over all, `end_too_slow` drops what
#                      waits but a message that is half sent, and fails the connection.
#   5. `send_failed`   The peer is gone, at whatever point.

cdef void sent_pending(Connection connection):
    """Deal with what outlet_send() left: an error, a rest, or the end of sending."""
    cdef outlet_t *outlet = &connection.outlet
    cdef chunk_t *chunk = outlet.pending
    cdef size_t sent = outlet.sent
    outlet.pending = NULL
    outlet.sent = 0
    outlet.left = False
    if outlet.error:
        chunk_release(chunk)
        send_failed(connection)
        return
    if sent == chunk_total(chunk):
        chunk_release(chunk)
    else:
        chunk = chunk_rest(chunk, &sent)
        try:
            backlog_append(outlet, chunk, sent)
        except MemoryError:
            # The peer may have got a part of it: nothing can follow
            chunk_release(chunk)
            send_failed(connection)
            raise
        if outlet.state != BLOCKED:
            hand_over(connection, outlet.fd < 0)
        note_backlog(connection)
    if outlet.finishing:
        finish_sending(connection)


cdef void hand_over(Connection connection, bint whole):
    """Give the head of the backlog to the transport, whose buffer is empty; `whole`: all of it, joined.

    A transport runs anything: finalizers, callbacks of the garbage collector, handlers of signals. What they push waits
    behind what is handed over, so the outlet is blocked from the first moment on.
    """
    cdef outlet_t *outlet = &connection.outlet
    if outlet.handing:
        return
    outlet_become(outlet, BLOCKED)
    if outlet.fd >= 0 and type(connection.transport) is SocketTransport:
        # It needs none of it to tell us when there is room
        (<SocketTransport>connection.transport).await_room()
        return
    outlet.handing = True
    try:
        while outlet.backlog is not NULL and hand_over_some(connection, whole):
            pass
    except (OSError, RuntimeError, AttributeError):
        # The last: before Python 3.11 a transport of asyncio's for TLS, once it is lost
        handing_failed(connection)
    except BaseException:
        handing_failed(connection)
        raise
    finally:
        outlet.handing = False
    if outlet.handed == 0:
        outlet_become(outlet, READY)
        wake_drain(connection)


cdef bint hand_over_some(Connection connection, bint whole) except *:
    """Write what is at the head of the backlog to the transport; whether that kept none of it."""
    cdef outlet_t *outlet = &connection.outlet
    transport = connection.transport
    if transport is None or transport.is_closing():
        outlet_drop(outlet)
        return False
    views = take_views(outlet, connection.endpoint.write_len if whole else 0)
    if whole and len(views) > 1:
        # Each write costs a TLS record of its own, and a system call
        views = [b"".join(views)]
    for view in views:
        transport.write(view)
    if connection.transport is None or transport.get_write_buffer_size():
        return False
    outlet.queued -= outlet.handed
    outlet.handed = 0
    if not whole:
        # The kernel has room again after all
        outlet.error = backlog_send(outlet)
        if outlet.error:
            send_failed(connection)
    return True


cdef int room_again(Connection connection) except -1:
    """The transport has nothing left of what it was given: go on, on the socket where there is one."""
    cdef outlet_t *outlet = &connection.outlet
    if outlet.handing:
        return 0           # called from inside of a write: hand_over() goes on by itself
    connection.taken = True
    outlet.last_sent = connection.hub.now
    outlet_become(outlet, READY)
    outlet.queued -= outlet.handed
    outlet.handed = 0
    if outlet.fd >= 0 and outlet.backlog is not NULL:
        outlet.error = backlog_send(outlet)
        if outlet.error:
            send_failed(connection)
            return 0
    if outlet.backlog is not NULL:
        hand_over(connection, outlet.fd < 0)
    note_backlog(connection)
    if outlet.state == BLOCKED:
        return 0
    connection.ping_waits = False
    wake_drain(connection)
    send_pong_that_waits(connection)
    if outlet.finishing:
        finish_sending(connection)
    return 0


cdef int send_pong_that_waits(Connection connection) except -1:
    """Answer the last ping of a peer that did not read."""
    pong, connection.pong = connection.pong, None
    if pong is not None and not connection.close_sent:
        push_control(connection, OP_PONG, pong)
    return 0


cdef void handing_failed(Connection connection):
    """Nobody knows how much of it the transport took: nothing can follow."""
    cdef outlet_t *outlet = &connection.outlet
    outlet.queued -= outlet.handed
    outlet.handed = 0
    send_failed(connection)


@cython.final
@cython.internal
cdef class ChunkView:
    # Bytes of a chunk for a transport that wants Python buffers; keeps the chunk alive as long as the transport does
    cdef chunk_t *chunk
    cdef iovec bytes

    def __dealloc__(self):
        if self.chunk is not NULL:
            chunk_release(self.chunk)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.bytes.iov_base, self.bytes.iov_len, 1, flags)

    def __len__(self):
        return self.bytes.iov_len


cdef ChunkView chunk_view(chunk_t *chunk, const iovec *vector):
    cdef ChunkView view = ChunkView.__new__(ChunkView)
    chunk.refs += 1
    view.chunk = chunk
    view.bytes = vector[0]
    return view


cdef list take_views(outlet_t *outlet, size_t most):
    """Take the first chunk off the backlog, and those behind it that make no more than `most` bytes with it.

    It counts as handed over from here on. Each chunk is ours before a view of it is made, which may run others.
    """
    cdef list views = []
    cdef chunk_t *chunk
    cdef size_t offset, left
    while outlet.backlog is not NULL:
        chunk = backlog_first(outlet.backlog)
        offset = outlet.backlog.offset
        left = chunk_total(chunk) - offset
        if views and outlet.handed + left > most:
            break
        backlog_pop(outlet)
        outlet.handed += left
        outlet.queued += left
        try:
            add_views(views, chunk, offset)
        finally:
            chunk_release(chunk)
    return views


cdef int add_views(list views, chunk_t *chunk, size_t offset) except -1:
    """Add a view of each piece of a chunk that lies behind `offset`."""
    cdef iovec vectors[MAX_CHUNK_VECTORS]
    cdef int i
    for i in range(chunk_iov(chunk, offset, vectors)):
        views.append(memoryview(chunk_view(chunk, &vectors[i])))
    return 0


cdef void give_up_on(Connection connection):
    """More waits for this peer than it may: it is ended at the end of the turn, when nobody iterates over it."""
    connection.hub.to_end.append(connection)
    connection.outlet.accepting = False
    connection.hub.schedule()


cdef void end_too_slow(Connection connection):
    """The peer does not read what is sent to it: drop all but what it has the beginning of, and end with that.

    A frame that is cut would swallow the close frame. One that was sent already is the last that waits, and stays.
    """
    if connection.state == CLOSED:
        return
    outlet_cut(&connection.outlet, connection.close_sent)
    fail(connection, connection.endpoint.overflow_code, "too slow")


cdef int close_too_slow(Hub hub) except -1:
    """End those who do not read what is sent to them."""
    cdef list to_end = hub.to_end
    if to_end:
        hub.to_end = []
        for connection in to_end:
            end_one(hub, <Connection>connection, False, <size_t>-1)
    return 0


cdef int close_slowest(Hub hub) except -1:
    """End those for whom most waits, until the rest is within the budget of all.

    What is half sent to them is left to wait, for `close_timeout`, if it is short, and there is room for it.
    """
    cdef list slow = []    # before the walk: to make an object may run others, who end what we walk over
    cdef link_t *link = hub.backlogs.next
    cdef Connection connection
    while link != &hub.backlogs:
        slow.append(<Connection>link.connection)
        link = link.next
    slow.sort(key=_most_waits, reverse=True)
    for connection in slow:
        if hub.backlog_len <= hub.max_backlog_len:
            return 0
        end_one(hub, connection, connection.state == CLOSED, JOIN_LEN)
    return 0


cdef void end_one(Hub hub, Connection connection, bint abruptly, size_t most):
    """End one; without another byte, if that is wanted, or when more than so many bytes wait still."""
    try:
        end_too_slow(connection)
        if abruptly or connection.outlet.queued > most:
            abandon(connection)
    except BaseException as error:
        hub.tell_later(error, connection)


cdef int tell_backlogs(Hub hub) except -1:
    """Tell services of the backlogs that crossed a mark."""
    cdef set backlog_changed = hub.backlog_changed
    if backlog_changed:
        hub.backlog_changed = set()
        for connection in backlog_changed:
            try:
                tell_backlog(<Connection>connection)
            except BaseException as error:
                hub.tell_later(error, connection)
    return 0


def _most_waits(Connection connection not None):
    return connection.outlet.queued, connection.id


cdef void send_failed(Connection connection):
    """The peer is gone. What it sent before may still be unread: reading ends the connection, or a deadline."""
    cdef outlet_t *outlet = &connection.outlet
    outlet_become(outlet, SEALED)
    outlet.error = 0
    outlet_drop(outlet)
    wake_drain(connection)
    if not connection.deadline:
        give_time(connection)


cdef void wake_drain(Connection connection):
    waiters, connection.drain_waiters = connection.drain_waiters, None
    wake(waiters)
