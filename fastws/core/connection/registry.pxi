# Names and groups: who is stored under what, who is in which group, and the functions of the service API that find
# their recipients there. All of it belongs to a hub; a disconnect costs what the connection itself was in.

cdef inline str own_name(object name, str what):
    if not isinstance(name, str):
        raise TypeError(f"a {what} name is a str, not {type(name).__name__}")
    if PyUnicode_GET_LENGTH(name) == 0:
        raise ValueError(f"a {what} name may not be empty")
    return own_text(name)


cdef inline Connection current(str function):
    """The connection whose handler runs, in this thread."""
    cdef Handling handling = current_handling(function)
    return handling.connection if handling.connection is not None else stand_in(handling.endpoint)


cdef inline Handling current_handling(str function):
    cdef object place = current_or_none()
    if type(place) is not Handling:
        # In a wrong thread, a connection would not help
        raise wrong_place(function) or NoCurrentConnectionError(function)
    check_thread((<Handling>place).endpoint.hub, function)
    return <Handling>place


cdef Connection stand_in(Endpoint endpoint):
    """For a task or timer that outlived its connection: a closed one, to which pushes are dropped as they were to that."""
    cdef Connection connection = Connection.__new__(Connection, endpoint)
    connection.state = CLOSED
    return connection


cdef inline object current_or_none():
    cdef PyObject *found = NULL
    PyContextVar_Get(current_place, NULL, &found)
    if found is NULL:
        return None
    place = <object>found
    Py_DECREF(place)
    return place


cdef Endpoint current_endpoint(str function):
    """The service whose handler, or background work, runs; None where none does."""
    cdef object place = current_or_none()
    cdef Endpoint endpoint
    if place is None:
        return None
    if type(place) is Endpoint:
        endpoint = <Endpoint>place
    else:
        endpoint = current_handling(function).endpoint
    check_thread(endpoint.hub, function)
    return endpoint


cdef list calling_endpoints(str function):
    """The endpoints of the service in one of whose methods we are, whoever called that. For want of a handler only."""
    cdef dict services
    error = wrong_place(function)
    if error is not None:
        raise error
    services = hub_here(function).services if hubs else {}
    frame = sys._getframe()
    while frame is not None:
        names = frame.f_code.co_varnames
        # Looked at for this name only: a frame keeps what it once showed
        if frame.f_code.co_argcount and names[0] == "self":
            endpoints = services.get(identity(frame.f_locals.get("self")))
            if endpoints is not None:
                return endpoints
        frame = frame.f_back
    raise NoCurrentConnectionError(function)


cdef list endpoints_of(object target, str function):
    """The endpoints of a class or an instance on this loop: several servers may serve a class."""
    cdef list endpoints
    if target is None:
        return calling_endpoints(function)
    endpoints = hub_here(function).services.get(identity(target))
    if endpoints is None:
        raise NotServingError(function, target)
    return endpoints


cdef Delivery broadcast(str function, uint8_t opcode, object message, object to, object exclude, object overflow,
                        object key):
    """Fan out to the connections of the service that runs, or of all endpoints of another."""
    cdef Endpoint endpoint = current_endpoint(function) if to is None else None
    cdef list endpoints
    if endpoint is not None:
        check_served(endpoint, function)
        return broadcast_at(endpoint, opcode, message, exclude, overflow, key)
    endpoints = endpoints_of(to, function)
    if len(endpoints) == 1:
        return broadcast_at(<Endpoint>endpoints[0], opcode, message, exclude, overflow, key)
    return broadcast_at_all(list(endpoints), opcode, message, exclude, overflow, key)


cdef inline int check_served(Endpoint endpoint, str function) except -1:
    """Refuse what is for the clients of a server."""
    if endpoint.is_client:
        raise ClientRoleError(function)
    return 0


cdef inline Delivery broadcast_at(Endpoint endpoint, uint8_t opcode, object message, object exclude, object overflow,
                                  object key):
    return fan_out_message(endpoint.members, opcode, message, exclude, overflow, key, endpoint.hub.node, endpoint.target)


