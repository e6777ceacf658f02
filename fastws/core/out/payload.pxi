# What a push is given: texts, bytes and keys, as something that nobody can change or answer for.

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
