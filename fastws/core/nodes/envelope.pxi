# What nodes say to each other, as bytes.
#
# An envelope has a head and records, all of them for the subject that it comes on: what a node published there within one
# turn of its loop. The head says who speaks, in which epoch, and the number of the first record among all that this node
# ever said on this subject. A record has a kind, what a push says of its message (policy and key), and data.
#
#   envelope   "FW" version flags | node (8) | epoch (4) | count (4) | sequence (8)    then the records
#   record     kind policy key_kind part | key length (4) | data length (4) | key | data
#
# What is larger than an engine's messages goes in parts, in records that follow each other.
#
# Numbers have their lowest byte first. A version that we do not read, and a kind that we do not know, are skipped: what a
# newer fastws says has to be harmless to an older one.

cdef enum:
    ENVELOPE_VERSION = 1
    ENVELOPE_STARTS = 1        # flag: the numbers of this subject begin anew, there may have been others
    ENVELOPE_LEN = 28          # bytes of the head
    RECORD_LEN = 12            # bytes of the head of a record

cdef enum record_kind:
    RECORD_TEXT = 0x1          # a message to all who are meant by the subject
    RECORD_BINARY = 0x2
    RECORD_CLOSE = 0x8         # close their connections: the payload of a close frame
    RECORD_CLAIM = 0x10        # of a connection's name: the stamp of who has it
    RECORD_FORGET = 0x11       # likewise: forget it, if it was claimed before this stamp
    RECORD_CONTROL = 0x20      # for the layer above

cdef enum record_part:
    PART_GOES_ON = 1           # flags: the next record goes on with it
    PART_CONTINUES = 2         # and this one with the one before

cdef enum key_kind:
    KEY_NONE
    KEY_TEXT
    KEY_BYTES
    KEY_INT                    # its hexadecimal digits
    KEY_KINDS

ctypedef struct envelope_t:
    uint8_t flags
    uint64_t node
    uint32_t epoch
    uint32_t count             # of its records
    uint64_t sequence
    const uint8_t *next        # the record to read next
    const uint8_t *end

ctypedef struct record_t:
    uint8_t kind
    uint8_t policy             # an overflow_kind
    uint8_t key_kind
    uint8_t part               # of record_part
    const uint8_t *key
    size_t key_len
    const uint8_t *data
    size_t length


cdef inline uint64_t get_le(const uint8_t *data, int length) noexcept nogil:
    cdef uint64_t number = 0
    cdef int i
    for i in range(length):
        number |= <uint64_t>data[i] << (8 * i)
    return number


cdef inline uint8_t *put_le(uint8_t *place, uint64_t number, int length) noexcept nogil:
    cdef int i
    for i in range(length):
        place[i] = <uint8_t>(number >> (8 * i))
    return place + length


