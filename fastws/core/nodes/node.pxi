# This node among others: what is said here reaches theirs, and what they say reaches the connections here.
#
# The registry calls it after it has served the connections here. A record collects with its target, and at the end of the
# turn each target that has any becomes one message to the engine. What is to be wanted of others (somebody joined a group)
# is said before anything leaves in this process: who is told that he is in, and tells others, is in for them, too.
#
# The layer above, which inherits from Node, knows who else there is and keeps what all agree on; here is what happens per
# push and per message.
#
# Names. Who stores a connection under a name claims it with a stamp, on the subject of the name, to which every holder is
# subscribed. Greater is later, and of two nodes that claim it at once the one with the greater (stamp, node) has it: a holder
# gives way to a greater claim, and answers a lesser one with its own.

cdef enum:
    COLLECT_PUBLISHED_LEN = 4194304  # bytes that may collect in a turn for all targets together
    MAX_PEERS = 4096           # nodes that are known at once
    MAX_IDLE_TARGETS = 65536   # that only this node publishes to
    MAX_SPLIT_LEN = 33554432   # bytes of what is published in parts
    MAX_PARTS_LEN = 67108864   # bytes of all that has come in part
    PARTIAL_LEN = 256          # of these, what is kept about each

cdef double LINGER = 2.0       # seconds that a subject is still wanted when nobody here is meant by it any more


@cython.final
cdef class Partial:
    # What has come of a record
    cdef uint8_t kind
    cdef uint8_t policy
    cdef uint8_t key_kind
    cdef bytes key
    cdef bytearray data


@cython.final
cdef class Peer:
    # Another node
    cdef readonly bytes id     # as Node.node
    cdef uint32_t place
    cdef readonly uint32_t epoch
    cdef bint is_quiet         # not heard of since strangers were forgotten last


