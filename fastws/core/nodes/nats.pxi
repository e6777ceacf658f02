# The client's side of the NATS protocol: bytes in, messages and operations out; publishes and subscriptions as bytes.
#
# A line ends with CR LF. MSG and HMSG name so many bytes that follow it, with a CR LF of their own:
#
#     MSG subject sid [reply] #bytes             HMSG subject sid [reply] #headers #bytes, headers among them
#     INFO {...}      PING      PONG      +OK      -ERR 'text'
#
# Theory of operation. What lies complete in a piece is read where it lies, and its payload copied once, to the object that
# the receiver gets. Of what is cut a line gathers in `rest`, a payload in its object. Both are bounded. What is malformed
# is of one kind: whoever reads this has to begin anew with another connection.

cdef enum:
    NATS_LINE_LEN = 65536          # bytes; an INFO names the servers of a whole cluster
    NATS_PAYLOAD_LEN = 67108864    # bytes; no server can be configured for more
    NATS_SUBJECT_LEN = 2000        # bytes; a subscription names it twice, in a line of 4096
    NATS_HEADERS_LEN = 12          # bytes of "NATS/1.0" and two ends of line, the least that headers have
    NATS_DIGITS = 8                # of the longest payload's length
    NATS_WORDS = 5                 # of a line with a payload, at most: subject, sid, reply, two lengths
    NATS_PUBLISH_LEN = 32          # bytes of a PUB besides subject and payload, at most

    SAID_BUFFER_LEN = 65536        # bytes that what is said to a server begins to gather in
    SAID_KEPT_LEN = 1048576        # bytes of that which are kept for the next turn


@cython.final
cdef class NatsProtocolError(Exception):
    pass


cdef inline bint nats_begins(const char *line, Py_ssize_t length, const char *word, Py_ssize_t word_len) noexcept:
    return length >= word_len and memcmp(line, word, word_len) == 0


cdef inline bytes new_bytes(Py_ssize_t length):
    """Bytes whose content is filled in by the caller."""
    cdef PyObject *made = PyBytes_FromStringAndSize(NULL, length)
    result = <bytes>made
    Py_DECREF(result)
    return result


cdef Py_ssize_t nats_length(const char *digits, Py_ssize_t count) except -1:
    """Read the length of a payload."""
    cdef Py_ssize_t length = 0
    cdef Py_ssize_t place
    for place in range(min(count, <Py_ssize_t>NATS_DIGITS)):
        if not c'0' <= digits[place] <= c'9':
            raise NatsProtocolError("a length is no number")
        length = length * 10 + digits[place] - c'0'
    if count > NATS_DIGITS or length > NATS_PAYLOAD_LEN:
        raise NatsProtocolError("a payload is too long")
    return length


