# Sending what many outlets hold, without the GIL: in runs, each by one system call where the kernel lets us, and with
# the help of other threads where the user wants that.
#
# A run is taken by one thread, which only sends: it reads the outlet and what is pending there, and notes in the outlet
# what the kernel said. Chunks, and whatever else outlets share, are touched by the loop's thread alone, when all runs
# are done and it has the GIL again. Runs are taken in order, so those that are done are the first ones, whoever did them and however long it took.

cdef extern from *:
    """
    static inline void fastws_prefetch(const void *place, size_t length) {
        for (size_t i = 0; i < length; i += 64)
            __builtin_prefetch((const char *)place + i, 1);
    }
    """
    void fastws_prefetch(const void *place, size_t length) noexcept nogil

cdef enum:
    RUN = 64                   # sends that one thread takes at a time, and looks at the clock thereafter
    RING_SENDS = 16            # from so many sends in a run on, one system call makes them
    RING_LEN = 65536           # bytes; what is longer is sent one by one, or a run would take too long
    HELPED_SENDS = 256         # from so many sends in a row on, helpers are woken up
    MAX_HELPERS = 15


ctypedef struct senders_t:
    size_t run_len             # sends; see RUN
    size_t ring_sends          # see RING_SENDS; too many to happen where io_uring is not wanted
    size_t helped_sends        # see HELPED_SENDS
    int wanted                 # helpers
    fastws_crew_t *crew        # these, once there was something to do for them
    fastws_ring_t rings[MAX_HELPERS + 1]   # the loop's own, and one for each helper


ctypedef struct slice_t:
    # What the members of a crew share
    senders_t *senders
    outlet_t **outlets
    size_t count
    size_t taken               # of these; counted atomically
    timespec start
    long usecs                 # microseconds; later than that no run begins


cdef void senders_init(senders_t *senders, bint by_ring, int helpers, bint always) noexcept:
    """Send in this manner; `always`: also where it does not pay, which only tests want."""
    senders_end(senders)
    senders.run_len = 4 if always else RUN
    senders.ring_sends = <size_t>-1 if not by_ring else 1 if always else RING_SENDS
    senders.helped_sends = 1 if always else HELPED_SENDS
    senders.wanted = helpers


cdef void senders_end(senders_t *senders) noexcept:
    """Let all threads and rings go; they come back when they are needed."""
    cdef int i
    if senders.crew is not NULL:
        fastws_crew_end(senders.crew)
        senders.crew = NULL
    for i in range(MAX_HELPERS + 1):
        fastws_ring_close(&senders.rings[i])


cdef int senders_rings(const senders_t *senders) noexcept:
    """How many rings are open."""
    cdef int i
    cdef int count = 0
    for i in range(MAX_HELPERS + 1):
        count += senders.rings[i].state == FASTWS_RING_OPEN
    return count


cdef void put_run(fastws_ring_t *ring, outlet_t **outlets, size_t count) noexcept nogil:
    """Make the sends of a run with one system call, but for those that need more than one piece of memory."""
    cdef outlet_t *outlet
    cdef size_t i
    for i in range(count):
        outlet = outlets[i]
        outlet.sent = <size_t>FASTWS_RING_UNSENT
        if outlet_ready(outlet) and outlet.pending.part_count == 0 and outlet.pending.length <= RING_LEN:
            fastws_ring_put(ring, outlet.fd, outlet.pending.data, outlet.pending.length, <ssize_t *>&outlet.sent)
    fastws_ring_run(ring)


cdef void send_run(fastws_ring_t *ring, outlet_t **outlets, size_t count, size_t ring_sends) noexcept nogil:
    """Send at these outlets, and leave in `sent` what the kernel said."""
    cdef bint by_ring = count >= ring_sends and fastws_ring_ready(ring, RUN)
    cdef outlet_t *outlet
    cdef ssize_t sent
    cdef size_t i
    if by_ring:
        put_run(ring, outlets, count)
    for i in range(count):
        outlet = outlets[i]
        if not by_ring and i + 1 < count:
            # The kernel's send leaves nothing of ours in the caches
            fastws_prefetch(outlets[i + 1], sizeof(outlet_t))
        sent = <ssize_t>outlet.sent
        if outlet_ready(outlet) and (not by_ring or sent == FASTWS_RING_UNSENT or sent == -EINTR):
            outlet.sent = <size_t>chunk_send(outlet.fd, outlet.pending)


cdef void send_share(void *job, int member) noexcept nogil:
    """Take one run after the other until there are no more, or the time is over."""
    cdef slice_t *share = <slice_t *>job
    cdef senders_t *senders = share.senders
    cdef timespec now
    cdef size_t first
    while True:
        first = fastws_crew_take(&share.taken, senders.run_len)
        if first >= share.count:
            return
        send_run(&senders.rings[member], share.outlets + first, min(senders.run_len, share.count - first),
                 senders.ring_sends)
        clock_gettime(CLOCK_MONOTONIC, &now)
        if (now.tv_sec - share.start.tv_sec) * 1000000 + (now.tv_nsec - share.start.tv_nsec) // 1000 >= share.usecs:
            return


cdef size_t send_for_a_while(senders_t *senders, outlet_t **outlets, size_t count, long usecs) noexcept nogil:
    """Send from one outlet after the other until a slice of time is over; how many they were. Then take_answers()."""
    cdef slice_t share
    share.senders = senders
    share.outlets = outlets
    share.count = count
    share.taken = 0
    share.usecs = usecs
    clock_gettime(CLOCK_MONOTONIC, &share.start)
    if senders.wanted and senders.crew is NULL and count >= senders.helped_sends:
        senders.crew = fastws_crew_new(senders.wanted)
    if senders.crew is not NULL and count >= senders.helped_sends:
        fastws_crew_run(senders.crew, send_share, &share)
    else:
        send_share(&share, 0)
    return min(share.taken, count)


cdef void take_answers(outlet_t **outlets, size_t count) noexcept:
    """Take note of what the kernel said to the sends of send_for_a_while()."""
    cdef size_t i
    for i in range(count):
        if outlet_ready(outlets[i]):
            outlet_sent(outlets[i], <ssize_t>outlets[i].sent)
        else:
            outlets[i].sent = 0
            outlets[i].left = outlets[i].pending is not NULL
