# RESP, which Redis and Valkey speak: version 3, and version 2 where the server knows no newer one.
#
# A reader is fed whatever a read brought. It knows no socket and no loop: messages go to one function, all other values
# to another one, each as soon as its last byte is there.
#
# Theory of operation. Almost everything that comes is a message that lies complete in what was read, and is taken from
# there in one go. All else is read value by value: a line says what comes, a string follows its line, and what a
# container holds gathers in a list, one for each that is open:
#
#     between values --line cut--> spill --line complete--> [string --last byte-->] value --> the container that is open
#                                                                                         --> whoever wants it
#
# A server is believed nothing: how deep, how long and how many has a limit, and room is made for what is there and not
# for what is announced. A string that is too long for a message is passed over, since any client may publish one.

cdef enum:
    RESP_DEPTH = 8             # containers in one another
    RESP_LINE_LEN = 1024       # bytes of a line
    RESP_REPLY_LEN = 33554432  # bytes of a value with all that is in it
    RESP_VALUE_LEN = 64        # bytes that each part of it counts besides its own
    RESP_STRING_LEN = 1 << 30  # bytes of a string that is passed over
    RESP_DIGITS = 19           # of a number

    RESP_ARGUMENT_LEN = 24     # bytes besides an argument's own: '$', its length, and two ends of lines


cdef inline const uint8_t *resp_length(const uint8_t *at, const uint8_t *end, Py_ssize_t *length) noexcept nogil:
    """Read a plain length and the end of its line; returns what follows, or NULL where it is anything else."""
    cdef const uint8_t *start = at
    length[0] = 0
    while at < end and c'0' <= at[0] <= c'9' and at - start < 9:
        length[0] = length[0] * 10 + (at[0] - c'0')
        at += 1
    if at is start or end - at < 2 or at[0] != c'\r' or at[1] != c'\n':
        return NULL
    return at + 2


cdef inline const uint8_t *resp_string(const uint8_t **position, const uint8_t *end, Py_ssize_t *length) noexcept nogil:
    """Find a string that lies complete and move past it; else both it and the position are NULL."""
    cdef const uint8_t *start = position[0]
    position[0] = NULL
    if start is NULL or start is end or start[0] != c'$':
        return NULL
    start = resp_length(start + 1, end, length)
    if start is NULL or end - start < length[0] + 2 or start[length[0]] != c'\r' or start[length[0] + 1] != c'\n':
        return NULL
    position[0] = start + length[0] + 2
    return start


