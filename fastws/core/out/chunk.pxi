# The shared, counted block of bytes that carries frames on their way out.
#
# A chunk holds whole frames as they go on the wire. It is made once and may be pending at any number of connections:
# each holds a reference, nobody copies. While exactly one holder is left it may still grow in place. A chunk may end in
# a payload that it borrows from a Python object instead of copying it; such a chunk is sealed.
#
# Chunks are counted without atomics: they belong to one loop and are touched by its thread only, with or without the
# GIL. Only releasing a chunk that owns Python objects needs the GIL.

cdef enum:
    BORROW_LEN = 8192          # bytes; a longer payload of one connection is sent from where it lies, a shorter one copied
    BORROW_LEN_SHARED = 32768  # likewise where many are sent the same
    MAX_PARTS = 16             # borrowed payloads among the bytes of a chunk
    MAX_CHUNK_VECTORS = 33     # and what they make of it: all of them, and what lies before, between and behind
    JOIN_LEN = 262144          # bytes; frames of one turn for one connection are joined up to this
    BLOCK_LEN = 16             # bytes that the allocator needs for a block, about
    COLLECT_LEN = 16777216     # bytes; likewise for all connections, each shared chunk counted once


ctypedef struct part_t:
    size_t place               # in the chunk's own data: what lies before it goes first
    const uint8_t *data
    size_t length
    PyObject *owner            # what keeps the data alive; owned


cdef struct chunk_s:
    size_t refs
    uint64_t serial            # never used twice, so that a remembered chunk cannot be mistaken for its successor
    uint8_t *data              # length bytes of capacity; behind the struct or in a block of their own
    size_t length
    size_t capacity
    part_t *parts              # bytes that are borrowed, room for MAX_PARTS; or NULL
    size_t part_count
    size_t part_len            # bytes of all parts
    PyObject *key              # of the message, for those who conflate; owned
    chunk_s *joined            # during a fan-out: what this becomes with the new frame; see walk_lane()
    size_t waiting             # backlogs that it waits in
    uint8_t whole              # one message that no other refers to: it may be dropped
    uint8_t run                # several of them, short ones, that wait for one connection: each may be dropped

ctypedef chunk_s chunk_t


cdef uint64_t chunk_serial = 0
cdef Py_ssize_t live_chunks = 0


cdef inline size_t chunk_total(const chunk_t *chunk) noexcept nogil:
    return chunk.length + chunk.part_len


cdef inline size_t chunk_held(const chunk_t *chunk) noexcept nogil:
    """Bytes of memory that it takes, with what the allocator needs for each block."""
    cdef size_t held = sizeof(chunk_t) + chunk.capacity + chunk.part_len + BLOCK_LEN
    if chunk.parts is not NULL:
        held += MAX_PARTS * sizeof(part_t) + BLOCK_LEN
    return held


cdef inline uint8_t *chunk_inline(chunk_t *chunk) noexcept nogil:
    return <uint8_t *>(chunk + 1)


cdef chunk_t *chunk_new(size_t capacity) noexcept nogil:
    """A chunk with room for `capacity` bytes and one reference, or NULL."""
    global chunk_serial, live_chunks
    cdef chunk_t *chunk = <chunk_t *>malloc(sizeof(chunk_t) + capacity)
    if chunk is NULL:
        return NULL
    chunk_serial += 1
    live_chunks += 1
    chunk.refs = 1
    chunk.serial = chunk_serial
    chunk.data = chunk_inline(chunk)
    chunk.length = 0
    chunk.capacity = capacity
    chunk.parts = NULL
    chunk.part_count = 0
    chunk.part_len = 0
    chunk.key = NULL
    chunk.joined = NULL
    chunk.waiting = 0
    chunk.whole = chunk.run = False
    return chunk


cdef inline void chunk_free(chunk_t *chunk) noexcept nogil:
    global live_chunks
    live_chunks -= 1
    if chunk.data != chunk_inline(chunk):
        free(chunk.data)
    free(chunk.parts)
    free(chunk)


cdef inline bint chunk_owns_objects(const chunk_t *chunk) noexcept nogil:
    return chunk.part_count or chunk.key is not NULL


cdef inline void chunk_clear(chunk_t *chunk) noexcept:
    """Make room for something else."""
    cdef size_t i
    for i in range(chunk.part_count):
        Py_DECREF(<object>chunk.parts[i].owner)
    chunk.length = chunk.part_count = chunk.part_len = 0


cdef inline void chunk_release(chunk_t *chunk) noexcept:
    """Give up one reference."""
    chunk.refs -= 1
    if chunk.refs == 0:
        chunk_clear(chunk)
        Py_XDECREF(chunk.key)
        chunk_free(chunk)


cdef chunk_t *chunk_rest(chunk_t *chunk, size_t *offset) noexcept:
    """The rest behind *offset, to be kept: the chunk itself, or a copy where most of a sole holder's room is idle.

    The last byte that was sent is kept, too: an offset tells of what is half sent.
    """
    cdef chunk_t *rest
    cdef size_t first = 0 if chunk.part_count or not offset[0] else offset[0] - 1
    cdef size_t left = chunk.length - first
    if chunk.refs > 1 or chunk.capacity < 2 * left + 1024:
        return chunk
    rest = chunk_new(left)
    if rest is NULL:
        return chunk
    memcpy(rest.data, chunk.data + first, left)
    rest.length = left
    rest.parts, rest.part_count, rest.part_len = chunk.parts, chunk.part_count, chunk.part_len
    chunk.parts, chunk.part_count, chunk.part_len = NULL, 0, 0
    chunk_release(chunk)
    offset[0] -= first
    return rest


