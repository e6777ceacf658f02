# What the kernel did not take: handing the rest to the transport, and a peer that is gone.

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
        if not outlet.blocked:
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
    outlet.blocked = True
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
        outlet.blocked = False
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


cdef void send_failed(Connection connection):
    """The peer is gone. What it sent before may still be unread: reading ends the connection, or a deadline."""
    cdef outlet_t *outlet = &connection.outlet
    outlet.fd = -1
    outlet.error = 0
    outlet.accepting = False
    outlet.sealed = True
    outlet_drop(outlet)
    wake_drain(connection)
    if not connection.deadline:
        give_time(connection)


cdef void wake_drain(Connection connection):
    waiters, connection.drain_waiters = connection.drain_waiters, None
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
