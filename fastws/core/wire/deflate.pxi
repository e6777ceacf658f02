# permessage-deflate on the message level (RFC 7692 7.2): zlib does the work, this decides what it remembers.
#
# A message that starts from an empty window can be read by every peer whose window is large enough. So one Deflater per
# window size serves all connections of a loop: it forgets its history after each message, and a broadcast is compressed
# once for all who negotiated the same. A connection that negotiated context takeover has a Deflater and an Inflater of
# its own, made with its first compressed message; when a shared frame passes by, the peer's window is no longer what the
# connection's Deflater believes it to be, and it forgets its history before it goes on (`outlet.stale`).
#
# The peer's messages: without takeover each gets a new Inflater. One that were shared would let a peer refer back to
# what another peer has sent.

cdef enum:
    RSV1 = 0x40                # this message is compressed (7.2.1)
    INFLATE_LEN = 65536        # bytes that are inflated at a time
    MAX_FINAL_BLOCKS = 16      # of a message; each makes us start a new stream (7.2.3.4)

cdef object compressobj = zlib.compressobj
cdef object decompressobj = zlib.decompressobj
cdef object zlib_error = zlib.error
cdef int DEFLATED = zlib.DEFLATED
cdef int SYNC_FLUSH = zlib.Z_SYNC_FLUSH
cdef int FULL_FLUSH = zlib.Z_FULL_FLUSH    # forgets what came before, too

# "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end" (7.2.1), and append them again to inflate (7.2.2)
cdef bytes FLUSH_TAIL = b"\x00\x00\xff\xff"


@cython.final
@cython.internal
cdef class Deflater:
    # Compresses messages
    cdef object compressor     # zlib.compressobj, made with the first message
    cdef int window_bits
    cdef int level
    cdef size_t threshold      # bytes; a shorter message goes out as it is
    cdef int flush             # what ends a message
    cdef bint busy             # with a message

    def __cinit__(self, int window_bits, int level, size_t threshold, bint takeover):
        self.window_bits = window_bits
        self.level = level
        self.threshold = threshold
        self.flush = SYNC_FLUSH if takeover else FULL_FLUSH

    cdef inline bint wants(self, size_t length) noexcept:
        """Whether a message of so many bytes is to be compressed; of nothing zlib would make nothing."""
        return length >= self.threshold and length > 0

    cdef inline bint pays(self, size_t compressed, size_t length) noexcept:
        """Whether a message goes out as it was compressed; with a threshold of 0 all do, for peers that need it."""
        return compressed < length or self.threshold == 0

    cdef bytes deflate(self, const uint8_t *payload, size_t length):
        """The payload of a compressed message, or None while this is busy with another one.

        zlib makes objects, which may run others (before Python 3.12 the garbage collector), and what they push comes here.
        """
        cdef bytes body
        if self.busy:
            return None
        self.busy = True
        try:
            body = self.deflate_now(payload, length)
        finally:
            self.busy = False
        return body

    cdef bytes deflate_now(self, const uint8_t *payload, size_t length):
        cdef bytes body
        if self.compressor is None:
            # As much memory for hashing as the window deserves: 256 KiB in all for 15 bits, 4 KiB for 9
            self.compressor = compressobj(self.level, DEFLATED, -self.window_bits, max(1, self.window_bits - 7))
        try:
            body = self.compressor.compress(PyMemoryView_FromMemory(<char *>payload, length, PyBUF_READ))
            body += self.compressor.flush(self.flush)
        except BaseException:
            self.compressor = None
            raise
        return body[:-len(FLUSH_TAIL)]

    cdef int forget(self) except -1:
        """Compress what follows from an empty window."""
        if self.compressor is None or self.busy:
            return 0
        self.busy = True
        try:
            # An empty block that starts and ends on a byte: nobody misses it
            self.compressor.flush(FULL_FLUSH)
        finally:
            self.busy = False
        return 0


@cython.final
@cython.internal
cdef class Inflater:
    # Decompresses the messages of one peer, or one message
    cdef object stream         # zlib.decompressobj, or None at the start of a stream
    cdef int window_bits
    cdef int finals            # streams that ended within this message
    cdef object input          # what was fed and is not read yet, or None

    def __cinit__(self, int window_bits):
        self.window_bits = window_bits

    cdef void feed(self, object data):
        self.input = data

    cdef bytes read(self, Py_ssize_t most):
        """Up to `most` bytes; fewer only when all that was fed is used up. Raises zlib.error."""
        cdef bytes output
        if self.stream is None:
            self.stream = decompressobj(-self.window_bits)
        output = self.stream.decompress(self.input, most)
        self.input = self.stream.unconsumed_tail
        if not self.stream.eof:
            return output
        # A block with BFINAL set ends the stream, not the message
        self.input = self.stream.unused_data
        self.stream = None
        self.finals += 1
        if self.finals > MAX_FINAL_BLOCKS:
            raise zlib_error("too many final blocks")
        if len(output) < most and self.input:
            output += self.read(most - len(output))
        return output

    cdef void finish(self):
        """Feed what the peer cut off the end of its message."""
        self.finals = 0
        self.input = b"" if self.stream is None else FLUSH_TAIL


@cython.final
@cython.internal
cdef class History:
    # What a connection with context takeover remembers of its messages
    cdef Deflater deflater     # or None: it uses the shared one
    cdef Inflater inflater     # or None: each message gets a new one