cdef Delivery broadcast_at_all(list endpoints, uint8_t opcode, object message, object exclude, object overflow,
                               object key):
    cdef Delivery all_of_them = ABSENT
    cdef Delivery one
    if exclude is not None and type(exclude) is not Connection:
        exclude = tuple(exclude)
    for endpoint in endpoints:
        one = broadcast_at(<Endpoint>endpoint, opcode, message, exclude, overflow, key)
        all_of_them = Delivery(all_of_them.matched + one.matched, all_of_them.queued + one.queued,
                               all_of_them.dropped + one.dropped,
                               one.published if all_of_them.published is not False else False)
    return all_of_them


def service_context(Endpoint endpoint not None):
    """A context in which broadcasts go to the connections of a service."""
    context = contextvars.copy_context()
    context.run(current_place.set, endpoint)
    return context


# ---------------------------------------------------------------------------------------------------------------------
# Named connections

cdef inline Hub hub_caught_up(str function):
    """The hub that serves in this thread, which knows what other nodes have told it."""
    cdef Hub hub = hub_here(function)
    if hub.node is not None:
        hub.node.catch_up()
    return hub


cdef int store(Connection connection, object name) except -1:
    cdef Hub hub = connection.hub
    cdef Connection earlier
    check_served(connection.endpoint, "store_connection")
    name = own_name(name, "connection")
    if hub.node is not None:
        hub.node.catch_up()
    # First: to make an object may run others, who store and remove
    cdef set names = set() if connection.names is None else connection.names
    if connection.state == CLOSED:
        return 0
    if connection.names is None:
        connection.names = names
    connection.names.add(name)
    earlier = hub.stored.get(name)
    hub.stored[name] = connection
    if earlier is not None and earlier is not connection:
        earlier.names.discard(name)
    if hub.node is not None:
        hub.node.claim(name)
    return 0


cdef Connection forget(Hub hub, object name):
    """Take a name out of the store; returns who had it, or None."""
    cdef Connection connection
    name = own_name(name, "connection")
    connection = hub.stored.pop(name, None)
    if connection is not None:
        connection.names.discard(name)
        if hub.node is not None:
            hub.node.release(name)
    return connection


# ---------------------------------------------------------------------------------------------------------------------
# Groups

cdef Group need_group(Hub hub, object name):
    """The group of a name, or one that is nobody's yet. To make it may run others, who make it, too."""
    cdef Group group = hub.groups.get(name)
    return Group(name) if group is None else group


cdef Group group_to_join(Hub hub, object name, Group group):
    """Enter the group under its name, where there is none."""
    if name not in hub.groups and name in hub.retired:
        raise GroupRemovedError(name)
    return hub.groups.setdefault(name, group)


cdef Group group_to_push(Hub hub, object name):
    """The group, or None when nobody is in it."""
    cdef Group group
    name = own_name(name, "group")
    group = hub.groups.get(name)
    if group is None and name in hub.retired:
        raise GroupRemovedError(name)
    return group


cdef int join(Connection connection, object name) except -1:
    cdef Hub hub = connection.hub
    cdef Group group
    cdef Py_ssize_t place
    check_served(connection.endpoint, "add_connection_to_group")
    name = own_name(name, "group")
    if hub.node is not None:
        hub.node.catch_up()
    # What is made comes first: from then on nobody else runs
    group = need_group(hub, name)
    cdef dict memberships = {} if connection.memberships is None else connection.memberships
    if connection.state == CLOSED:
        return 0
    group = group_to_join(hub, name, group)
    if connection.memberships is None:
        connection.memberships = memberships
    if group in connection.memberships:
        return 0
    try:
        place = group.members.add(connection)
        try:
            connection.memberships[group] = place
        except MemoryError:
            group.members.remove(connection, place)
            raise
    except MemoryError:
        forget_if_empty(hub, group)
        raise
    if hub.node is not None and group.target is None:
        group.target = hub.node.want(TARGET_GROUP, name)
    return 0


