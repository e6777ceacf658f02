# A transport of our own: an accepted stream socket, watched by uvloop's libuv and read and written by us.
#
# It does what a transport of asyncio's does, for the protocols that a server of ours has. What it does not do is why it
# exists: it holds no buffer, no context and no Handle per connection, and a read is one system call, then one call of C
# into the Connection. An idle connection costs about half of what it costs on a transport of uvloop's.
#
# Reading. One recv() for each time that the socket is readable, into the buffer that all share, or where the rest of a
# large message is to lie; what is left makes it readable again in the next turn, when others were read, too.
#
# Writing. A Connection writes to the socket past its transport, and only asks to be told when there is room again. What
# is written to the transport (a response of HTTP's) and does not fit is copied and goes first.
#
# The end. As for every transport of asyncio's, connection_lost() is called in a later turn, and once. The socket is closed
# behind it: until then nobody else has its number. The object lives until libuv has let go of its handle.

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        SHUT_RDWR
        SHUT_WR
    int getpeername(int fd, sockaddr *address, socklen_t *length)
    int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
    int shutdown(int fd, int how)
    ssize_t recv(int fd, void *buffer, size_t length, int flags)

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <unistd.h>
    static inline int fastws_accept(int listening) {
        int fd, higher, error;
    #ifdef SOCK_NONBLOCK
        fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    #else
        fd = accept(listening, NULL, NULL);
        if (fd >= 0) {
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
            fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
    #endif
        if (fd < 0 || fd > STDERR_FILENO)
            return fd;
        /* A program that closed its standard streams: what somebody prints to them must not go to a client */
        higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        error = errno;
        close(fd);
        errno = error;
        return higher;
    }
    """
    int fastws_accept(int listening) nogil

cdef extern from "<sys/ioctl.h>" nogil:
    enum:
        FIONREAD
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    unsigned short ntohs(unsigned short number)
    uint32_t ntohl(uint32_t number)

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        IPPROTO_TCP
        TCP_NODELAY

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        INET6_ADDRSTRLEN
    const char *inet_ntop(int family, const void *address, char *text, socklen_t length)

cdef extern from "<unistd.h>" nogil:
    int close_descriptor "close"(int fd)

cdef Py_ssize_t live_transports = 0
cdef link_t open_transports    # of all loops
link_init(&open_transports, NULL)


ctypedef union peer_t:
    sockaddr any
    sockaddr_in ipv4
    sockaddr_in6 ipv6


ctypedef struct poll_t:
    uint8_t handle[POLL_LEN]   # a uv_poll_t. First, so that its address is ours; its own `data` stays NULL for uvloop
    PyObject *transport        # borrowed: it lives until the handle is closed
    uint8_t *buffer            # RECEIVE_LEN bytes, shared by all
    reader_t *reader           # of the protocol, if that is a Connection; or NULL
    const Py_ssize_t *spent    # the hub's
    int fd
    int events                 # that are watched now
    uint8_t waits              # for its turn to be read


cdef void on_poll(void *handle, int status, int events) noexcept nogil:
    """libuv: the socket is readable or writable, or has an error, and then it is not watched any more."""
    cdef poll_t *poll = <poll_t *>handle
    cdef ssize_t received = -EAGAIN
    cdef uint8_t *place = NULL
    if fastws_forked:
        with gil:
            came_back()
    if status < 0:
        # What it is recv() says, and that does not wait
        events = poll.events
        poll.events = 0
        poll.waits = False
    if events & UV_READABLE and not poll.waits:
        poll.waits = status == 0 and must_wait(poll)
        if not poll.waits:
            received = receive(poll, &place)
    elif not events & UV_WRITABLE:
        return
    with gil:
        (<SocketTransport>poll.transport).ready(place, received, (events & UV_WRITABLE) != 0)


cdef bint must_wait(const poll_t *poll) noexcept nogil:
    """Whether much is there to be read, and others had all that a turn does."""
    cdef int unread = 0
    if poll.reader is NULL or poll.spent[0] < WORK_OF_TURN:
        return False
    return ioctl(poll.fd, FIONREAD, &unread) == 0 and is_much(poll.reader, unread)


cdef ssize_t receive(const poll_t *poll, uint8_t **place) noexcept nogil:
    """Read once; the bytes that lie at *place, or minus errno."""
    cdef size_t room = RECEIVE_LEN
    cdef ssize_t received
    place[0] = poll.buffer
    if poll.reader is not NULL:
        place[0] = reader_place(poll.reader, poll.buffer, &room)
    received = recv(poll.fd, place[0], room, MSG_DONTWAIT)
    if received >= 0:
        return received
    return -EAGAIN if errno == EINTR else -errno


cdef void on_handle_closed(void *handle) noexcept nogil:
    with gil:
        Py_DECREF(<object>(<poll_t *>handle).transport)


@cython.final
@cython.no_gc
cdef class SocketTransport:
    cdef poll_t poll
    cdef link_t link           # in open_transports
    cdef Hub hub
    cdef object protocol       # None once it was told of the end
    cdef bytearray unsent      # what was written and the kernel did not take, or None
    cdef peer_t peer
    cdef uint8_t paused
    cdef uint8_t at_end        # the peer sends no more
    cdef uint8_t awaited       # the protocol waits until it can write
    cdef uint8_t finishing     # our direction is to end behind what is unsent
    cdef uint8_t closing
    cdef uint8_t ended         # connection_lost() was called, or is about to be

    def __cinit__(self, Hub hub not None, int fd, protocol):
        global live_transports
        cdef socklen_t length = sizeof(peer_t)
        cdef int status
        cdef int on = 1
        self.hub = hub
        self.poll.fd = -1
        link_init(&self.link, <PyObject *>self)
        live_transports += 1
        if hub.uv_loop is NULL:
            raise ValueError("only for a loop of uvloop's")
        if getpeername(fd, &self.peer.any, &length) < 0:
            # It is gone already, and nobody could say any more who it was
            raise OSError(errno, os.strerror(errno))
        if self.peer.any.sa_family != AF_UNIX:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
        status = libuv.poll_init(hub.uv_loop, &self.poll, fd)
        if status < 0:
            raise OSError(-status, os.strerror(-status))
        # From here on libuv has the handle, and we live until it gives it back
        self.poll.transport = <PyObject *>self
        self.poll.buffer = hub.receive_ptr
        self.poll.spent = &hub.spent
        self.poll.fd = fd
        Py_INCREF(self)
        link_append(&open_transports, &self.link)
        self.plug(protocol)

    def __dealloc__(self):
        global live_transports
        if self.link.next is NULL:
            return             # wrong arguments: nothing was made
        live_transports -= 1

    cdef void plug(self, object protocol):
        self.protocol = protocol
        self.poll.reader = &(<Connection>protocol).reader if type(protocol) is Connection else NULL

    # -- what libuv calls

    cdef void ready(self, uint8_t *place, ssize_t received, bint writable):
        Py_INCREF(self)
        try:
            # At once: what lies at its place in a message does so only as long as nothing else happens
            if received != -EAGAIN and not self.ended:
                self.read(place, received)
            if received == RECEIVE_LEN and self.awaits_rest():
                with nogil:
                    received = receive(&self.poll, &place)
                if received != -EAGAIN:
                    self.read(place, received)
            if writable and not self.ended:
                self.write_on()
            if self.poll.waits and not self.ended:
                queue_up(<Connection>self.protocol)
            self.watch()
        except (SystemExit, KeyboardInterrupt) as error:
            self.hub.call_soon(self.hub._raise, error)
            self.end(error)
        except BaseException as error:
            self.fail(error)
        finally:
            Py_DECREF(self)

    cdef bint awaits_rest(self):
        """Whether a large message is cut by the end of the buffer, and the rest may be read while the first is warm."""
        cdef size_t room = 0
        if self.poll.reader is NULL or self.hub is None or self.hub.spent >= WORK_OF_TURN:
            return False
        if not self.poll.events & UV_READABLE:
            return False
        reader_place(self.poll.reader, self.poll.buffer, &room)
        return room > 0

    cdef void take_turn(self):
        """Read, if that waited for a turn."""
        cdef uint8_t *place = NULL
        cdef ssize_t received
        if not self.poll.waits:
            return
        self.poll.waits = False
        if self.poll.events & UV_READABLE:
            with nogil:
                received = receive(&self.poll, &place)
            self.ready(place, received, False)

    cdef int read(self, uint8_t *place, ssize_t received) except -1:
        if received > 0:
            if self.closing:
                return 0       # nobody wants it any more
            if type(self.protocol) is Connection:
                (<Connection>self.protocol).read_arrived(place, received)
            else:
                self.protocol.data_received(<bytes>(<char *>place)[:received])
        elif received == 0:
            self.at_end = True
            if not self.closing and not self.protocol.eof_received():
                self.close()
        else:
            self.end(OSError(-received, os.strerror(-received)))
        return 0

    cdef int write_on(self) except -1:
        if self.unsent is not None and not self.send_unsent():
            return 0
        if self.awaited:
            self.awaited = False
            self.protocol.resume_writing()
        return 0

    cdef bint send_unsent(self) except *:
        """Whether nothing is left, and the socket may be written to."""
        cdef ssize_t sent = self.send(PyByteArray_AS_STRING(self.unsent), PyByteArray_GET_SIZE(self.unsent))
        if self.ended:
            return False
        if sent < PyByteArray_GET_SIZE(self.unsent):
            del self.unsent[:sent]
            return False
        self.unsent = None
        if self.finishing:
            shutdown(self.poll.fd, SHUT_WR)
        if self.closing:
            self.end(None)
        return not self.ended

    cdef ssize_t send(self, const char *data, size_t length) except -1:
        """Send what the kernel takes now; how much that is. An error ends the transport."""
        cdef ssize_t sent = send(self.poll.fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent >= 0:
            return sent
        if errno != EAGAIN and errno != EINTR:
            self.end(OSError(errno, os.strerror(errno)))
        return 0

    cdef void watch(self):
        """Watch for what is wanted now."""
        cdef int events = 0
        if self.ended:
            return
        if not self.paused and not self.at_end and not self.closing:
            events |= UV_READABLE
        if self.unsent is not None or self.awaited:
            events |= UV_WRITABLE
        if events == self.poll.events:
            return
        self.poll.events = events
        if events:
            libuv.poll_start(&self.poll, events, on_poll)
        else:
            libuv.poll_stop(&self.poll)

    cdef void await_room(self):
        """Call resume_writing() when the socket can be written to."""
        self.awaited = True
        self.watch()

    # -- the end

    cdef void fail(self, object error):
        report_error(self.hub, error, self, self.protocol)
        self.end(error)

    cdef void end(self, object error):
        """Nothing is read or written any more; the protocol is told in a later turn."""
        if self.ended:
            return
        self.ended = self.closing = True
        self.unsent = None
        self.poll.events = 0
        libuv.poll_stop(&self.poll)
        self.hub.call_soon(self._tell_end, error)

    def _tell_end(self, error):
        protocol = self.protocol
        self.plug(None)
        try:
            if protocol is not None:
                protocol.connection_lost(error)
        finally:
            self.release()

    def _let_go(self):
        """The loop ends first, and nobody is told."""
        protocol = self.protocol
        self.plug(None)
        self.ended = self.closing = True
        if type(protocol) is Connection:
            # First: nothing can be pushed to it any more by what dies with the others
            (<Connection>protocol).unplug()
        forget_dirty(self.hub)
        self.release()
        if type(protocol) is Connection:
            leave_registries(<Connection>protocol)

    cdef void release(self):
        """Close the socket, and let libuv have done with the handle."""
        if self.poll.fd < 0:
            return
        link_remove(&self.link)
        libuv.close(&self.poll, on_handle_closed)
        # Said, and not left to the last who closes it: another process may have it, too
        shutdown(self.poll.fd, SHUT_RDWR)
        close_descriptor(self.poll.fd)
        self.poll.fd = -1
        self.hub = None        # whatever keeps us alive now needs none

    # -- what a protocol calls (asyncio.Transport)

    def start(self):
        """Tell the protocol of the connection, and begin to read."""
        try:
            self.protocol.connection_made(self)
        except BaseException:
            self.end(None)
            raise
        self.watch()

    def get_extra_info(self, name, default=None):
        return address_of_peer(&self.peer) if name == "peername" else default

    def set_protocol(self, protocol):
        self.plug(protocol)

    def get_protocol(self):
        return self.protocol

    def is_closing(self):
        return self.closing != 0

    def is_reading(self):
        return not self.paused and not self.closing

    def pause_reading(self):
        self.paused = True
        self.watch()

    def resume_reading(self):
        self.paused = False
        self.watch()

    def get_write_buffer_size(self):
        return 0 if self.unsent is None else len(self.unsent)

    def set_write_buffer_limits(self, high=None, low=None):
        """There are none: the protocol waits whenever anything does."""

    def write(self, data):
        if self.closing or self.finishing:
            return
        if self.unsent is not None:
            self.unsent += data
            return
        rest = data if type(data) is bytes else bytes(data)
        cdef ssize_t sent = self.send(PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
        if sent < PyBytes_GET_SIZE(rest) and not self.ended:
            self.unsent = bytearray(memoryview(rest)[sent:])
            self.protocol.pause_writing()
            self.await_room()

    def can_write_eof(self):
        return True

    def write_eof(self):
        if self.finishing or self.ended:
            return
        self.finishing = True
        if self.unsent is None:
            shutdown(self.poll.fd, SHUT_WR)

    def close(self):
        if self.closing:
            return
        self.closing = True
        self.watch()
        if self.unsent is None:
            self.end(None)

    def abort(self):
        self.end(None)

    def __repr__(self):
        return f"<SocketTransport fd={self.poll.fd}>"


def accept_connection(int listening):
    """Not socket.accept(): its object, and two system calls for that, are a third of what accepting costs."""
    cdef int fd
    while True:
        notice_fork()
        fd = fastws_accept(listening)
        if fd >= 0:
            return fd
        if errno != EINTR:
            raise OSError(errno, os.strerror(errno))


def shut_down(transport):
    """End both directions of a lost transport's socket before it is closed: another process may have it, too."""
    cdef int fd = -1
    if transport is not None and type(transport) is not SocketTransport:
        fd = plain_socket(transport)
    if fd >= 0:
        shutdown(fd, SHUT_RDWR)


cdef object address_of_peer(const peer_t *peer):
    """As the socket module has it; of a Unix socket nothing."""
    cdef char text[INET6_ADDRSTRLEN]
    if peer.any.sa_family == AF_INET:
        inet_ntop(AF_INET, &peer.ipv4.sin_addr, text, INET6_ADDRSTRLEN)
        return (text.decode("ascii"), ntohs(peer.ipv4.sin_port))
    if peer.any.sa_family == AF_INET6:
        inet_ntop(AF_INET6, &peer.ipv6.sin6_addr, text, INET6_ADDRSTRLEN)
        return (text.decode("ascii"), ntohs(peer.ipv6.sin6_port), ntohl(peer.ipv6.sin6_flowinfo),
                peer.ipv6.sin6_scope_id)
    return ""


cdef SocketTransport first_transport_of(loop):
    cdef link_t *link = open_transports.next
    while link != &open_transports:
        if (<SocketTransport>link.connection).hub.loop is loop:
            return <SocketTransport>link.connection
        link = link.next
    return None


cdef int report_error(Hub hub, error, transport, protocol) except -1:
    """Tell the loop's exception handler, in a later turn: it may raise what ends the loop."""
    context = {"message": "a callback of a connection failed", "exception": error, "transport": transport,
               "protocol": protocol}
    hub.call_soon(hub.loop.call_exception_handler, context)
    return 0