@cython.final
cdef class NatsReader:
    cdef bytearray rest            # a line that is cut
    cdef bytes subject             # of the last message; the next often has the same
    cdef bytes block               # what a line has announced, headers first; None between messages
    cdef Py_ssize_t block_len      # bytes of it that came, its end of line among them
    cdef Py_ssize_t headers_len    # 0 without

    def __cinit__(self):
        self.rest = bytearray()

    # Lines

    cdef const char *read_line(self, const char *position, const char *end, listener) except NULL:
        """Take a line, or what there is of it; returns what comes behind it."""
        cdef const char *feed = <const char *>memchr(position, c'\n', end - position)
        cdef Py_ssize_t length = (end if feed is NULL else feed + 1) - position
        cdef bytes line
        if PyByteArray_GET_SIZE(self.rest) + length > NATS_LINE_LEN:
            raise NatsProtocolError("a line is too long")
        if feed is not NULL and PyByteArray_GET_SIZE(self.rest) == 0:
            self.read_operation(position, length, listener)
            return position + length
        self.rest += position[:length]
        if feed is not NULL:
            line = bytes(self.rest)
            self.rest = bytearray()
            self.read_operation(PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line), listener)
        return position + length

    cdef int read_operation(self, const char *line, Py_ssize_t length, listener) except -1:
        """Do what a line says, or begin with the message that it announces."""
        length -= 2
        if length < 0 or line[length] != c'\r':
            raise NatsProtocolError("a line ends without CR")
        if nats_begins(line, length, b"MSG ", 4):
            return self.begin_message(line + 4, line + length, False)
        if nats_begins(line, length, b"HMSG ", 5):
            return self.begin_message(line + 5, line + length, True)
        return nats_tell(line, length, listener)

    cdef int begin_message(self, const char *position, const char *end, bint with_headers) except -1:
        cdef const char *words[NATS_WORDS]
        cdef Py_ssize_t lengths[NATS_WORDS]
        cdef int count = nats_split(position, end, words, lengths)
        cdef Py_ssize_t length
        if not 3 + with_headers <= count <= 4 + with_headers:
            raise NatsProtocolError("a message has other arguments than it should")
        length = nats_length(words[count - 1], lengths[count - 1])
        self.headers_len = nats_length(words[count - 2], lengths[count - 2]) if with_headers else 0
        if with_headers and not NATS_HEADERS_LEN <= self.headers_len <= length:
            raise NatsProtocolError("headers have a wrong length")
        self.take_subject(words[0], lengths[0])
        self.block = new_bytes(length)
        self.block_len = 0
        return 0

    cdef inline int take_subject(self, const char *subject, Py_ssize_t length) except -1:
        """Use the object of the last message again: to make and to hash another costs more than to compare."""
        if (self.subject is None or PyBytes_GET_SIZE(self.subject) != length
                or memcmp(PyBytes_AS_STRING(self.subject), subject, length) != 0):
            self.subject = subject[:length]
        return 0

    # Messages

    cdef const char *read_block(self, const char *position, const char *end, listener, received) except NULL:
        """Take bytes of the message that is coming; returns what comes behind them."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(self.block)
        cdef Py_ssize_t here
        if self.block_len < length:
            here = min(end - position, length - self.block_len)
            memcpy(PyBytes_AS_STRING(self.block) + self.block_len, position, here)
            self.block_len += here
            position += here
        while position < end and self.block_len < length + 2:
            if position[0] != (c'\r' if self.block_len == length else c'\n'):
                raise NatsProtocolError("a payload is longer than announced")
            self.block_len += 1
            position += 1
        if self.block_len == length + 2:
            self.end_message(listener, received)
        return position

    cdef int end_message(self, listener, received) except -1:
        cdef bytes block = self.block
        self.block = None
        if self.headers_len:
            return nats_tell_with_headers(self.subject, block, self.headers_len, listener, received)
        received(self.subject, block)
        return 0

    # Public API

    def feed(self, bytes data not None, listener):
        cdef const char *position = PyBytes_AS_STRING(data)
        cdef const char *end = position + PyBytes_GET_SIZE(data)
        received = listener.received
        while position < end:
            if self.block is None:
                position = self.read_line(position, end, listener)
            else:
                position = self.read_block(position, end, listener, received)


cdef int nats_split(const char *position, const char *end, const char **words, Py_ssize_t *lengths) except -1:
    """Find the words of a line, none of which is empty; returns how many there are."""
    cdef const char *space
    cdef int count = 0
    while position < end:
        space = <const char *>memchr(position, c' ', end - position)
        if space is NULL:
            space = end
        if space > position:
            if count == NATS_WORDS:
                raise NatsProtocolError("a message has too many arguments")
            words[count] = position
            lengths[count] = space - position
            count += 1
        position = space + 1
    return count


cdef int nats_tell(const char *line, Py_ssize_t length, listener) except -1:
    if length == 4 and nats_begins(line, length, b"PING", 4):
        listener.on_ping()
    elif length == 4 and nats_begins(line, length, b"PONG", 4):
        listener.on_pong()
    elif nats_begins(line, length, b"INFO ", 5):
        listener.on_info(line[5:length])
    elif nats_begins(line, length, b"-ERR", 4):
        listener.on_error(line[4:length])
    elif not nats_begins(line, length, b"+OK", 3):
        raise NatsProtocolError("a line is of no operation that there is")
    return 0


cdef int nats_tell_with_headers(bytes subject, bytes block, Py_ssize_t length, listener, received) except -1:
    """Deliver without its headers what is a message; a status beside them is the server's own word."""
    cdef bytes headers = block[:length]
    if not (headers.startswith(b"NATS/1.0") and headers.endswith(b"\r\n\r\n")):
        raise NatsProtocolError("headers are malformed")
    status = headers[8:headers.index(b"\r\n")].strip()
    if status:
        listener.on_status(subject, status)
    else:
        received(subject, block[length:])
    return 0


# What is said, to a server of NATS or, in resp.pxi, of Redis

ctypedef struct said_t:
    char *buffer
    Py_ssize_t capacity
    Py_ssize_t size