cdef class Node:
    cdef readonly Hub hub      # None when it has ended
    cdef readonly object engine
    cdef readonly bytes node   # its id
    cdef uint64_t number       # likewise
    cdef readonly uint32_t epoch
    cdef bytes prefix
    cdef public bint is_up     # the engine
    cdef bint has_room         # likewise, in this turn
    cdef size_t max_payload
    cdef bint scheduled
    cdef bint catches_up       # see catch_up
    cdef uint32_t caught_up    # in which moment of the hub
    cdef list dirty            # targets for which records collect
    cdef size_t collected      # bytes
    cdef dict targets          # subject -> Target
    cdef object lingering      # deque of (since, Target)
    cdef list claimed          # names, since these were asked for
    cdef dict peers            # number -> Peer
    cdef uint32_t peer_count   # ever
    cdef dict partials         # (subject, place of the peer) -> Partial
    cdef size_t partial_len    # bytes
    cdef uint64_t sequence     # as great as that of any target
    cdef uint64_t clock        # the last stamp
    cdef Target everybody
    cdef Target itself
    cdef readonly uint64_t published   # records handed over
    cdef readonly uint64_t lost        # that could not be
    cdef readonly uint64_t heard       # records of others that were taken
    cdef readonly uint64_t late        # that came twice, or after later ones
    cdef readonly uint64_t unwanted    # messages for whom nobody is here
    cdef public uint64_t foreign       # that no version of ours wrote, or a later one

    def __cinit__(self, Hub hub not None, engine, bytes prefix not None, *args, **kwargs):
        cdef bytes raw = os.urandom(8)
        self.hub = hub
        self.engine = engine
        self.prefix = prefix
        self.number = get_le(<const uint8_t *>PyBytes_AS_STRING(raw), 8)
        self.node = raw.hex().encode()
        self.epoch = 1
        self.max_payload = engine.max_payload
        self.catches_up = engine.sees_nodes
        self.dirty = []
        self.targets = {}
        self.lingering = collections.deque()
        self.peers = {}
        self.partials = {}
        self.claimed = []

    # -- begin and end

    def begin(self):
        """Be the node of the hub: all that is there already is meant by others from now on."""
        cdef Endpoint endpoint
        cdef Group group
        self.everybody = self.want(TARGET_NODES, "all")
        self.itself = self.want(TARGET_NODES, self.node.decode())
        self.hub.node = self
        for endpoint in self.hub.endpoints:
            self.enter_service(endpoint)
        for group in list(self.hub.groups.values()):
            if group.members.count:  # what it had is of a node that has ended
                group.target = self.want(TARGET_GROUP, group.name)
        for name in list(self.hub.stored):
            self.claim(name)

    def end(self):
        """Be nobody's node any more."""
        if self.hub is not None and self.hub.node is self:
            self.flush()
            self.hub.node = None
        self.hub = None

    def go_up(self):
        """The engine takes messages, of this size."""
        self.is_up = True
        self.max_payload = self.engine.max_payload

    def next_epoch(self):
        """Have others know that some of what was said is missing."""
        self.flush()
        self.epoch += 1

    # -- what is wanted of others

    cdef Target target(self, uint8_t kind, str name):
        cdef bytes subject = subject_of(self.prefix + SUBJECT_KINDS[kind], name)
        cdef Target target = self.targets.get(subject)
        if target is None:
            target = Target.__new__(Target)
            target.name = name
            target.subject = subject
            target.kind = kind
            target.starts = True
            target.sequence = self.sequence
            target = self.targets.setdefault(subject, target)
        return target

    cdef Target want(self, uint8_t kind, str name):
        """Have others' messages for a target come here."""
        cdef Target target = self.target(kind, name)
        target.wanted += 1
        if not target.subscribed:
            target.subscribed = True
            do_guarded(self.engine.subscribe, target.subject)
            self.hub.urgent = True
            self.schedule()
        return target

    cdef int unwant(self, Target target) except -1:
        """Let them come no more, after a while: many leave to come back."""
        if target.wanted:
            target.wanted -= 1
        if target.wanted == 0 and not target.lingers:
            target.lingers = True
            self.lingering.append((self.hub.loop.time(), target))
        return 0

    def linger(self, *, bint over=False):
        """Unsubscribe from what nobody here was meant by for a while; or from all of it."""
        cdef Target target
        cdef double until
        if self.hub is None:
            return
        until = self.hub.loop.time() - LINGER
        while self.lingering and (over or self.lingering[0][0] <= until):
            target = self.lingering.popleft()[1]
            target.lingers = False
            if not target.wanted and target.subscribed:
                target.subscribed = False
                do_guarded(self.engine.unsubscribe, target.subject)
                self.schedule()
                self.drop_partials(target.subject, -1)
                # Others may have run, who want it again
                if not target.subscribed:
                    self.forget_target(target)
        if len(self.targets) > MAX_IDLE_TARGETS:
            self.drop_idle()

    cdef int forget_target(self, Target target) except -1:
        """Keep nothing of what is not wanted but the number of what was said: if that began anew it were a gap.

        Names are as many as connections that ever were, and who has one elsewhere may well have missed something.
        """
        target.forget_all()
        if target.count == 0 and (target.starts or target.kind == TARGET_NAME):
            self.targets.pop(target.subject, None)
        return 0

    cdef int drop_idle(self) except -1:
        """Forget to whom only we publish, if they are too many: their numbers begin anew."""
        cdef Target target
        idle = [target for target in self.targets.values() if not target.subscribed and target.count == 0]
        if len(idle) > MAX_IDLE_TARGETS:
            for target in idle:
                del self.targets[target.subject]
        return 0

    cdef inline int catch_up(self) except -1:
        """Take in what has come from others, before anything is decided on it.

        Whoever asks for something here may do so because of what another node told him, and his words may be read
        first: of several sockets that can be read epoll names the one first that was served last.
        """
        if self.catches_up and self.caught_up != self.hub.moment:
            self.caught_up = self.hub.moment
            self.engine.catch_up()
        return 0

    # -- what is said

    cdef inline Delivery pass_on(self, Target target, uint8_t kind, const payload_t *payload, const policy_t *policy,
                                 Delivery here):
        """Publish what was pushed here; what became of it here and elsewhere."""
        return Delivery(here.matched, here.queued, here.dropped, self.publish(target, kind, payload, policy))

    cdef bint publish(self, Target target, uint8_t kind, const payload_t *payload, const policy_t *policy) except *:
        """Let a record collect for others; False: they will not get it."""
        cdef record_t record
        if self.audience(target) is False:
            return True
        key = put_key(<object>policy.key if policy.key is not NULL else None, &record)
        record.kind = kind
        record.policy = <uint8_t>policy.overflow
        record.part = 0
        record.data = payload.data
        record.length = payload.length
        if self.collected == 0:
            self.has_room = self.engine.has_room()
        if not self.is_up or not self.has_room:
            self.lost += 1
            return False
        if ENVELOPE_LEN + record_len(&record) > self.max_payload:
            return self.publish_parts(target, &record)
        self.collect(target, &record)
        return True

    cdef bint publish_parts(self, Target target, record_t *record) except *:
        """Publish what is larger than one message; False: it is too large in parts, too."""
        cdef size_t head_len = ENVELOPE_LEN + RECORD_LEN + record.key_len
        cdef size_t left = record.length
        if left > MAX_SPLIT_LEN or 2 * head_len > self.max_payload:
            self.lost += 1
            return False
        while left:
            record.length = min(left, self.max_payload - head_len)
            left -= record.length
            record.part = record.part & PART_CONTINUES | (PART_GOES_ON if left else 0)
            self.collect(target, record)
            record.data += record.length
            record.part = PART_CONTINUES
        return True

    cdef object audience(self, Target target):
        """Whether others are there; None: the engine does not know."""
        return self.engine.audience(target.subject)

    cdef int collect(self, Target target, const record_t *record) except -1:
        cdef size_t length = record_len(record)
        while target.count and target.length + length > self.max_payload:
            self.send(target)
        target.put(record)
        self.collected += length
        if target.count == 1:
            # Last: to schedule may run others, who flush
            self.dirty.append(target)
            self.schedule()
        if self.collected > COLLECT_PUBLISHED_LEN:
            self.flush()
        return 0

    cdef int say(self, Target target, uint8_t kind, bytes data) except -1:
        """Publish a record of our own making, before anything that is said here from now on."""
        cdef payload_t payload
        if self.hub is None:
            return 0
        payload_of_bytes(kind, data, &payload)
        self.hub.urgent = True
        self.publish(target, kind, &payload, &PLAINLY)
        return 0

    cdef int schedule(self) except -1:
        if not self.scheduled:
            self.hub.call_soon(self._end_turn)
            self.scheduled = True
        return 0

    def _end_turn(self):
        self.scheduled = False
        self.flush()

    def flush(self):
        """Hand over what collected."""
        cdef Target target
        if self.hub is None:
            return
        self.hub.urgent = False
        self.collected = 0
        dirty, self.dirty = self.dirty, []
        for target in dirty:
            if target.count:
                self.send(target)
        try:
            self.engine.flush()
        except Exception:
            logger.exception("%s of a backplane failed", repr(self.engine.flush))

    cdef int send(self, Target target) except -1:
        cdef uint32_t count = target.count
        self.sequence = max(self.sequence, target.sequence + count)
        message = target.take(self.number, self.epoch)
        if do_guarded(self.engine.publish, target.subject, message):
            self.published += count
        else:
            self.has_room = False
            self.lost += count
        return 0

    def say_all(self, bytes data not None):
        """Tell all nodes something, of the layer above."""
        self.say(self.everybody, RECORD_CONTROL, data)

    def say_to(self, bytes node not None, bytes data not None):
        """Likewise one node."""
        self.say(self.target(TARGET_NODES, node.decode()), RECORD_CONTROL, data)

    # -- what is heard: the face that an engine sees

    def received(self, bytes subject not None, bytes payload not None):
        cdef envelope_t envelope
        cdef Peer peer
        cdef object found = self.targets.get(subject)
        if self.hub is None:
            return
        if found is None or not (<Target>found).subscribed:
            self.unwanted += 1
        elif not open_envelope(payload, &envelope):
            self.foreign += 1
        elif envelope.node != self.number:
            peer = self.peer_of(envelope.node)
            if peer is None:
                self.foreign += 1
            else:
                peer.is_quiet = False
                try:
                    self.take(<Target>found, peer, &envelope, payload)
                except Exception:
                    logger.exception("a message of node %s could not be handled", peer.id.decode())

    def subscriptions(self):
        cdef Target target
        return [target.subject for target in list(self.targets.values()) if target.subscribed]

    def wants(self, bytes subject not None):
        found = self.targets.get(subject)
        return found is not None and (<Target>found).subscribed

    def wanted(self, bytes subject not None):
        """Answer who wants a name, and may be about to take it."""
        cdef Target target = self.targets.get(subject)
        if target is not None and target.kind == TARGET_NAME and target.stamp:
            self.say(target, RECORD_CLAIM, stamp_bytes(target.stamp))

    cdef Peer peer_of(self, uint64_t number):
        """The node of a number; None: there are too many."""
        cdef Peer peer = self.peers.get(number)
        cdef uint8_t raw[8]
        if peer is None and len(self.peers) < MAX_PEERS:
            put_le(raw, number, 8)
            peer = Peer.__new__(Peer)
            peer.id = raw[:8].hex().encode()
            peer.place = self.peer_count
            self.peer_count += 1
            peer = self.peers.setdefault(number, peer)
        return peer

    def forget_peer(self, bytes node not None):
        """Keep nothing of a node that has ended."""
        self.forget([peer for peer in self.peers.values() if (<Peer>peer).id == node])

    def forget_strangers(self, known):
        """Keep nothing of nodes that are not known by their ids and were not heard of since this was called last.

        Those that end before they tell of themselves, or whose last words come after their end, would add up.
        """
        cdef Peer peer
        strangers = [peer for peer in self.peers.values() if peer.id not in known]
        self.forget([peer for peer in strangers if peer.is_quiet])
        for peer in strangers:
            peer.is_quiet = True

    cdef int forget(self, list peers) except -1:
        cdef Target target
        cdef Peer peer
        if not peers:
            return 0
        for peer in peers:
            self.peers.pop(int.from_bytes(bytes.fromhex(peer.id.decode()), "little"), None)
            self.drop_partials(None, peer.place)
        for target in list(self.targets.values()):
            for peer in peers:
                target.forget_peer(peer.place)
        return 0

    cdef int take(self, Target target, Peer peer, envelope_t *envelope, bytes message) except -1:
        cdef record_t record
        cdef uint32_t skipped = self.note(target, peer, envelope)
        cdef uint32_t i
        for i in range(envelope.count):
            if not next_record(envelope, &record):
                self.foreign += 1
                return 0
            if i >= skipped and self.hub is not None:
                self.heard += 1
                self.take_record(target, peer, &record, message)
        return 0

    cdef uint32_t note(self, Target target, Peer peer, const envelope_t *envelope) except? 0xFFFFFFFF:
        """Note how far we have heard a node on a subject; returns how many of the records were heard already."""
        cdef uint64_t last = envelope.sequence + envelope.count - 1
        cdef uint64_t before
        cdef heard_t *heard
        cdef bint goes_on
        if envelope.count == 0 or envelope.epoch < peer.epoch:
            self.late += envelope.count
            return envelope.count
        self.note_epoch(peer, envelope.epoch)
        heard = target.find_heard(peer.place)
        if heard is NULL:
            heard = target.add_heard(peer.place)
            heard.epoch = 0
        before = heard.sequence if heard.epoch == envelope.epoch else envelope.sequence - 1
        if last <= before:
            self.late += envelope.count
            return envelope.count
        goes_on = heard.epoch == envelope.epoch and envelope.sequence == before + 1
        heard.epoch = envelope.epoch
        heard.sequence = last
        # Others may run from here on, and move what is heard
        if not goes_on:
            self.drop_partial((target.subject, peer.place))
        if envelope.sequence > before + 1:
            self.tell_gap(peer, target, 0 if envelope.flags & ENVELOPE_STARTS else envelope.sequence - before - 1)
            return 0
        self.late += before + 1 - envelope.sequence
        return <uint32_t>(before + 1 - envelope.sequence)

    cdef int note_epoch(self, Peer peer, uint32_t epoch) except -1:
        """A node that begins a new epoch has lost some of what it said before."""
        cdef bint lost = peer.epoch != 0 and epoch > peer.epoch
        peer.epoch = max(peer.epoch, epoch)
        if lost:
            self.tell_gap(peer, None, 0)
        return 0

    cdef int tell_gap(self, Peer peer, Target target, uint64_t missing) except -1:
        meant = None if target is None or target.kind == TARGET_NODES else (TARGET_WORDS[target.kind], target.name)
        self.on_gap(peer.id, meant, missing)
        return 0

    cdef int take_record(self, Target target, Peer peer, const record_t *record, bytes message) except -1:
        if record.part:
            return self.take_part(target, peer, record)
        if record.kind == RECORD_TEXT or record.kind == RECORD_BINARY:
            return self.take_push(target, record, message)
        if record.kind == RECORD_CONTROL:
            self.on_control(peer.id, record.data[:record.length])
        elif record.kind == RECORD_CLOSE:
            self.take_close(target, record)
        elif record.kind == RECORD_CLAIM and target.kind == TARGET_NAME:
            self.take_claim(target, get_stamp(record), peer)
        elif record.kind == RECORD_FORGET and target.kind == TARGET_NAME:
            if get_stamp(record) > target.stamp:
                forget(self.hub, target.name)
        else:
            self.foreign += 1
        return 0

    cdef int take_part(self, Target target, Peer peer, const record_t *record) except -1:
        """Put a record together; one whose first part has not come is none."""
        cdef tuple place = (target.subject, peer.place)
        cdef Partial partial = self.drop_partial(place)
        if not record.part & PART_CONTINUES:
            if partial is not None:
                # Somebody pushed in the middle of it over there, and its rest has lost its beginning
                self.tell_gap(peer, target, 0)
            partial = Partial.__new__(Partial)
            partial.kind = record.kind
            partial.policy = record.policy
            partial.key_kind = record.key_kind
            partial.key = record.key[:record.key_len]
            partial.data = bytearray()
        if partial is None:
            return 0
        partial.data += record.data[:record.length]
        if not record.part & PART_GOES_ON:
            return self.take_whole(target, peer, partial)
        if self.partial_len + partial_len(partial) > MAX_PARTS_LEN:
            self.foreign += 1
            return self.tell_gap(peer, target, 1)
        self.partials[place] = partial
        self.partial_len += partial_len(partial)
        return 0

    cdef int take_whole(self, Target target, Peer peer, Partial partial) except -1:
        cdef record_t record
        cdef bytes data = bytes(partial.data)
        record.kind = partial.kind
        record.policy = partial.policy
        record.key_kind = partial.key_kind
        record.part = 0
        record.key = <const uint8_t *>PyBytes_AS_STRING(partial.key)
        record.key_len = PyBytes_GET_SIZE(partial.key)
        record.data = <const uint8_t *>PyBytes_AS_STRING(data)
        record.length = PyBytes_GET_SIZE(data)
        return self.take_record(target, peer, &record, data)

    cdef Partial drop_partial(self, tuple place):
        cdef Partial partial = self.partials.pop(place, None)
        if partial is not None:
            self.partial_len -= partial_len(partial)
        return partial

    cdef int drop_partials(self, bytes subject, int64_t place) except -1:
        """Drop what has come in part on a subject or from a peer."""
        for key in list(self.partials):
            if key[0] == subject or key[1] == place:
                self.drop_partial(key)
        return 0

    cdef int take_push(self, Target target, const record_t *record, bytes message) except -1:
        """Push what another node's service pushed."""
        cdef payload_t payload
        cdef policy_t policy
        cdef Connection connection
        if not record_is_sound(record):
            self.foreign += 1
            return 0
        try:
            key = record_key(record)
        except ValueError:
            self.foreign += 1
            return 0
        policy.overflow = record.policy
        policy.key = NULL if key is None else <PyObject *>key
        payload.kind = record.kind
        payload.data = record.data
        payload.length = record.length
        payload.owner = <PyObject *>message
        if target.kind == TARGET_NAME:
            connection = self.hub.stored.get(target.name)
            if connection is not None:
                push_message(connection, &payload, &policy)
        else:
            for members in self.members_of(target):
                fan_out_lanes(<Members>members, &payload, None, &policy)
        return 0

    cdef list members_of(self, Target target):
        """The sets of connections that a group or a service means here."""
        cdef Group group
        cdef Endpoint endpoint
        if target.kind == TARGET_GROUP:
            group = self.hub.groups.get(target.name)
            return [] if group is None else [group.members]
        return [endpoint.members for endpoint in self.hub.endpoints if endpoint.target is target]

    cdef int take_close(self, Target target, const record_t *record) except -1:
        cdef int code
        cdef Connection connection
        code, reason = parse_close(record.data[:record.length])
        if code < 0:
            self.foreign += 1
        elif target.kind == TARGET_NAME:
            connection = forget(self.hub, target.name)
            if connection is not None:
                start_close(connection, code, reason)
        else:
            for members in self.members_of(target):
                close_members(<Members>members, code, reason)
        return 0

    # -- services

    cdef int enter_service(self, Endpoint endpoint) except -1:
        endpoint.target = self.want(TARGET_SERVICE, endpoint.path)
        return 0

    # -- names

    cdef int claim(self, str name) except -1:
        """A connection here has the name from now on."""
        cdef Target target = self.want(TARGET_NAME, name)
        target.wanted = 1          # whoever has it
        target.stamp = self.next_stamp()
        if len(self.claimed) < MAX_IDLE_TARGETS:
            self.claimed.append(name)
        self.say(target, RECORD_CLAIM, stamp_bytes(target.stamp))
        return 0

    cdef int release(self, str name) except -1:
        """No connection here has it any more."""
        cdef Target target = self.target(TARGET_NAME, name)
        target.stamp = 0
        return self.unwant(target)

    cdef bint forget_elsewhere(self, str name) except *:
        """Have another node forget the name; whether one is known to have it."""
        cdef Target target = self.target(TARGET_NAME, name)
        self.say(target, RECORD_FORGET, stamp_bytes(self.next_stamp()))
        return self.audience(target) is True

    cdef int take_claim(self, Target target, uint64_t stamp, Peer peer) except -1:
        cdef Connection connection = self.hub.stored.get(target.name)
        self.note_stamp(stamp)
        if connection is None:
            return 0
        if (stamp, peer.id) > (target.stamp, self.node):
            forget(self.hub, target.name)
        else:
            self.say(target, RECORD_CLAIM, stamp_bytes(target.stamp))
        return 0

    def take_claimed(self):
        """The names that were claimed since this was called last."""
        names, self.claimed = self.claimed, []
        return names

    def claim_again(self, names):
        """Say once more that these names are those of connections here, where they are: others may have missed it."""
        cdef Target target
        for name in names if self.hub is not None else ():
            if name in self.hub.stored:
                target = self.target(TARGET_NAME, name)
                self.say(target, RECORD_CLAIM, stamp_bytes(target.stamp))

    # -- stamps: nanoseconds since 1970, or one more than the greatest that was seen

    cpdef uint64_t next_stamp(self):
        cdef timespec now
        clock_gettime(CLOCK_REALTIME, &now)
        self.clock = max(self.clock + 1, <uint64_t>now.tv_sec * 1000000000 + now.tv_nsec)
        return self.clock

    cpdef note_stamp(self, uint64_t stamp):
        """Never give out a lesser one; from a clock that is far ahead of ours we do not learn."""
        cdef uint64_t now = self.next_stamp()
        if now < stamp < now + MAX_AHEAD:
            self.clock = stamp

    # -- groups

    cdef inline Target target_of_group(self, Group group, str name):
        return self.target(TARGET_GROUP, name) if group is None or group.target is None else group.target

    cdef bint is_elsewhere(self, str name) except *:
        """Whether a group may have members on other nodes."""
        return self.audience(self.target(TARGET_GROUP, name)) is not False

    cdef bint close_elsewhere(self, Target target, int code, str reason) except *:
        """Have connections of other nodes closed; whether there are known to be any."""
        self.say(target, RECORD_CLOSE, make_close(code, reason))
        return self.audience(target) is True

    def retire(self, str name not None, uint64_t stamp):
        """Dissolve a group that was removed on another node, and retire its name."""
        if self.hub is not None:
            dissolve(self.hub, name, stamp)

    def revive(self, str name not None):
        """Let a group be joined again that was created anew on another node."""
        if self.hub is not None:
            self.hub.retired.pop(name, None)

    # -- what is asked

    def count_here(self, str kind not None, str name not None):
        """The connections of a group or, by its path, of a service."""
        cdef Endpoint endpoint
        cdef Py_ssize_t count = 0
        if self.hub is None:
            return 0
        if kind == "group":
            group = self.hub.groups.get(name)
            return 0 if group is None else len(group)
        for endpoint in self.hub.endpoints:
            if endpoint.path == name:
                count += endpoint.members.count
        return count

    # -- for the layer above to override

    def on_control(self, node, data):
        """A node told something, of the layer above."""

    def on_gap(self, node, target, missing):
        """Some of what a node said is missing."""

    def on_group_removed(self, name):
        """A group was removed here."""

    def on_group_created(self, name):
        """A group was created here explicitly."""


