# The payload of a close frame: a code and a reason (RFC 6455 5.5.1, 7.4).

cdef inline bint is_close_code(int code) noexcept:
    """Whether a peer may send this code: those that mean "no code" or "no frame" are never on the wire (7.4.1)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef tuple parse_close(bytes payload):
    """(code, reason) of a close payload, 1005 without one; (minus the code to fail with, "") for a bad one."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(payload)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(payload)
    cdef int code
    if length == 0:
        return 1005, ""
    if length == 1:
        return -1002, ""
    code = data[0] << 8 | data[1]
    if not is_close_code(code):
        return -1002, ""
    try:
        return code, payload[2:].decode("utf-8")
    except UnicodeDecodeError:
        return -1007, ""


cdef bytes make_close(int code, str reason):
    """A close payload; a reason over 123 bytes is cut between two characters."""
    cdef bytes text = reason.encode("utf-8", "replace")
    if code == 1005:
        return b""
    if len(text) > MAX_CONTROL_LEN - 2:
        text = text[: MAX_CONTROL_LEN - 2].decode("utf-8", "ignore").encode("utf-8")
    return bytes((code >> 8, code & 0xFF)) + text


cpdef int check_close_code(int code) except -1:
    if not is_close_code(code):
        raise ValueError(f"close code {code} may not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
    return 0
