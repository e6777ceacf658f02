# What the workers of a machine say to each other over the socket between two of them: frames of a length, a kind and data.

cdef enum:
    LINK_HEAD_LEN = 5          # bytes: 4 of the length of what follows, 1 of the kind
    LINK_MESSAGE = 1           # 2 bytes of the length of the subject, the subject, the payload
    MAX_LINK_FRAME = 67108864  # bytes


def link_frame(int kind, bytes data not None):
    """One frame of any kind."""
    cdef uint8_t head[LINK_HEAD_LEN]
    put_le(head, PyBytes_GET_SIZE(data) + 1, 4)
    head[4] = <uint8_t>kind
    return head[:LINK_HEAD_LEN] + data


def link_message(bytes subject not None, bytes payload not None):
    """A frame with a message."""
    cdef size_t subject_len = PyBytes_GET_SIZE(subject)
    cdef size_t length = LINK_HEAD_LEN + 2 + subject_len + PyBytes_GET_SIZE(payload)
    cdef PyObject *frame = PyBytes_FromStringAndSize(NULL, length)
    cdef uint8_t *place = <uint8_t *>PyBytes_DATA(frame)
    place = put_le(place, length - 4, 4)
    place[0] = LINK_MESSAGE
    place = put_le(place + 1, subject_len, 2)
    memcpy(place, PyBytes_AS_STRING(subject), subject_len)
    memcpy(place + subject_len, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
    message = <object>frame
    Py_DECREF(message)
    return message


@cython.final
cdef class LinkReader:
    # Frames out of pieces that are cut anywhere. Whom it tells may have more read meanwhile (Mesh.catch_up): that waits
    # until what came before is handled.
    cdef object on_message
    cdef object on_frame
    cdef bytearray rest        # of a frame that is not complete, or None
    cdef list waiting          # pieces
    cdef bint feeding
    cdef bint failed           # what came is no frame, so what comes behind it has no meaning

    def __cinit__(self, on_message, on_frame):
        self.on_message = on_message
        self.on_frame = on_frame
        self.waiting = []

    def feed(self, bytes data not None):
        """Take in what came; ValueError: this is no frame."""
        if self.failed:
            return
        self.waiting.append(data)
        if self.feeding:
            return
        self.feeding = True
        try:
            while self.waiting:
                self.take(self.waiting.pop(0))
        except BaseException:
            self.failed = True
            raise
        finally:
            self.feeding = False

    cdef int take(self, bytes data) except -1:
        cdef bytearray rest = self.rest
        cdef Py_ssize_t done
        if rest is None:
            done = self.frames(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if done < PyBytes_GET_SIZE(data):
                self.rest = bytearray(data[done:])
            return 0
        rest += data
        if not frame_is_whole(<const uint8_t *>PyByteArray_AS_STRING(rest), PyByteArray_GET_SIZE(rest)):
            return 0
        # Nobody may change it while frames of it are handled, and what they are is copied anyway
        self.rest = None
        return self.take(bytes(rest))

    cdef Py_ssize_t frames(self, const uint8_t *data, size_t length) except -1:
        """Pass on all that are whole; how many bytes they had."""
        cdef size_t done = 0
        cdef size_t frame_len
        while frame_is_whole(data + done, length - done):
            frame_len = 4 + <size_t>get_le(data + done, 4)
            self.frame(data + done + 4, frame_len - 4)
            done += frame_len
        return done

    cdef int frame(self, const uint8_t *data, size_t length) except -1:
        cdef size_t subject_len
        if data[0] != LINK_MESSAGE:
            self.on_frame(data[0], data[1:length])
            return 0
        subject_len = <size_t>get_le(data + 1, 2) if length >= 3 else length
        if 3 + subject_len > length:
            raise ValueError("a message without a subject")
        self.on_message(data[3:3 + subject_len], data[3 + subject_len:length])
        return 0


cdef bint frame_is_whole(const uint8_t *data, size_t length) except *:
    """Whether the next frame is all there."""
    cdef uint64_t needed
    if length < 4:
        return False
    needed = get_le(data, 4)
    if not 1 <= needed <= MAX_LINK_FRAME:
        raise ValueError(f"a frame of {needed} bytes")
    return length - 4 >= needed