cdef tuple SUBJECT_KINDS = (b"g.", b"n.", b"s.", b"c.")

cdef uint64_t MAX_AHEAD = 3600000000000  # nanoseconds


cdef inline Py_ssize_t partial_len(Partial partial) noexcept:
    return PARTIAL_LEN + PyBytes_GET_SIZE(partial.key) + PyByteArray_GET_SIZE(partial.data)


cdef inline bytes stamp_bytes(uint64_t stamp):
    cdef uint8_t raw[8]
    put_le(raw, stamp, 8)
    return raw[:8]


cdef inline uint64_t get_stamp(const record_t *record) noexcept:
    return get_le(record.data, 8) if record.length == 8 else 0


cdef object do_guarded(function, argument, more=None):
    """What an engine does; what it raises is its own affair, and told."""
    try:
        return function(argument) if more is None else function(argument, more)
    except Exception:
        logger.exception("%s of a backplane failed", repr(function))
        return None


def counted(group, to):
    """For ws.count: the node or None, what is counted, and how many connections of it are here."""
    cdef Endpoint endpoint
    cdef list endpoints
    cdef Hub hub
    if group is not None:
        hub = hub_here("count")
        name = own_name(group, "group")
        found = hub.groups.get(name)
        return hub.node, "group", name, 0 if found is None else len(found)
    endpoint = current_endpoint("count") if to is None else None
    endpoints = [endpoint] if endpoint is not None else list(endpoints_of(to, "count"))
    endpoint = endpoints[0]
    return endpoint.hub.node, "service", endpoint.path, len(Connections(endpoints))


def located(name):
    """For ws.locate: the node or None, and whether a connection here has the name."""
    cdef Hub hub = hub_here("locate")
    return hub.node, own_name(name, "connection") in hub.stored