cdef inline const uint8_t *resp_message_head(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Return what follows the name of a message, or NULL where this is none; RESP2 has an array for it."""
    if end - at < 18 or (at[0] != c'>' and at[0] != c'*'):
        return NULL
    if memcmp(at + 1, b"3\r\n$7\r\nmessage\r\n", 16) == 0:
        return at + 17
    return at + 18 if memcmp(at + 1, b"3\r\n$8\r\nsmessage\r\n", 17) == 0 else NULL


cdef bint resp_number(const uint8_t *text, Py_ssize_t length, int64_t *number) noexcept nogil:
    """Read a signed number of 64 bits; whether it is one."""
    cdef bint negative = length > 0 and text[0] == c'-'
    cdef uint64_t value = 0
    cdef Py_ssize_t i = 1 if length > 0 and (text[0] == c'-' or text[0] == c'+') else 0
    if not 0 < length - i <= RESP_DIGITS:
        return False
    while i < length:
        if not c'0' <= text[i] <= c'9':
            return False
        value = value * 10 + (text[i] - c'0')
        i += 1
    number[0] = <int64_t>(0 - value if negative else value)
    return value <= (<uint64_t>1 << 63) - (0 if negative else 1)


@cython.final
cdef class RespProtocolError(Exception):
    pass


@cython.final
cdef class RespError:
    cdef readonly bytes message

    def __cinit__(self, bytes message not None):
        self.message = message

    def __repr__(self):
        return f"RespError({self.message!r})"

    @property
    def code(self):
        return self.message.partition(b" ")[0]


@cython.final
cdef class RespReader:
    cdef object received
    cdef object replied
    cdef Py_ssize_t max_length
    cdef Py_ssize_t budget         # bytes that the value that is coming may have still
    cdef bint failed
    # A line that is cut
    cdef uint8_t line[RESP_LINE_LEN]
    cdef Py_ssize_t line_len
    # A string that is coming
    cdef uint8_t string_kind
    cdef bytes string              # None where it is passed over
    cdef Py_ssize_t string_len
    cdef Py_ssize_t string_left    # bytes to come, with the end of its line; 0 while none comes
    # The containers that are open
    cdef int depth
    cdef list contents
    cdef uint8_t kinds[RESP_DEPTH]
    cdef int64_t remaining[RESP_DEPTH]
    cdef readonly Py_ssize_t skipped

    def __cinit__(self, received, replied, *, Py_ssize_t max_length=1048576):
        self.received = received
        self.replied = replied
        self.max_length = max_length
        self.budget = RESP_REPLY_LEN
        self.contents = []

    cdef int fail(self, str what) except -1:
        raise RespProtocolError(what)

    cdef int spend(self, Py_ssize_t length) except -1:
        """Account for a part of the value that is coming."""
        self.budget -= RESP_VALUE_LEN + length
        return self.fail("a value is too large") if self.budget < 0 else 0

    cdef int read(self, const uint8_t *position, const uint8_t *end) except -1:
        while position < end:
            if self.string_left:
                self.take_string(&position, end)
            elif self.depth or self.line_len or not self.take_message(&position, end):
                self.take_line(&position, end)
        return 0

    cdef int take_message(self, const uint8_t **position, const uint8_t *end) except -1:
        """Hand over a message that lies complete; whether there was one."""
        cdef const uint8_t *at = resp_message_head(position[0], end)
        cdef const uint8_t *channel
        cdef const uint8_t *payload
        cdef Py_ssize_t channel_len, payload_len
        channel = resp_string(&at, end, &channel_len)
        payload = resp_string(&at, end, &payload_len)
        if payload is NULL:
            return False
        position[0] = at
        if channel_len > self.max_length or payload_len > self.max_length:
            self.skipped += 1
        else:
            self.received((<const char *>channel)[:channel_len], (<const char *>payload)[:payload_len])
        return True

    cdef int take_line(self, const uint8_t **position, const uint8_t *end) except -1:
        """Take a line, or what is there of it."""
        cdef const uint8_t *start = position[0]
        cdef const uint8_t *stop = <const uint8_t *>memchr(start, c'\n', end - start)
        cdef Py_ssize_t length = (end if stop is NULL else stop + 1) - start
        if length > RESP_LINE_LEN - self.line_len:
            return self.fail("a line is too long")
        position[0] += length
        if stop is not NULL and self.line_len == 0:
            return self.read_line(start, length)
        memcpy(self.line + self.line_len, start, length)
        self.line_len += length
        return 0 if stop is NULL else self.read_line(self.line, self.line_len)

    cdef int read_line(self, const uint8_t *line, Py_ssize_t length) except -1:
        """Read a line with its end."""
        self.line_len = 0
        if length < 3 or line[length - 2] != c'\r':
            return self.fail("a line without its type or end")
        self.spend(length)
        return self.read_value(line[0], line + 1, length - 3)

    cdef int read_value(self, uint8_t kind, const uint8_t *text, Py_ssize_t length) except -1:
        """Read a value that is a line, or the line of one that follows."""
        cdef int64_t number = 0
        if kind == c'+' or kind == c'(':
            return self.add(<bytes>(<const char *>text)[:length])
        if kind == c'-':
            return self.add(RespError(<bytes>(<const char *>text)[:length]))
        if kind == c'_' and length == 0:
            return self.add(None)
        if kind == c'#' and length == 1 and (text[0] == c't' or text[0] == c'f'):
            return self.add(text[0] == c't')
        if kind == c',':
            return self.add(self.read_double((<const char *>text)[:length]))
        if not resp_number(text, length, &number):
            return self.fail("a line that is none of RESP")
        if kind != c':':
            return self.begin(kind, number)
        if self.depth:
            return self.add(number)
        self.budget = RESP_REPLY_LEN  # how many a publish has reached: nobody asks, and there are as many as of those
        return 0

    cdef object read_double(self, bytes text):
        try:
            return float(text)
        except ValueError:
            self.fail("a double that is none")

    cdef int begin(self, uint8_t kind, int64_t length) except -1:
        """Begin a string or a container of this length; RESP2 has no other way to say that there is none."""
        if length == -1 and (kind == c'$' or kind == c'*'):
            return self.add(None)
        if kind == c'$' or kind == c'!' or kind == c'=':
            return self.begin_string(kind, length)
        if kind == c'*' or kind == c'~' or kind == c'%' or kind == c'|' or (kind == c'>' and self.depth == 0):
            return self.begin_container(kind, length)
        return self.fail("a type that is none of RESP")

    cdef int begin_string(self, uint8_t kind, int64_t length) except -1:
        if not 0 <= length <= RESP_STRING_LEN:
            return self.fail("a string is too long")
        self.string = None
        if length <= self.max_length:
            self.spend(length)
            self.string = new_bytes(length)
        self.string_kind = kind
        self.string_len = length
        self.string_left = length + 2
        return 0

    cdef int begin_container(self, uint8_t kind, int64_t count) except -1:
        if not 0 <= count <= RESP_REPLY_LEN:
            return self.fail("a container has too many parts")
        if count == 0:
            return 0 if kind == c'|' else self.add(() if kind == c'>' else [])
        if self.depth == RESP_DEPTH:
            return self.fail("too many containers in one another")
        self.kinds[self.depth] = kind
        self.remaining[self.depth] = count * 2 if kind == c'%' or kind == c'|' else count
        self.contents.append([])
        self.depth += 1
        return 0

    cdef int take_string(self, const uint8_t **position, const uint8_t *end) except -1:
        """Take what is there of a string and of the end of its line."""
        cdef Py_ssize_t length = min(self.string_left - 2, end - position[0])
        if length > 0:
            if self.string is not None:
                memcpy(PyBytes_AS_STRING(self.string) + self.string_len + 2 - self.string_left, position[0], length)
            position[0] += length
            self.string_left -= length
        while 0 < self.string_left <= 2 and position[0] < end:
            if position[0][0] != (c'\r' if self.string_left == 2 else c'\n'):
                return self.fail("a string without its end")
            position[0] += 1
            self.string_left -= 1
        return 0 if self.string_left else self.end_string()

    cdef int end_string(self) except -1:
        string, self.string = self.string, None
        if string is not None and self.string_kind == c'!':
            return self.add(RespError(string))
        if string is not None and self.string_kind == c'=':
            return self.add(string[4:])  # after its format, such as "txt:"
        return self.add(string)

    cdef int add(self, value) except -1:
        """Put a value where it belongs; it may be the last one of the containers that are open."""
        cdef uint8_t kind = 0
        while self.depth:
            (<list>self.contents[self.depth - 1]).append(value)
            self.remaining[self.depth - 1] -= 1
            if self.remaining[self.depth - 1]:
                return 0
            self.depth -= 1
            value = self.contents.pop()
            kind = self.kinds[self.depth]
            if kind == c'|':
                return 0  # nothing that was asked for
        self.budget = RESP_REPLY_LEN
        self.hand_over(tuple(value) if kind == c'>' else value)
        return 0

    cdef object hand_over(self, value):
        """Give a value to whoever wants it; a message was cut, or is too long."""
        if isinstance(value, (tuple, list)) and len(value) == 3 and value[0] in (b"message", b"smessage"):
            if isinstance(value[1], bytes) and isinstance(value[2], bytes):
                return self.received(value[1], value[2])
            self.skipped += 1
            return None
        return self.replied(value)

    # Public API

    def feed(self, data):
        cdef Py_buffer buffer
        if self.failed:
            self.fail("there is nothing to read after that")
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            self.read(<const uint8_t *>buffer.buf, <const uint8_t *>buffer.buf + buffer.len)
        except BaseException:
            self.failed = True
            raise
        finally:
            PyBuffer_Release(&buffer)


# Commands, with the pieces that nats.pxi has for what is said

cdef inline char *put_head(char *out, char kind, Py_ssize_t number) noexcept nogil:
    """Write a line of a type and a number; returns the end of it."""
    out[0] = kind
    return put_bytes(put_number(out + 1, number), b"\r\n", 2)


cdef inline char *put_argument(char *out, bytes argument) noexcept:
    """Write an argument of a command; returns the end of it."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(argument)
    out = put_bytes(put_head(out, c'$', length), PyBytes_AS_STRING(argument), length)
    return put_bytes(out, b"\r\n", 2)


@cython.final
cdef class RespWriter:
    cdef said_t said
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t max_payload

    def __dealloc__(self):
        free(self.said.buffer)

    # Public API

    @property
    def size(self):
        return self.said.size

    def publish(self, bytes command not None, bytes channel not None, bytes payload not None):
        cdef Py_ssize_t most = PyBytes_GET_SIZE(command) + PyBytes_GET_SIZE(channel) + PyBytes_GET_SIZE(payload)
        cdef char *out
        most += 4 * RESP_ARGUMENT_LEN
        if PyBytes_GET_SIZE(payload) > self.max_payload or most > self.limit - self.said.size:
            return False
        out = put_head(said_reserve(&self.said, most), c'*', 3)
        out = put_argument(out, command)
        out = put_argument(out, channel)
        said_until(&self.said, put_argument(out, payload))
        return True

    def command(self, *arguments):
        cdef Py_ssize_t length = RESP_ARGUMENT_LEN
        cdef char *out
        for argument in arguments:
            length += RESP_ARGUMENT_LEN + PyBytes_GET_SIZE(<bytes?>argument)
        out = put_head(said_reserve(&self.said, length), c'*', len(arguments))
        for argument in arguments:
            out = put_argument(out, <bytes>argument)
        said_until(&self.said, out)

    def take(self):
        return said_take(&self.said)
