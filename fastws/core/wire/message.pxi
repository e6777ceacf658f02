# A message in the making: what came of it so far, in the object that its handler will get.
#
# Bytes are unmasked out of the receive buffer straight to where they stay: those of a binary message in a bytes object,
# those of a text in a str as long as all of it is ASCII. With the first byte that is not a text moves to a bytes object;
# from then on it is validated as it comes, so that it fails at its first wrong byte, and decoded once it is complete.
#
# The object is as large as the message is announced to be, but never more than GROWTH times what is here: a peer cannot
# have memory for a promise.

cdef enum:
    FIRST_MESSAGE_LEN = 4096   # bytes; what an incomplete message may be given at first
    GROWTH = 4


ctypedef struct message_t:
    uint8_t opcode             # OP_TEXT, OP_BINARY, or 0 outside of a message
    bint ascii                 # a text that is ASCII so far
    PyObject *object           # owned: a str of ASCII or bytes, of `capacity`; NULL while there is none
    size_t length
    size_t capacity
    fastws_utf8_t utf8         # of a text that is not ASCII


cdef inline void message_begin(message_t *message, uint8_t opcode) noexcept:
    memset(message, 0, sizeof(message_t))
    message.opcode = opcode
    message.ascii = opcode == OP_TEXT


cdef inline uint8_t *message_data(const message_t *message) noexcept nogil:
    return <uint8_t *>(PyUnicode_DATA(message.object) if message.ascii else PyBytes_DATA(message.object))


cdef bint message_append(message_t *message, const uint8_t *source, size_t length, uint32_t key, size_t most) except -1:
    """Unmask bytes to the end of a message that can have `most` of them; False when it can no longer be UTF-8.

    They may lie there already (reader_place).
    """
    cdef size_t needed = message.length + length
    cdef uint64_t seen
    if length == 0:
        return True
    if needed > message.capacity:
        message_resize(message, max(needed, min(max(GROWTH * needed, <size_t>FIRST_MESSAGE_LEN), most)))
    seen = fastws_mask(message_data(message) + message.length, source, length, key)
    message.length = needed
    if message.opcode != OP_TEXT or (message.ascii and fastws_is_ascii(seen)):
        return True
    if message.ascii:
        message_leave_ascii(message)
    return fastws_utf8_feed(&message.utf8, message_data(message) + needed - length, length)


cdef int message_resize(message_t *message, size_t capacity) except -1:
    message.capacity = 0       # until it is there: bytes that cannot grow are gone
    if message.object is NULL:
        message.object = new_object(message.ascii, capacity)
    elif message.ascii:
        PyUnicode_Resize(&message.object, capacity)
    else:
        _PyBytes_Resize(&message.object, capacity)
    message.capacity = capacity
    return 0


cdef inline PyObject *new_object(bint ascii, size_t length) except NULL:
    return PyUnicode_New(length, 127) if ascii else PyBytes_FromStringAndSize(NULL, length)


cdef int message_leave_ascii(message_t *message) except -1:
    """Go on with what came so far as bytes."""
    cdef PyObject *text = message.object
    cdef PyObject *data = new_object(False, message.capacity)
    memcpy(PyBytes_DATA(data), PyUnicode_DATA(text), message.length)
    message.object = data
    message.ascii = False
    Py_DECREF(<object>text)
    return 0


cdef int message_finish(message_t *message, PyObject **result) except? -1:
    """Make the object of a message that is complete; its opcode, or minus the close code."""
    if message.opcode == OP_TEXT and not message.ascii:
        if not fastws_utf8_complete(&message.utf8):
            return -1007
        return decode_text(message_data(message), message.length, result)
    if message.object is NULL or message.length < message.capacity:
        message_resize(message, message.length)
    result[0] = message.object
    message.object = NULL
    return message.opcode


cdef inline int decode_masked(const uint8_t *payload, Py_ssize_t length, uint32_t key, PyObject **result) except? -1:
    """Unmask a whole text into its str, in one pass if it is ASCII; if not, that str is what it is decoded from."""
    cdef PyObject *text = PyUnicode_New(length, 127)
    if fastws_is_ascii(fastws_mask(<uint8_t *>PyUnicode_DATA(text), payload, length, key)):
        result[0] = text
        return OP_TEXT
    try:
        return decode_text(<const uint8_t *>PyUnicode_DATA(text), length, result)
    finally:
        Py_DECREF(<object>text)


cdef int decode_text(const uint8_t *data, Py_ssize_t length, PyObject **result) except? -1:
    """OP_TEXT with the str, or -1007 for what is not UTF-8 (8.1)."""
    try:
        result[0] = PyUnicode_DecodeUTF8(<const char *>data, length, NULL)
    except UnicodeDecodeError:
        return -1007
    return OP_TEXT
