# The fate of a push.

@cython.final
@cython.freelist(8)
cdef class Delivery:
    cdef readonly Py_ssize_t matched
    cdef readonly Py_ssize_t queued
    cdef readonly Py_ssize_t dropped
    cdef readonly object published

    def __init__(self, Py_ssize_t matched=0, Py_ssize_t queued=0, Py_ssize_t dropped=0, published=None):
        self.matched = matched
        self.queued = queued
        self.dropped = dropped
        self.published = published

    def __bool__(self):
        return self.matched > 0

    def __eq__(self, other):
        if type(other) is not Delivery:
            return NotImplemented
        return fields_of(self) == fields_of(<Delivery>other)

    def __hash__(self):
        return hash(fields_of(self))

    def __repr__(self):
        published = "" if self.published is None else f", published={self.published}"
        return f"Delivery(matched={self.matched}, queued={self.queued}, dropped={self.dropped}{published})"


cdef inline tuple fields_of(Delivery delivery):
    return delivery.matched, delivery.queued, delivery.dropped, delivery.published


cdef Delivery DELIVERED = Delivery(1, 1, 0)
cdef Delivery DROPPED = Delivery(1, 0, 1)
cdef Delivery ABSENT = Delivery(0, 0, 0)
