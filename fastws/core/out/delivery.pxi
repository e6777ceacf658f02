# The fate of a push.

@cython.final
@cython.freelist(8)
cdef class Delivery:
    cdef readonly Py_ssize_t matched
    cdef readonly Py_ssize_t queued
    cdef readonly Py_ssize_t dropped

    def __init__(self, Py_ssize_t matched=0, Py_ssize_t queued=0, Py_ssize_t dropped=0):
        self.matched = matched
        self.queued = queued
        self.dropped = dropped

    def __bool__(self):
        return self.matched > 0

    def __eq__(self, other):
        if type(other) is not Delivery:
            return NotImplemented
        return (self.matched, self.queued, self.dropped) == (other.matched, other.queued, other.dropped)

    def __hash__(self):
        return hash((self.matched, self.queued, self.dropped))

    def __repr__(self):
        return f"Delivery(matched={self.matched}, queued={self.queued}, dropped={self.dropped})"


cdef Delivery DELIVERED = Delivery(1, 1, 0)
cdef Delivery DROPPED = Delivery(1, 0, 1)
cdef Delivery ABSENT = Delivery(0, 0, 0)
