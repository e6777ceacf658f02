# Intrusive lists: a thing that is at most in one of them carries its own place, and is put in and taken out at no cost.

ctypedef struct link_t:
    # Points to itself while it hangs nowhere; so does the head of an empty list
    link_t *next
    link_t *previous
    PyObject *connection       # borrowed: it takes itself out before it goes


cdef inline void link_init(link_t *link, PyObject *connection) noexcept:
    link.next = link
    link.previous = link
    link.connection = connection


cdef inline void link_remove(link_t *link) noexcept:
    link.next.previous = link.previous
    link.previous.next = link.next
    link.next = link
    link.previous = link


cdef inline void link_append(link_t *head, link_t *link) noexcept:
    link.next = head
    link.previous = head.previous
    head.previous.next = link
    head.previous = link
