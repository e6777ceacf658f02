# The parts of the core alone, for tests, fuzzing and measuring: nothing else calls this.

@cython.final
cdef class FrameReader:
    cdef reader_t reader
    cdef Inflater history

    def __cinit__(self, *, uint64_t max_message_size=1048576, uint32_t max_fragments=16384, bint client=False,
                  int window_bits=0, bint takeover=False):
        reader_init(&self.reader, max_message_size, max_fragments, not client)
        if window_bits:
            if takeover:
                self.history = Inflater.__new__(Inflater, window_bits)
            reader_inflates(&self.reader, <uint8_t>window_bits, self.history)

    def __dealloc__(self):
        reader_reset(&self.reader)

    # Public API

    def feed(self, data):
        cdef bytearray buffer = bytearray(data)
        cdef uint8_t *position = <uint8_t *>PyByteArray_AS_STRING(buffer)
        cdef uint8_t *end = position + len(buffer)
        cdef PyObject *result
        cdef int kind
        cdef list events = []
        while position < end:
            result = NULL
            kind = reader_next(&self.reader, &position, end, &result)
            if CHECKS and kind >= 0:
                check_reader(&self.reader)
            if kind == EVENT_NONE:
                continue
            if kind < 0:
                events.append((-kind, None))
                return events
            events.append((kind, <object>result))
            Py_DECREF(<object>result)
        return events


def use_vectors(bint wanted):
    """Use vectors where this machine has them, or plain loops; returns whether vectors were used until now."""
    return fastws_use_vectors(wanted)


def mask(data, key, Py_ssize_t done=0):
    """Apply the masking key to data that follows `done` bytes of the same payload; it is read where it lies."""
    cdef Py_buffer source
    cdef bytes wire_key = bytes(key)
    cdef PyObject *target
    if len(wire_key) != 4:
        raise ValueError("a masking key has 4 bytes")
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        target = PyBytes_FromStringAndSize(NULL, source.len)
        result = <object>target
        Py_DECREF(result)
        fastws_mask(<uint8_t *>PyBytes_DATA(target), <const uint8_t *>source.buf, source.len,
                    fastws_mask_rotate(fastws_mask_load(<const uint8_t *>PyBytes_AS_STRING(wire_key)), done))
    finally:
        PyBuffer_Release(&source)
    return result


def is_utf8(*pieces):
    """Whether the pieces together are UTF-8; None while they are and the last character is not complete."""
    cdef fastws_utf8_t state
    cdef Py_buffer data
    cdef bint valid
    memset(&state, 0, sizeof(state))
    for piece in pieces:
        PyObject_GetBuffer(piece, &data, PyBUF_SIMPLE)
        valid = fastws_utf8_feed(&state, <const uint8_t *>data.buf, data.len)
        PyBuffer_Release(&data)
        if not valid:
            return False
    return True if fastws_utf8_complete(&state) else None


def build_frame(uint8_t opcode, data, key=None):
    """One unfragmented frame, masked if there is a key."""
    cdef bytes payload = bytes(data)
    cdef bytes wire_key = b"\0\0\0\0" if key is None else bytes(key)
    cdef Py_ssize_t length = len(payload)
    cdef bytearray frame = bytearray(length + MAX_HEADER_LEN)
    cdef uint8_t *start = <uint8_t *>PyByteArray_AS_STRING(frame)
    if len(wire_key) != 4:
        raise ValueError("a masking key has 4 bytes")
    cdef uint8_t *end = put_frame(start, opcode, <const uint8_t *>PyBytes_AS_STRING(payload), length, key is not None,
                                  fastws_mask_load(<const uint8_t *>PyBytes_AS_STRING(wire_key)))
    return bytes(frame[: end - start])


def read_close_payload(bytes payload not None):
    """The code and the reason of a close frame's payload, or minus the code to fail with and ""."""
    return parse_close(payload)


def build_close_payload(int code, str reason not None):
    """The payload of a close frame; a reason that is too long is cut."""
    return make_close(code, reason)


def fail_allocation(long count):
    """Have the allocation of ours that comes so many from now fail (0: none); only debug builds can.

    Returns how many were still to come until the one that was asked for last: 0 when it has failed. -1: none can.
    """
    return fastws_fail(count)


def live_objects():
    """How many of everything that is made per connection, frame or loop exist now, in all loops of the process."""
    return {"hubs": live_hubs, "connections": live_connections, "chunks": live_chunks, "backlogs": live_backlogs,
            "partials": live_partials, "transports": live_transports}