cdef bint leave(Connection connection, object name) except *:
    cdef Group group
    name = own_name(name, "group")
    group = connection.hub.groups.get(name)
    if group is None or connection.memberships is None or group not in connection.memberships:
        return False
    leave_group(connection, group)
    return True


cdef int leave_group(Connection connection, Group group) except -1:
    """Leave a group, which vanishes with its last member."""
    take_out(connection, group)
    forget_if_empty(connection.hub, group)
    return 0


cdef int forget_if_empty(Hub hub, Group group) except -1:
    if group.members.count == 0 and not group.kept and hub.groups.get(group.name) is group:
        del hub.groups[group.name]
    return 0


cdef int take_out(Connection connection, Group group) except -1:
    cdef Py_ssize_t place = connection.memberships.pop(group)
    cdef Connection moved = group.members.remove(connection, place)
    cdef Target target = group.target
    if moved is not None:
        moved.memberships[group] = place
    if target is not None and group.members.count == 0:
        group.target = None
        if connection.hub.node is not None:
            connection.hub.node.unwant(target)
    return 0


cdef int leave_registries(Connection connection) except -1:
    """Take an ended connection out of everything that a push could find it in."""
    cdef Hub hub = connection.hub
    connection.endpoint.members.remove_connection(connection)
    for name in tuple(connection.names or ()):
        # To make the tuple may have run others, who removed names
        if hub.stored.get(name) is connection:
            del hub.stored[name]
            if hub.node is not None:
                hub.node.release(name)
    connection.names = None
    for group in list(connection.memberships or ()):
        # To make the list may have run others, who removed groups
        if group in connection.memberships:
            leave_group(connection, <Group>group)
    connection.memberships = None
    return 0


cdef bint remove_group(Hub hub, object name) except *:
    """Dissolve a group and retire its name, here and on all nodes."""
    name = own_name(name, "group")
    if name not in hub.groups and (hub.node is None or name in hub.retired or not hub.node.is_elsewhere(name)):
        return False
    dissolve(hub, name, 0 if hub.node is None else hub.node.next_stamp())
    if hub.node is not None:
        hub.node.on_group_removed(name)
    return True


cdef int dissolve(Hub hub, str name, object stamp) except -1:
    """Have a group be no more, and nobody join one of its name."""
    cdef Group group = hub.groups.get(name)
    cdef Connection connection
    # First: nobody can join any more, whoever runs meanwhile
    hub.retired[name] = stamp
    if group is not None:
        del hub.groups[name]
        while (connection := group.members.last()) is not None:
            take_out(connection, group)
    if len(hub.retired) > MAX_RETIRED_GROUPS:
        hub.retired.popitem(last=False)
    return 0


cdef int create_group(Hub hub, object name) except -1:
    cdef Group group
    name = own_name(name, "group")
    group = need_group(hub, name)
    hub.retired.pop(name, None)
    group = hub.groups.setdefault(name, group)
    group.kept = True
    if hub.node is not None:
        hub.node.on_group_created(name)
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# The connections of a service

@cython.final
cdef class Connections:
    # Those of all endpoints that a class or an instance is served at; the list is the hub's, which changes it
    cdef list endpoints

    def __cinit__(self, list endpoints not None):
        self.endpoints = endpoints

    # Public API

    def __len__(self):
        cdef Py_ssize_t count = 0
        for endpoint in self.endpoints:
            count += (<Endpoint>endpoint).members.count
        return count

    def __contains__(self, connection):
        return any([connection in (<Endpoint>endpoint).members for endpoint in self.endpoints])

    def __iter__(self):
        return iter([connection for endpoint in self.endpoints for connection in (<Endpoint>endpoint).members.snapshot()])

    def __repr__(self):
        return f"<{len(self)} connections>"


# ---------------------------------------------------------------------------------------------------------------------
# Public API: the functions of fastws.ws

def push_text(text, *, overflow=None, key=None):
    return deliver(current("push_text"), OP_TEXT, text, overflow, key, None, None)


def push_binary(data, *, overflow=None, key=None):
    return deliver(current("push_binary"), OP_BINARY, data, overflow, key, None, None)


