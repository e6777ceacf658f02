# What the kernel did not take: handing the rest to the transport, and a peer that is gone.

cdef void sent_pending(Connection connection):
    """Deal with what outlet_send() left: an error, a rest, or the end of sending."""
    cdef outlet_t *outlet = &connection.outlet
    cdef chunk_t *chunk = outlet.pending
    cdef size_t sent = outlet.sent
    outlet.pending = NULL
    outlet.sent = 0
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
    """Give the head of the backlog to the transport, whose buffer is empty; `whole`: all of it, joined."""
    cdef outlet_t *outlet = &connection.outlet
    cdef size_t length
    if outlet.handing:
        return
    if outlet.fd >= 0 and type(connection.transport) is SocketTransport:
        # It needs none of it to tell us when there is room
        outlet.blocked = True
        (<SocketTransport>connection.transport).await_room()
        return
    outlet.handing = True
    try:
        while outlet.backlog is not NULL and not outlet.blocked:
            if connection.transport is None or connection.transport.is_closing():
                outlet_drop(outlet)
                return
            length = outlet.queued
            views = take_views(outlet, JOIN_LEN if whole else 0)
            length -= outlet.queued
            if whole and len(views) > 1:
                # Each write costs a TLS record of its own, and a system call
                views = [b"".join(views)]
            for view in views:
                connection.transport.write(view)
            if connection.transport.get_write_buffer_size():
                outlet.blocked = True
                outlet.handed = length
                outlet.queued += length
            elif not whole:
                # The kernel has room again after all
                outlet.error = backlog_send(outlet)
                if outlet.error:
                    send_failed(connection)
    except (OSError, RuntimeError):
        send_failed(connection)
    finally:
        outlet.handing = False


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
    """Take the first chunk off the backlog, and those behind it that make no more than `most` bytes with it."""
    cdef list views = []
    cdef chunk_t *chunk
    cdef iovec vectors[MAX_CHUNK_VECTORS]
    cdef size_t length = 0
    cdef int count, i
    while True:
        chunk = backlog_first(outlet.backlog)
        length += chunk_total(chunk) - outlet.backlog.offset
        count = chunk_iov(chunk, outlet.backlog.offset, vectors)
        for i in range(count):
            views.append(memoryview(chunk_view(chunk, &vectors[i])))
        backlog_pop(outlet)
        chunk_release(chunk)
        if outlet.backlog is NULL or length + chunk_total(backlog_first(outlet.backlog)) > most:
            return views


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