cdef inline char *put_bytes(char *position, const char *data, Py_ssize_t length) noexcept nogil:
    memcpy(position, data, length)
    return position + length


cdef inline char *put_number(char *position, Py_ssize_t number) noexcept nogil:
    """Write the digits of a number; returns the end of them."""
    cdef char digits[24]
    cdef int place = 24
    while True:
        place -= 1
        digits[place] = c'0' + <char>(number % 10)
        number //= 10
        if number == 0:
            return put_bytes(position, &digits[place], 24 - place)


cdef char *said_reserve(said_t *said, Py_ssize_t length) except NULL:
    """Return where to write so many bytes more."""
    cdef Py_ssize_t capacity = max(said.capacity, <Py_ssize_t>SAID_BUFFER_LEN)
    cdef char *buffer
    while capacity < said.size + length:
        capacity *= 2
    if capacity > said.capacity:
        buffer = <char *>realloc(said.buffer, capacity)
        if buffer is NULL:
            raise MemoryError
        said.buffer = buffer
        said.capacity = capacity
    return said.buffer + said.size


cdef inline void said_until(said_t *said, const char *end) noexcept:
    """Count what was written at the place that was reserved."""
    said.size = end - said.buffer


cdef void said_clear(said_t *said) noexcept:
    said.size = 0
    if said.capacity > SAID_KEPT_LEN:
        free(said.buffer)
        said.buffer = NULL
        said.capacity = 0


cdef bytes said_take(said_t *said):
    cdef bytes taken = said.buffer[:said.size] if said.size else b""
    said_clear(said)
    return taken


cdef int nats_check_subject(bytes subject) except -1:
    """A blank would end it, and an end of line would begin another operation."""
    cdef const char *position = PyBytes_AS_STRING(subject)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(subject)
    cdef Py_ssize_t place
    if not 0 < length <= NATS_SUBJECT_LEN:
        raise ValueError(f"a subject has 1 to {NATS_SUBJECT_LEN} bytes, not {length}")
    for place in range(length):
        if <uint8_t>position[place] <= 32:
            raise ValueError("a subject has no blank and no control character")
    return 0


@cython.final
cdef class NatsWriter:
    cdef said_t said
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t max_payload

    def __dealloc__(self):
        free(self.said.buffer)

    # Public API

    @property
    def size(self):
        return self.said.size

    def publish(self, bytes subject not None, bytes payload not None):
        cdef Py_ssize_t length = PyBytes_GET_SIZE(payload)
        cdef Py_ssize_t most = PyBytes_GET_SIZE(subject) + length + NATS_PUBLISH_LEN
        cdef char *position
        nats_check_subject(subject)
        if length > self.max_payload or most > self.limit - self.said.size:
            return False
        position = said_reserve(&self.said, most)
        position = put_bytes(position, b"PUB ", 4)
        position = put_bytes(position, PyBytes_AS_STRING(subject), PyBytes_GET_SIZE(subject))
        position = put_bytes(position, b" ", 1)
        position = put_number(position, length)
        position = put_bytes(position, b"\r\n", 2)
        position = put_bytes(position, PyBytes_AS_STRING(payload), length)
        position = put_bytes(position, b"\r\n", 2)
        said_until(&self.said, position)
        return True

    def subscribe(self, bytes subject not None):
        cdef Py_ssize_t length = PyBytes_GET_SIZE(subject)
        cdef char *position
        nats_check_subject(subject)
        position = put_bytes(said_reserve(&self.said, 2 * length + NATS_PUBLISH_LEN), b"SUB ", 4)
        position = put_bytes(position, PyBytes_AS_STRING(subject), length)
        position = put_bytes(position, b" ", 1)
        position = put_bytes(position, PyBytes_AS_STRING(subject), length)
        said_until(&self.said, put_bytes(position, b"\r\n", 2))

    def unsubscribe(self, bytes subject not None):
        cdef Py_ssize_t length = PyBytes_GET_SIZE(subject)
        cdef char *position
        nats_check_subject(subject)
        position = put_bytes(said_reserve(&self.said, length + NATS_PUBLISH_LEN), b"UNSUB ", 6)
        position = put_bytes(position, PyBytes_AS_STRING(subject), length)
        said_until(&self.said, put_bytes(position, b"\r\n", 2))

    def take(self):
        return said_take(&self.said)

    def clear(self):
        said_clear(&self.said)
