# What other nodes say to the connections here: a push or a close, for a name, a group or a service.

cdef bint push_here(Hub hub, Target target, const record_t *record, bytes message) except *:
    """Push what another node's service pushed; False: it is no push."""
    cdef payload_t payload
    cdef policy_t policy
    cdef Connection connection
    if not record_is_sound(record):
        return False
    try:
        key = record_key(record)
    except ValueError:
        return False
    policy.overflow = record.policy
    policy.key = NULL if key is None else <PyObject *>key
    payload.kind = record.kind
    payload.data = record.data
    payload.length = record.length
    payload.owner = <PyObject *>message
    if target.kind == TARGET_NAME:
        connection = hub.stored.get(target.name)
        if connection is not None:
            push_message(connection, &payload, &policy)
    else:
        for members in members_here(hub, target):
            fan_out_lanes(<Members>members, &payload, None, &policy)
    return True


cdef bint close_here(Hub hub, Target target, const record_t *record) except *:
    """Close whom another node wants closed; False: that is no close code, or no reason."""
    cdef int code
    cdef Connection connection
    code, reason = parse_close(record.data[:record.length])
    if code < 0:
        return False
    if target.kind == TARGET_NAME:
        connection = forget(hub, target.name)
        if connection is not None:
            start_close(connection, code, reason)
    else:
        for members in members_here(hub, target):
            close_members(<Members>members, code, reason)
    return True


cdef list members_here(Hub hub, Target target):
    """The sets of connections that a group or a service means here."""
    cdef Group group
    cdef Endpoint endpoint
    if target.kind == TARGET_GROUP:
        group = hub.groups.get(target.name)
        return [] if group is None else [group.members]
    return [endpoint.members for endpoint in hub.endpoints if endpoint.target is target]


cdef Py_ssize_t count_here(Hub hub, str kind, str name) except -1:
    """The connections of a group or, by its path, of a service."""
    cdef Endpoint endpoint
    cdef Py_ssize_t count = 0
    if kind == "group":
        group = hub.groups.get(name)
        return 0 if group is None else len(group)
    for endpoint in hub.endpoints:
        if endpoint.path == name:
            count += endpoint.members.count
    return count
