# What a node says, and what it wants of others.
#
# A record collects with its target, and at the end of the turn each target that has any becomes one message to the engine.
# What is to be wanted of others (somebody joined a group) is said before anything leaves in this process: who is told that
# he is in, and tells others, is in for them, too.

cdef enum:
    COLLECT_PUBLISHED_LEN = 4194304  # bytes that may collect in a turn for all targets together
    MAX_IDLE_TARGETS = 65536   # that only this node publishes to

cdef double LINGER = 2.0       # seconds that a subject is still wanted when nobody here is meant by it any more

cdef tuple SUBJECT_KINDS = (b"g.", b"n.", b"s.", b"c.")


cdef class Voice:
    cdef readonly Hub hub      # None when it has ended
    cdef readonly object engine
    cdef bint sees_nodes       # the engine: it knows who is there, and can tell
    cdef readonly bytes node   # its id
    cdef uint64_t number       # likewise
    cdef readonly uint32_t epoch
    cdef bytes prefix
    cdef public bint is_up     # the engine
    cdef bint has_room         # likewise, since what collects has collected
    cdef size_t max_payload
    cdef bint scheduled
    cdef list dirty            # targets for which records collect
    cdef size_t collected      # bytes
    cdef dict targets          # subject -> Target
    cdef Py_ssize_t subscribed # how many of them are
    cdef object lingering      # deque of (since, Target)
    cdef uint64_t sequence     # as great as that of any target
    cdef readonly uint64_t published   # records handed over
    cdef readonly uint64_t lost        # that could not be

    def __cinit__(self, Hub hub not None, engine, bytes prefix not None, *args, **kwargs):
        cdef bytes raw = os.urandom(8)
        self.hub = hub
        self.engine = engine
        self.sees_nodes = engine.sees_nodes
        self.prefix = prefix
        self.number = get_le(<const uint8_t *>PyBytes_AS_STRING(raw), 8)
        self.node = raw.hex().encode()
        self.epoch = 1
        self.max_payload = engine.max_payload
        self.dirty = []
        self.targets = {}
        self.lingering = collections.deque()

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
            self.subscribed += 1
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
                self.subscribed -= 1
                do_guarded(self.engine.unsubscribe, target.subject)
                self.schedule()
                self.unwanted_now(target)
                # Others may have run, who want it again
                if not target.subscribed:
                    self.forget_target(target)
        if len(self.targets) - self.subscribed > MAX_IDLE_TARGETS:
            self.drop_idle()

    cdef int unwanted_now(self, Target target) except -1:
        """Called when a target is wanted no more, for who hears."""
        return 0

    cdef int forget_target(self, Target target) except -1:
        """Keep nothing of what is not wanted but the number of what was said: if that began anew it were a gap.

        Names are as many as connections that ever were, and who has one elsewhere may well have missed something.
        """
        target.forget_all()
        if target.count == 0 and (target.starts or target.kind == TARGET_NAME):
            self.targets.pop(target.subject, None)
        return 0

    cdef int drop_idle(self) except -1:
        """Forget to whom only we publish, who are too many: their numbers begin anew."""
        cdef Target target
        for target in list(self.targets.values()):
            if not target.subscribed and target.count == 0:
                self.targets.pop(target.subject, None)
        return 0

    def subscriptions(self):
        # As they are asked for: all at once would hold up the loop
        cdef Target target
        for target in list(self.targets.values()):
            if target.subscribed:
                yield target.subject

    def wants(self, bytes subject not None):
        found = self.targets.get(subject)
        return found is not None and (<Target>found).subscribed


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
        return self.engine.audience(target.subject) if self.sees_nodes else None

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


cdef object do_guarded(function, argument, more=None):
    """What an engine does; what it raises is its own affair, and told."""
    try:
        return function(argument) if more is None else function(argument, more)
    except Exception:
        logger.exception("%s of a backplane failed", repr(function))
        return None
