# The end of a turn: all that collected leaves, with one system call for each connection, in slices where there are many.
#
# A large fan-out takes milliseconds, so a turn makes SLICE_SENDS sends for it, or as many as SLICE_USECS allow, and leaves
# the rest to the turns after it. Who is written to meanwhile does not wait for that: everything else that collected in a
# turn is sent before the next slice, and if it is for one who still waits for its slice, then with what that would bring.

cdef enum dirty_kind:
    # An outlet is in the list of the frames that this turn sends, in that of a fan-out that goes on in slices, or in both;
    # in each of them once, because threads that share a list must not meet at an outlet
    DIRTY_THIS_TURN = 1
    DIRTY_LATER = 2


cdef int send_dirty(Hub hub) except -1:
    """One system call for each connection that has something pending; a large fan-out goes on in the next turn."""
    cdef outlet_t **dirty = hub.dirty
    cdef size_t count = hub.dirty_len
    cdef size_t capacity = hub.dirty_capacity
    cdef size_t done = 0
    # Whatever becomes dirty from here on belongs to the next list
    hub.dirty = NULL
    hub.dirty_len = 0
    hub.dirty_capacity = 0
    if count and (count <= hub.slice_sends or hub.later_pos == hub.later_len):
        # These do not wait for a fan-out that is under way
        done = send_slice(hub, dirty, count, DIRTY_THIS_TURN)
    if hub.later_pos < hub.later_len:
        hub.later_pos += send_slice(hub, hub.later + hub.later_pos, hub.later_len - hub.later_pos, DIRTY_LATER)
    if done < count and not put_off(hub, dirty + done, count - done):
        while done < count:
            done += send_slice(hub, dirty + done, count - done, DIRTY_THIS_TURN)
    if hub.dirty is NULL:
        hub.dirty = dirty
        hub.dirty_capacity = capacity
    else:
        free(dirty)
    return 0


cdef bint put_off(Hub hub, outlet_t **outlets, size_t count):
    """Leave the rest of a list to the next turns; what collects for them meanwhile goes with it.

    False: there is no memory for that.
    """
    cdef size_t left = hub.later_len - hub.later_pos
    cdef outlet_t **later = <outlet_t **>malloc((left + count) * sizeof(outlet_t *))
    cdef size_t i
    if later is NULL:
        return False
    if left:
        memcpy(later, hub.later + hub.later_pos, left * sizeof(outlet_t *))
    free(hub.later)
    hub.later = later
    hub.later_len = left
    hub.later_pos = 0
    for i in range(count):
        if outlets[i].dirty & DIRTY_LATER:
            outlets[i].dirty = DIRTY_LATER
            Py_DECREF(<object>outlets[i].connection)
        else:
            outlets[i].dirty = DIRTY_LATER
            later[hub.later_len] = outlets[i]
            hub.later_len += 1
    return True


cdef size_t send_slice(Hub hub, outlet_t **outlets, size_t count, dirty_kind kind):
    """Send what is pending at the first of these outlets, and forget them; how many they were."""
    cdef outlet_t *outlet
    cdef size_t done = 0
    cdef size_t i
    count = min(count, hub.slice_sends)
    if count >= hub.gil_sends:
        with nogil:
            done = send_for_a_while(&hub.senders, outlets, count, hub.slice_usecs)
        take_answers(outlets, done)
    else:
        while done < count:
            outlet_send(outlets[done])
            done += 1
    for i in range(done):
        outlets[i].dirty &= ~kind
        outlets[i].last_sent = hub.now
    # From here on others run: whoever pushes to one that is still ahead deals with what is left of it (send_now)
    for i in range(done):
        outlet = outlets[i]
        if outlet.left:
            try:
                sent_pending(<Connection>outlet.connection)
            except BaseException as error:
                hub.tell_later(error, <Connection>outlet.connection)
        if CHECKS:
            check_outlet(outlet)
        Py_DECREF(<object>outlet.connection)
    return done


cdef void forget_dirty(Hub hub):
    """Send nothing any more: the loop ends, or we do.

    A connection may die of it, and a finalizer of its user push to another: that begins new lists.
    """
    cdef outlet_t **dirty = hub.dirty
    cdef outlet_t **later = hub.later
    cdef size_t dirty_len = hub.dirty_len
    cdef size_t later_pos = hub.later_pos
    cdef size_t later_len = hub.later_len
    hub.dirty = hub.later = NULL
    hub.dirty_len = hub.dirty_capacity = hub.later_len = hub.later_pos = 0
    forget_outlets(dirty, dirty_len)
    forget_outlets(later + later_pos, later_len - later_pos)
    free(dirty)
    free(later)


cdef void forget_outlets(outlet_t **outlets, size_t count):
    cdef size_t i
    for i in range(count):
        outlets[i].dirty = 0
    for i in range(count):
        Py_DECREF(<object>outlets[i].connection)