def broadcast_text(text, *, to=None, exclude=None, overflow=None, key=None):
    return broadcast("broadcast_text", OP_TEXT, text, to, exclude, overflow, key)


def broadcast_binary(data, *, to=None, exclude=None, overflow=None, key=None):
    return broadcast("broadcast_binary", OP_BINARY, data, to, exclude, overflow, key)


def connections(service not None):
    return Connections.__new__(Connections, endpoints_of(service, "connections"))


def store_connection(name):
    store(current("store_connection"), name)


def remove_stored_connection(name):
    cdef Hub hub = hub_caught_up("remove_stored_connection")
    return forget(hub, name) is not None or hub.node is not None and hub.node.forget_elsewhere(own_name(name, "connection"))


def push_text_to_connection(name, text, *, overflow=None, key=None):
    return push_to_connection("push_text_to_connection", name, OP_TEXT, text, overflow, key)


def push_binary_to_connection(name, data, *, overflow=None, key=None):
    return push_to_connection("push_binary_to_connection", name, OP_BINARY, data, overflow, key)


cdef inline Delivery push_to_connection(str function, object name, uint8_t opcode, object message, object overflow,
                                        object key):
    cdef Hub hub = hub_caught_up(function)
    name = own_name(name, "connection")
    cdef Connection connection = hub.stored.get(name)
    if connection is not None or hub.node is None:
        return deliver(connection, opcode, message, overflow, key, None, None)
    return deliver(None, opcode, message, overflow, key, hub.node, hub.node.target(TARGET_NAME, name))


def add_connection_to_group(group):
    join(current("add_connection_to_group"), group)


def remove_connection_from_group(group):
    return leave(current("remove_connection_from_group"), group)


def push_text_to_group(group, text, *, exclude=None, overflow=None, key=None):
    return push_to_group("push_text_to_group", group, OP_TEXT, text, exclude, overflow, key)


def push_binary_to_group(group, data, *, exclude=None, overflow=None, key=None):
    return push_to_group("push_binary_to_group", group, OP_BINARY, data, exclude, overflow, key)


cdef inline Delivery push_to_group(str function, object name, uint8_t opcode, object message, object exclude,
                                   object overflow, object key):
    cdef Hub hub = hub_caught_up(function)
    cdef Group group = group_to_push(hub, name)
    cdef Target target = None
    if hub.node is not None:
        target = hub.node.target_of_group(group, name)
    return fan_out_message(members_of_group(group), opcode, message, exclude, overflow, key, hub.node, target)


cdef inline Members members_of_group(Group group):
    return NOBODY if group is None else group.members


def remove_connection_group(group):
    return remove_group(hub_caught_up("remove_connection_group"), group)


def create_connection_group(group):
    create_group(hub_caught_up("create_connection_group"), group)


def close_connection(int code=1000, reason=""):
    connection = current("close_connection")
    check_close_code(code)
    return start_close(connection, code, own_text(reason))


def close_stored_connection(name, int code=1000, reason=""):
    cdef Hub hub = hub_caught_up("close_stored_connection")
    cdef str own = own_text(reason)
    check_close_code(code)
    # Not when it has answered, which it may never do
    connection = forget(hub, name)
    if connection is not None:
        return start_close(connection, code, own)
    return hub.node is not None and hub.node.close_elsewhere(
        hub.node.target(TARGET_NAME, own_name(name, "connection")), code, own)


def close_connection_group(group, int code=1000, reason=""):
    cdef Hub hub = hub_caught_up("close_connection_group")
    cdef Group found = group_to_push(hub, group)
    cdef str own = own_text(reason)
    check_close_code(code)
    if hub.node is not None:
        hub.node.close_elsewhere(hub.node.target_of_group(found, group), code, own)
    return close_members(members_of_group(found), code, own)


cdef Py_ssize_t close_members(Members members, int code, str reason) except -1:
    """Send all of them a close frame; how many there were to close."""
    cdef Connection connection
    cdef Py_ssize_t closed = 0
    for connection in members.snapshot():
        closed += start_close(connection, code, reason)
    return closed


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
