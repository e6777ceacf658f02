# Texts, bytes and keys that a push is given, as something that nobody can change or answer for.

ctypedef struct payload_t:
    uint8_t kind               # of the frame: its opcode, and RSV1 where the data is compressed
    const uint8_t *data
    size_t length
    PyObject *owner            # borrowed: what keeps the data alive; NULL where that may end with the call


cdef inline void payload_of_bytes(uint8_t kind, bytes data, payload_t *payload) noexcept:
    payload.kind = kind
    payload.data = <const uint8_t *>PyBytes_AS_STRING(data)
    payload.length = PyBytes_GET_SIZE(data)
    payload.owner = <PyObject *>data


cdef inline object text_payload(str text, payload_t *payload):
    """A text as UTF-8; returns what keeps the data alive."""
    cdef bytes encoded
    if not PyUnicode_IS_COMPACT_ASCII(text):
        encoded = text.encode()
        payload_of_bytes(OP_TEXT, encoded, payload)
        return encoded
    payload.kind = OP_TEXT
    payload.data = <const uint8_t *>PyUnicode_DATA(<PyObject *>text)
    payload.length = PyUnicode_GET_LENGTH(text)
    payload.owner = <PyObject *>text
    return text


cdef inline object message_payload(uint8_t opcode, object message, payload_t *payload):
    """A text or binary message as the service API is given it; returns what keeps the data alive."""
    cdef bytes data
    if opcode == OP_TEXT:
        return text_payload(own_text(message), payload)
    data = own_bytes(message)
    payload_of_bytes(opcode, data, payload)
    return data


cdef inline str own_text(object text):
    """The text itself, or that of a subclass, whose methods may say anything: an enumeration's str() is no text of it."""
    if type(text) is str:
        return <str>text
    if isinstance(text, str):
        return <str>PyUnicode_FromObject(text)
    raise TypeError(f"expected str, not {type(text).__name__}")


cdef inline bytes own_bytes(object data):
    """Bytes that cannot change any more: the object itself, or a copy of another buffer."""
    if type(data) is bytes:
        return <bytes>data
    if isinstance(data, (bytes, bytearray, memoryview)):
        return <bytes>PyBytes_FromObject(data)
    raise TypeError(f"expected bytes, not {type(data).__name__}")


cdef inline object own_key(object key):
    """The key itself, or the value of a subclass: nothing whose comparison could call back."""
    if key is None or type(key) is str or type(key) is int or type(key) is bytes:
        return key
    if isinstance(key, str):
        return own_text(key)
    if isinstance(key, bytes):
        return own_bytes(key)
    if isinstance(key, int):
        return int.__add__(key, 0)
    raise TypeError(f"a key is a str, an int or bytes, not {type(key).__name__}")