cdef bint open_envelope(bytes message, envelope_t *envelope) noexcept:
    """Read the head; False: this is none that we read."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(message)
    if PyBytes_GET_SIZE(message) < ENVELOPE_LEN or data[0] != c"F" or data[1] != c"W" or data[2] != ENVELOPE_VERSION:
        return False
    envelope.flags = data[3]
    envelope.node = get_le(data + 4, 8)
    envelope.epoch = <uint32_t>get_le(data + 12, 4)
    envelope.count = <uint32_t>get_le(data + 16, 4)
    envelope.sequence = get_le(data + 20, 8)
    envelope.next = data + ENVELOPE_LEN
    envelope.end = data + PyBytes_GET_SIZE(message)
    return envelope.count <= <size_t>(envelope.end - envelope.next) // RECORD_LEN


cdef bint next_record(envelope_t *envelope, record_t *record) noexcept:
    """Read the next record; False: there is none, or what there is is none."""
    cdef const uint8_t *data = envelope.next
    cdef size_t left = envelope.end - data
    if left < RECORD_LEN:
        return False
    record.kind = data[0]
    record.policy = data[1]
    record.key_kind = data[2]
    record.part = data[3]
    record.key_len = <size_t>get_le(data + 4, 4)
    record.length = <size_t>get_le(data + 8, 4)
    if record.key_len > left - RECORD_LEN or record.length > left - RECORD_LEN - record.key_len:
        return False
    record.key = data + RECORD_LEN
    record.data = record.key + record.key_len
    envelope.next = record.data + record.length
    return True


cdef void put_envelope(uint8_t *place, const envelope_t *envelope) noexcept:
    """Write the head."""
    place[0] = c"F"
    place[1] = c"W"
    place[2] = ENVELOPE_VERSION
    place[3] = envelope.flags
    put_le(place + 4, envelope.node, 8)
    put_le(place + 12, envelope.epoch, 4)
    put_le(place + 16, envelope.count, 4)
    put_le(place + 20, envelope.sequence, 8)


cdef void put_record(uint8_t *place, const record_t *record) noexcept:
    """Write a record, for which there is room."""
    place[0] = record.kind
    place[1] = record.policy
    place[2] = record.key_kind
    place[3] = record.part
    put_le(place + 4, record.key_len, 4)
    put_le(place + 8, record.length, 4)
    memcpy(place + RECORD_LEN, record.key, record.key_len)
    memcpy(place + RECORD_LEN + record.key_len, record.data, record.length)


cdef inline size_t record_len(const record_t *record) noexcept:
    return RECORD_LEN + record.key_len + record.length


cdef object record_key(const record_t *record):
    """The key of a push as it was given; None where it has none. ValueError: this is none."""
    cdef bytes key
    if record.key_kind == KEY_NONE:
        return None
    key = record.key[:record.key_len]
    if record.key_kind == KEY_TEXT:
        return key.decode("utf-8", "surrogatepass")
    if record.key_kind == KEY_INT:
        return int(key, 16)
    return key


cdef bint record_is_sound(const record_t *record) noexcept:
    """Whether what a push says goes together, and its text is one."""
    cdef fastws_utf8_t state
    if record.policy > OVERFLOW_AS_SERVICE or record.key_kind >= KEY_KINDS:
        return False
    if (record.key_kind != KEY_NONE) != (record.policy == OVERFLOW_CONFLATE):
        return False
    if record.kind != RECORD_TEXT:
        return True
    memset(&state, 0, sizeof(state))
    return fastws_utf8_feed(&state, record.data, record.length) and fastws_utf8_complete(&state)


cdef object put_key(object key, record_t *record):
    """Have a record mean a key, which is own_key()'s; returns what keeps its bytes alive."""
    cdef bytes data = b""
    record.key_kind = KEY_NONE
    if type(key) is str:
        record.key_kind = KEY_TEXT
        data = (<str>key).encode("utf-8", "surrogatepass")
    elif type(key) is bytes:
        record.key_kind = KEY_BYTES
        data = key
    elif key is not None:
        record.key_kind = KEY_INT
        data = b"%x" % key
    record.key = <const uint8_t *>PyBytes_AS_STRING(data)
    record.key_len = PyBytes_GET_SIZE(data)
    return data


cdef inline bytes stamp_bytes(uint64_t stamp):
    cdef uint8_t raw[8]
    put_le(raw, stamp, 8)
    return raw[:8]


cdef inline uint64_t get_stamp(const record_t *record) noexcept:
    return get_le(record.data, 8) if record.length == 8 else 0


# ---------------------------------------------------------------------------------------------------------------------
# Subjects

cdef enum:
    MAX_TOKEN_LEN = 180        # bytes; a longer one is a digest


cdef bytes subject_of(bytes prefix, str name):
    """The prefix and a name as a token of A-Z a-z 0-9 _ - and =XX for every other byte, which all engines take.

    A user's name never reaches a subject raw. A digest begins with two signs of equality, which no other token does.
    """
    cdef bytes raw = name.encode("utf-8", "surrogatepass")
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(raw)
    cdef uint8_t token[MAX_TOKEN_LEN]
    cdef Py_ssize_t i, length = 0
    for i in range(PyBytes_GET_SIZE(raw)):
        if length + 3 > MAX_TOKEN_LEN:
            return prefix + b"==" + hashlib.blake2b(raw, digest_size=20).hexdigest().encode()
        if is_plain(data[i]):
            token[length] = data[i]
            length += 1
        else:
            token[length] = c"="
            token[length + 1] = HEX_DIGITS[data[i] >> 4]
            token[length + 2] = HEX_DIGITS[data[i] & 15]
            length += 3
    return prefix + token[:length]


cdef const char *HEX_DIGITS = b"0123456789ABCDEF"


cdef inline bint is_plain(uint8_t byte) noexcept:
    return c"a" <= byte <= c"z" or c"0" <= byte <= c"9" or c"A" <= byte <= c"Z" or byte == c"_" or byte == c"-"