cdef bint chunk_reserve(chunk_t *chunk, size_t extra) noexcept nogil:
    """Make room for `extra` more bytes; only the sole holder, or one who speaks for all, may grow a chunk."""
    cdef size_t capacity = chunk.length + extra
    cdef uint8_t *data
    chunk.whole = False
    if capacity <= chunk.capacity:
        return True
    if capacity < 2 * chunk.capacity:
        capacity = 2 * chunk.capacity
    if chunk.data == chunk_inline(chunk):
        data = <uint8_t *>malloc(capacity)
        if data is not NULL:
            memcpy(data, chunk.data, chunk.length)
    else:
        data = <uint8_t *>realloc(chunk.data, capacity)
    if data is NULL:
        return False
    chunk.data = data
    chunk.capacity = capacity
    return True


cdef inline bint chunk_joins(const chunk_t *chunk, size_t extra, size_t parts) noexcept nogil:
    """Whether `extra` more bytes, of which so many parts are borrowed, may be joined to the chunk's."""
    return chunk_total(chunk) + extra <= JOIN_LEN and chunk.part_count + parts <= MAX_PARTS


cdef bint chunk_borrow(chunk_t *chunk, size_t place, const uint8_t *data, size_t length, object owner) noexcept:
    """Have borrowed bytes follow the first `place` of the chunk's own; False: no memory, or no room for one more."""
    cdef part_t *part
    if chunk.parts is NULL:
        chunk.parts = <part_t *>malloc(MAX_PARTS * sizeof(part_t))
    if chunk.parts is NULL or chunk.part_count == MAX_PARTS:
        return False
    part = &chunk.parts[chunk.part_count]
    part.place = place
    part.data = data
    part.length = length
    part.owner = <PyObject *>owner
    Py_INCREF(owner)
    chunk.part_count += 1
    chunk.part_len += length
    return True


cdef bint chunk_append(chunk_t *chunk, const chunk_t *other) noexcept:
    """Join the bytes of another chunk, for which there is room (chunk_joins); False: no memory."""
    cdef const part_t *part
    cdef size_t i
    if not chunk_reserve(chunk, other.length):
        return False
    for i in range(other.part_count):
        part = &other.parts[i]
        # If there is no memory then for the first
        if not chunk_borrow(chunk, chunk.length + part.place, part.data, part.length, <object>part.owner):
            return False
    memcpy(chunk.data + chunk.length, other.data, other.length)
    chunk.length += other.length
    return True


cdef chunk_t *chunk_concat(const chunk_t *first, const chunk_t *second) noexcept:
    """A new chunk with the bytes of two, or NULL."""
    cdef chunk_t *chunk = chunk_new(2 * (first.length + second.length))
    if chunk is NULL or (chunk_append(chunk, first) and chunk_append(chunk, second)):
        return chunk
    chunk_release(chunk)
    return NULL


cdef bint chunk_put_borrowed(chunk_t *chunk, const payload_t *payload) noexcept:
    """Write one unmasked frame whose payload stays with its owner; there is room for its header. False: no memory."""
    cdef size_t place = chunk.length + write_header(chunk.data + chunk.length, payload.kind, payload.length, 0)
    if not chunk_borrow(chunk, place, payload.data, payload.length, <object>payload.owner):
        return False
    chunk.length = place
    return True


cdef chunk_t *chunk_of_frame(const payload_t *payload) noexcept:
    """One unmasked frame as a chunk: a long payload is borrowed from its owner, a short one copied. NULL: no memory."""
    cdef bint borrow = payload.length > BORROW_LEN_SHARED
    cdef chunk_t *chunk = chunk_new(MAX_HEADER_LEN if borrow else MAX_HEADER_LEN + payload.length)
    if chunk is NULL:
        return NULL
    if borrow:
        if not chunk_put_borrowed(chunk, payload):
            chunk_free(chunk)
            return NULL
    else:
        chunk.length = put_frame(chunk.data, payload.kind, payload.data, payload.length, False, 0) - chunk.data
    return chunk


cdef inline int put_vector(iovec *out, const uint8_t *data, size_t length, size_t *offset) noexcept nogil:
    """Fill a vector with what lies behind `offset`, which is used up; returns 0 if that is nothing, else 1."""
    cdef size_t passed = min(offset[0], length)
    offset[0] -= passed
    out.iov_base = <void *>(data + passed)
    out.iov_len = length - passed
    return out.iov_len > 0


cdef int chunk_iov(const chunk_t *chunk, size_t offset, iovec *out) noexcept nogil:
    """Fill up to MAX_CHUNK_VECTORS with what lies behind `offset`; returns how many."""
    cdef int count = 0
    cdef size_t place = 0
    cdef size_t i
    cdef const part_t *part
    for i in range(chunk.part_count):
        part = &chunk.parts[i]
        count += put_vector(&out[count], chunk.data + place, part.place - place, &offset)
        count += put_vector(&out[count], part.data, part.length, &offset)
        place = part.place
    return count + put_vector(&out[count], chunk.data + place, chunk.length - place, &offset)


cdef ssize_t chunk_send(int fd, const chunk_t *chunk) noexcept nogil:
    """Send as much of the chunk as the kernel takes now; bytes sent, or minus errno."""
    cdef msghdr message
    cdef iovec vectors[MAX_CHUNK_VECTORS]
    cdef ssize_t sent
    while True:
        if chunk.part_count == 0:
            sent = send(fd, chunk.data, chunk.length, MSG_DONTWAIT | MSG_NOSIGNAL)
        else:
            memset(&message, 0, sizeof(message))
            message.msg_iov = vectors
            message.msg_iovlen = chunk_iov(chunk, 0, vectors)
            sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent >= 0:
            return sent
        if errno != EINTR:
            return -errno
