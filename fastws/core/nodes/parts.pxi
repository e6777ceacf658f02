# What is larger than an engine's messages comes in parts: what has come so far, bounded for all nodes and subjects together.

cdef enum:
    MAX_SPLIT_LEN = 33554432   # bytes of what is published in parts
    MAX_PARTS_LEN = 67108864   # bytes of all that has come in part
    PARTIAL_LEN = 256          # of these, what is kept about each


@cython.final
cdef class Partial:
    # What has come of a record
    cdef uint8_t kind
    cdef uint8_t policy
    cdef uint8_t key_kind
    cdef bytes key
    cdef bytearray data


cdef Partial new_partial(const record_t *record):
    """A record of which nothing has come but what its first part says of it."""
    cdef Partial partial = Partial.__new__(Partial)
    partial.kind = record.kind
    partial.policy = record.policy
    partial.key_kind = record.key_kind
    partial.key = record.key[:record.key_len]
    partial.data = bytearray()
    return partial


cdef void whole_record(Partial partial, bytes data, record_t *record) noexcept:
    """The record itself, once all of its data is there."""
    record.kind = partial.kind
    record.policy = partial.policy
    record.key_kind = partial.key_kind
    record.part = 0
    record.key = <const uint8_t *>PyBytes_AS_STRING(partial.key)
    record.key_len = PyBytes_GET_SIZE(partial.key)
    record.data = <const uint8_t *>PyBytes_AS_STRING(data)
    record.length = PyBytes_GET_SIZE(data)


cdef inline size_t partial_len(Partial partial) noexcept:
    return PARTIAL_LEN + PyBytes_GET_SIZE(partial.key) + PyByteArray_GET_SIZE(partial.data)


@cython.final
cdef class Partials:
    cdef dict found            # (subject, place of the peer) -> Partial
    cdef size_t length         # bytes

    def __cinit__(self):
        self.found = {}

    cdef Partial pop(self, tuple place):
        cdef Partial partial = self.found.pop(place, None)
        if partial is not None:
            self.length -= partial_len(partial)
        return partial

    cdef bint keep(self, tuple place, Partial partial) except *:
        """Keep one where there is none; False: that is too much."""
        if self.length + partial_len(partial) > MAX_PARTS_LEN:
            return False
        self.found[place] = partial
        self.length += partial_len(partial)
        return True

    cdef int drop_subject(self, bytes subject) except -1:
        for place in list(self.found):
            if place[0] == subject:
                self.pop(place)
        return 0

    cdef int drop_peer(self, uint32_t peer) except -1:
        for place in list(self.found):
            if place[1] == peer:
                self.pop(place)
        return 0
