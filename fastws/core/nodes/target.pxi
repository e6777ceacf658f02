# A target is what other nodes are told of under one subject: a group, a connection's name, a service, all nodes or one.
#
# It exists while somebody is meant by it here, and a little longer, and from when on this node publishes to it. Numbers
# count what this node said on the subject, and what it has heard there from each other node: what comes twice or late
# is dropped, and what is missing is noticed.

cdef enum target_kind:
    TARGET_GROUP
    TARGET_NAME
    TARGET_SERVICE
    TARGET_NODES               # all of them, or one

cdef tuple TARGET_WORDS = ("group", "connection", "service", "nodes")

ctypedef struct heard_t:
    uint32_t peer              # its place among the peers
    uint32_t epoch
    uint64_t sequence          # of the last record


@cython.final
@cython.no_gc  # a str and bytes: in no cycle, and there may be hundreds of thousands
cdef class Target:
    cdef readonly str name
    cdef readonly bytes subject
    cdef uint8_t kind
    cdef bint subscribed       # also while it lingers
    cdef bint lingers          # stands in the list of those that do
    cdef bint starts           # nothing was published since it exists
    cdef uint32_t wanted       # how many here are meant by it: one for all members of a group
    cdef uint32_t heard_count
    cdef uint32_t count        # of the records that collect
    cdef uint64_t sequence     # of the last record published
    cdef uint64_t stamp        # of a name that a connection here has: of its claim
    cdef uint8_t *pending      # an envelope whose records collect in this turn, or NULL
    cdef size_t length
    cdef size_t capacity
    cdef heard_t *heard

    def __dealloc__(self):
        free(self.pending)
        free(self.heard)

    cdef heard_t *find_heard(self, uint32_t peer) noexcept:
        cdef uint32_t i
        for i in range(self.heard_count):
            if self.heard[i].peer == peer:
                return &self.heard[i]
        return NULL

    cdef heard_t *add_heard(self, uint32_t peer) except NULL:
        cdef heard_t *heard = <heard_t *>realloc(self.heard, (self.heard_count + 1) * sizeof(heard_t))
        if heard is NULL:
            raise MemoryError
        self.heard = heard
        heard += self.heard_count
        heard.peer = peer
        self.heard_count += 1
        return heard

    cdef void forget_peer(self, uint32_t peer) noexcept:
        cdef heard_t *heard = self.find_heard(peer)
        if heard is not NULL:
            self.heard_count -= 1
            heard[0] = self.heard[self.heard_count]

    cdef void forget_all(self) noexcept:
        free(self.heard)
        self.heard = NULL
        self.heard_count = 0

    cdef int reserve(self, size_t length) except -1:
        """Make room for an envelope of so many bytes."""
        cdef size_t capacity = length if self.capacity == 0 else max(2 * self.capacity, length)
        cdef uint8_t *pending
        if length <= self.capacity:
            return 0
        pending = <uint8_t *>realloc(self.pending, capacity)
        if pending is NULL:
            raise MemoryError
        self.pending = pending
        self.capacity = capacity
        return 0

    cdef int put(self, const record_t *record) except -1:
        """Let a record collect."""
        cdef size_t place = max(self.length, <size_t>ENVELOPE_LEN)
        self.reserve(place + record_len(record))
        put_record(self.pending + place, record)
        self.length = place + record_len(record)
        self.count += 1
        return 0

    cdef bytes take(self, uint64_t node, uint32_t epoch):
        """The envelope that collected, and none from here on."""
        cdef envelope_t envelope
        envelope.flags = ENVELOPE_STARTS if self.starts else 0
        envelope.node = node
        envelope.epoch = epoch
        envelope.count = self.count
        envelope.sequence = self.sequence + 1
        put_envelope(self.pending, &envelope)
        cdef bytes message = self.pending[:self.length]
        self.sequence += self.count
        self.starts = False
        self.drop()
        return message

    cdef void drop(self) noexcept:
        free(self.pending)
        self.pending = NULL
        self.length = self.capacity = self.count = 0

    def __repr__(self):
        return f"<{TARGET_WORDS[self.kind]} {self.name!r}>"
