# One frame: its header as fields and as bytes, and an unfragmented frame as a whole (RFC 6455 5.2).

cdef enum:
    OP_CONTINUATION = 0x0
    OP_TEXT = 0x1
    OP_BINARY = 0x2
    OP_CLOSE = 0x8
    OP_PING = 0x9
    OP_PONG = 0xA

    FIN_BIT = 0x80
    RSV_BITS = 0x70
    MASK_BIT = 0x80
    MAX_CONTROL_LEN = 125      # bytes, RFC 6455 5.5
    MAX_HEADER_LEN = 14        # bytes: 2, 8 of extended length, 4 of masking key

    NEED_MORE = 0


ctypedef struct header_t:
    uint8_t opcode
    uint8_t rsv                # the reserved bits that are set
    bint fin
    bint masked
    uint32_t key               # masking key in wire order
    uint64_t length            # payload bytes


cdef inline int parse_header(const uint8_t *data, size_t available, header_t *header, uint8_t extended_rsv) noexcept nogil:
    """Read one frame header, in which an extension gives a meaning to some of the reserved bits.

    Returns its length, NEED_MORE, or minus the close code. The first two bytes are judged as soon as they are there.
    """
    cdef size_t needed, i, extended
    cdef uint8_t short_len
    if available < 2:
        return NEED_MORE
    header.rsv = data[0] & RSV_BITS
    if header.rsv & ~extended_rsv:
        return -1002
    header.opcode = data[0] & 0x0F
    header.fin = data[0] & FIN_BIT != 0
    header.masked = data[1] & MASK_BIT != 0
    short_len = data[1] & 0x7F
    if header.opcode & 0x8:
        # "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented." (5.5)
        if header.opcode > OP_PONG or not header.fin or short_len > MAX_CONTROL_LEN:
            return -1002
    elif header.opcode > OP_BINARY:
        return -1002
    # "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first fragments" (RFC 7692 6.1)
    if header.rsv and header.opcode != OP_TEXT and header.opcode != OP_BINARY:
        return -1002
    extended = 0 if short_len < 126 else 2 if short_len == 126 else 8
    needed = 2 + extended + (4 if header.masked else 0)
    if available < needed:
        return NEED_MORE
    header.length = short_len
    header.key = 0
    if extended:
        header.length = 0
        for i in range(extended):
            header.length = header.length << 8 | data[2 + i]
        # "the minimal number of bytes MUST be used to encode the length", and "the most significant bit MUST be 0"
        if header.length < 126 or (extended == 8 and (header.length <= 0xFFFF or header.length >> 63)):
            return -1002
    if header.masked:
        header.key = fastws_mask_load(data + 2 + extended)
    return <int>needed


cdef inline size_t write_header(uint8_t *out, uint8_t kind, uint64_t length, uint8_t mask_bit) noexcept nogil:
    """Write the header of an unfragmented frame, without its masking key; returns its length.

    The kind of a frame is its opcode, and RSV1 where its payload is compressed.
    """
    cdef size_t i
    out[0] = FIN_BIT | kind
    if length < 126:
        out[1] = mask_bit | <uint8_t>length
        return 2
    if length <= 0xFFFF:
        out[1] = mask_bit | 126
        out[2] = <uint8_t>(length >> 8)
        out[3] = <uint8_t>length
        return 4
    out[1] = mask_bit | 127
    for i in range(8):
        out[2 + i] = <uint8_t>(length >> (56 - 8 * i))
    return 10


cdef inline uint8_t *put_frame(uint8_t *out, uint8_t kind, const uint8_t *payload, size_t length, bint mask,
                               uint32_t key) noexcept nogil:
    """Write one unfragmented frame; returns the end of it."""
    out += write_header(out, kind, length, MASK_BIT if mask else 0)
    if mask:
        memcpy(out, &key, 4)
        fastws_mask(out + 4, payload, length, key)
        return out + 4 + length
    memcpy(out, payload, length)
    return out + length
