# This node among others: what others say reaches the connections here, and what is said here theirs (voice.pxi).
#
# The registry calls it after it has served the connections here. The layer above, which inherits from Node, knows who else
# there is and keeps what all agree on; here is what happens per push and per message.
#
# Names. Who stores a connection under a name claims it with a stamp, on the subject of the name, to which every holder is
# subscribed. Greater is later, and of two nodes that claim it at once the one with the greater (stamp, node) has it: a holder
# gives way to a greater claim, and answers a lesser one with its own.

cdef enum:
    MAX_PEERS = 4096           # nodes that are known at once

cdef uint64_t MAX_AHEAD = 3600000000000  # nanoseconds


@cython.final
cdef class Peer:
    # Another node
    cdef readonly bytes id     # as Node.node
    cdef uint32_t place
    cdef readonly uint32_t epoch
    cdef bint is_quiet         # not heard of since strangers were forgotten last


cdef class Node(Voice):
    cdef uint32_t caught_up    # in which moment of the hub
    cdef list claimed          # names, since these were asked for
    cdef dict peers            # number -> Peer
    cdef uint32_t peer_count   # ever
    cdef Partials partials
    cdef uint64_t clock        # the last stamp
    cdef Target everybody
    cdef readonly uint64_t heard       # records of others that were taken
    cdef readonly uint64_t late        # that came twice, or after later ones
    cdef readonly uint64_t unwanted    # messages for whom nobody is here
    cdef public uint64_t foreign       # that no version of ours wrote, or a later one

    def __cinit__(self, Hub hub not None, engine, bytes prefix not None, *args, **kwargs):
        self.peers = {}
        self.partials = Partials()
        self.claimed = []

    # -- begin and end

    def begin(self):
        """Be the node of the hub: all that is there already is meant by others from now on."""
        cdef Endpoint endpoint
        cdef Group group
        self.everybody = self.want(TARGET_NODES, "all")
        self.want(TARGET_NODES, self.node.decode())
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

    cdef inline int catch_up(self) except -1:
        """Take in what has come from others, before anything is decided on it.

        Whoever asks for something here may do so because of what another node told him, and his words may be read
        first: of several sockets that can be read epoll names the one first that was served last.
        """
        if self.sees_nodes and self.caught_up != self.hub.moment:
            self.caught_up = self.hub.moment
            self.engine.catch_up()
        return 0

    # -- the layer above, to that of others

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

    def wanted(self, bytes subject not None):
        """Answer who wants a name, and may be about to take it."""
        cdef Target target = self.targets.get(subject)
        if target is not None and target.kind == TARGET_NAME and target.stamp:
            self.say_claim(target)

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
            self.partials.drop_peer(peer.place)
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
            self.partials.pop((target.subject, peer.place))
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
            self.foreign += not push_here(self.hub, target, record, message)
        elif record.kind == RECORD_CONTROL:
            self.on_control(peer.id, record.data[:record.length])
        elif record.kind == RECORD_CLOSE:
            self.foreign += not close_here(self.hub, target, record)
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
        cdef Partial partial = self.partials.pop(place)
        if not record.part & PART_CONTINUES:
            if partial is not None:
                # Somebody pushed in the middle of it over there, and its rest has lost its beginning
                self.tell_gap(peer, target, 0)
            partial = new_partial(record)
        if partial is None:
            return 0
        partial.data += record.data[:record.length]
        if not record.part & PART_GOES_ON:
            return self.take_whole(target, peer, partial)
        if not self.partials.keep(place, partial):
            self.foreign += 1
            self.tell_gap(peer, target, 1)
        return 0

    cdef int take_whole(self, Target target, Peer peer, Partial partial) except -1:
        cdef record_t record
        cdef bytes data = bytes(partial.data)
        whole_record(partial, data, &record)
        return self.take_record(target, peer, &record, data)

    cdef int unwanted_now(self, Target target) except -1:
        return self.partials.drop_subject(target.subject)

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
        self.say_claim(target)
        return 0

    cdef int say_claim(self, Target target) except -1:
        return self.say(target, RECORD_CLAIM, stamp_bytes(target.stamp))

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
            self.say_claim(target)
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
                self.say_claim(target)

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
        return 0 if self.hub is None else count_here(self.hub, kind, name)

    # -- for the layer above to override

    def on_control(self, node, data):
        """A node told something, of the layer above."""

    def on_gap(self, node, target, missing):
        """Some of what a node said is missing."""

    def on_group_removed(self, name):
        """A group was removed here."""

    def on_group_created(self, name):
        """A group was created here explicitly."""
