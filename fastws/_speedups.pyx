# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: binding=False, annotation_typing=False, autotestdict=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled core of fastws: this file is its table of contents, each part an idea of its own in `core/`.

One translation unit, so that calls between parts are plain C calls; parts are included bottom-up and each builds on
those above it.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_READ, PyBUF_SIMPLE, PyBUF_WRITE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

import asyncio
import asyncio.tasks
import collections
import collections.abc
import contextvars
import functools
import hashlib
import inspect
import logging
import os
import sys
import time
import weakref
import zlib

from fastws.errors import (
    ClientRoleError,
    ConcurrentReceiveError,
    ConfigurationError,
    ConnectionClosed,
    ForkedProcessError,
    GroupRemovedError,
    HandlerError,
    NoCurrentConnectionError,
    NotServingError,
    WrongThreadError,
)
from fastws import logs
from fastws.logs import Log

cdef extern from "Python.h":
    enum:
        PY_VECTORCALL_ARGUMENTS_OFFSET
        PYGEN_RETURN
        PYGEN_NEXT
    unsigned long PyThread_get_thread_ident() nogil
    bint PyCoro_CheckExact(object coroutine)
    int PyGC_Disable()
    int PyGC_Enable()
    object PyObject_Vectorcall(object function, PyObject **arguments, size_t count, PyObject *keywords)
    int PyIter_Send(object iterator, PyObject *value, PyObject **result) except -1
    PyObject *PyTuple_GET_ITEM(tuple items, Py_ssize_t index)
    bytearray PyByteArray_FromStringAndSize(char *data, Py_ssize_t length)
    # New references whose bytes are filled in afterwards
    PyObject *PyBytes_FromStringAndSize(const char *data, Py_ssize_t length) except NULL
    PyObject *PyUnicode_New(Py_ssize_t length, unsigned int highest) except NULL
    int PyUnicode_Resize(PyObject **text, Py_ssize_t length) except -1
    int _PyBytes_Resize(PyObject **data, Py_ssize_t length) except -1
    PyObject *PyUnicode_DecodeUTF8(const char *data, Py_ssize_t length, const char *errors) except NULL
    char *PyBytes_DATA "PyBytes_AS_STRING"(PyObject *data) nogil
    void *PyUnicode_DATA(PyObject *text) nogil
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyUnicode_FromObject(object text)
    object PyBytes_FromObject(object data)
    object PyContext_Copy(object context)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    int PyContextVar_Get(object variable, PyObject *default, PyObject **value) except -1
    object PyContextVar_Set(object variable, object value)

cdef extern from "<sys/socket.h>" nogil:
    """
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* Python ignores SIGPIPE where this does not exist */
    #endif
    """
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t send(int fd, const void *data, size_t length, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)

cdef extern from "memory.h" nogil:
    void *malloc "fastws_malloc"(size_t length)
    void *calloc "fastws_calloc"(size_t count, size_t length)
    void *realloc "fastws_realloc"(void *block, size_t length)
    long fastws_fail(long count)

cdef extern from "wire/vector.h" nogil:
    bint fastws_use_vectors(bint wanted)

cdef extern from "wire/mask.h" nogil:
    uint32_t fastws_mask_load(const uint8_t *key)
    uint32_t fastws_mask_rotate(uint32_t key, size_t done)
    uint64_t fastws_mask(uint8_t *target, const uint8_t *source, size_t length, uint32_t key)
    bint fastws_is_ascii(uint64_t seen)

cdef extern from "wire/utf8.h" nogil:
    ctypedef struct fastws_utf8_t:
        pass
    bint fastws_utf8_feed(fastws_utf8_t *state, const uint8_t *data, size_t length)
    bint fastws_utf8_complete(const fastws_utf8_t *state)

cdef extern from "loop/fork.h" nogil:
    bint fastws_forked
    int fastws_watch_forks()
    void fastws_part()
    void fastws_hold_signals()
    void fastws_release_signals()

cdef extern from "out/uring.h" nogil:
    enum:
        FASTWS_RING_UNSENT
        FASTWS_RING_OPEN
    ctypedef struct fastws_ring_t:
        int state
    bint fastws_ring_ready(fastws_ring_t *ring, unsigned int entries)
    void fastws_ring_put(fastws_ring_t *ring, int fd, const void *data, size_t length, ssize_t *result)
    void fastws_ring_run(fastws_ring_t *ring)
    void fastws_ring_close(fastws_ring_t *ring)

cdef extern from "out/crew.h" nogil:
    ctypedef struct fastws_crew_t:
        int count
    ctypedef void (*fastws_work_t)(void *job, int member) noexcept nogil
    fastws_crew_t *fastws_crew_new(int count)
    void fastws_crew_run(fastws_crew_t *crew, fastws_work_t work, void *job)
    void fastws_crew_end(fastws_crew_t *crew)
    size_t fastws_crew_take(size_t *next, size_t step)

if fastws_watch_forks():
    raise MemoryError

cdef class ClientConnection
cdef class Connection
cdef class Endpoint
cdef class HandlerCall
cdef class HandlerTask
cdef class Members
cdef class Node
cdef class SocketTransport
cdef class Target

# A part calls what stands above it. These are the calls that go the other way, by what happens:
#
#   a frame of ours is a client's     backlog -> masking_key
#                                     push -> notice_fork
#   a peer is slow, or too slow       backlog -> give_up_on, run_handler
#                                     handover -> abandon, fail, finish_sending, give_time
#   a group gets a name               fanout -> own_name
#   a socket brings or ends           transport -> leave_registries, plain_socket
#   a connection's turn comes         turns -> context_done, report_error, run_handler, take_from_inbox, tell_close
#   its deadline comes                hub -> look_at
#   its handler goes on               handler -> handler_ended
#   it ends                           closing -> arm_timer, leave_registries, run_handler
#                                     connection -> arm_timer
#   its server is in a hurry          endpoint -> on_deadline
#   its loop is closed                closed -> lose_connection
#   a debug build looks               fanout -> check_place, check_shared
#                                     slices -> check_outlet
#                                     connection -> check_connection

include "core/link.pxi"                 # intrusive lists
include "core/waiting.pxi"              # who awaits something that happens to a connection

# wire: bytes as RFC 6455 and RFC 7692 have them; no socket, no loop, no handler
include "core/wire/frame.pxi"           # a frame: its header as fields and as bytes
include "core/wire/close.pxi"           # the payload of a close frame
include "core/wire/deflate.pxi"         # compressed messages: what is remembered of them
include "core/wire/message.pxi"         # a message in the making, gathered in its final object
include "core/wire/reader.pxi"          # bytes in, messages and control frames out

# out: frames on their way to one or to many
include "core/out/payload.pxi"          # what a push is given
include "core/out/delivery.pxi"         # what became of it
include "core/out/chunk.pxi"            # the shared block of frames
include "core/out/outlet.pxi"           # a connection's end of it: collected, sent, blocked, sealed
include "core/out/backlog.pxi"          # what waits for a peer that does not read, and what is dropped of it
include "core/out/sending.pxi"          # what many outlets hold, sent in runs: by one system call each, by several threads
include "core/out/push.pxi"             # one frame to one connection
include "core/out/handover.pxi"         # the slow peer, from the first byte that the kernel does not take
include "core/out/fanout.pxi"           # one frame to many connections

# loop: whose turn it is, and the system below
include "core/loop/libuv.pxi"           # what we call of uvloop's libuv
include "core/loop/watching.pxi"        # who keeps the loop for long
include "core/loop/forking.pxi"         # a child of a fork, which has no part in all of this
include "core/loop/hubs.pxi"            # the hubs of this process: by thread, and by loop
include "core/loop/turns.pxi"           # who has to stop reading, and how it goes on
include "core/loop/slices.pxi"          # the end of a turn: all that collected leaves
include "core/loop/transport.pxi"       # a socket watched by uvloop's libuv, for connections over plain TCP
include "core/loop/closed.pxi"          # a loop that is closed under those whom it serves
include "core/loop/hub.pxi"             # what the connections of one loop share: buffer, turn, timer, registries

# connection: one live connection, and the service that it belongs to
include "core/connection/handler.pxi"     # calling a service, stepping coroutines without a Task
include "core/connection/endpoint.pxi"    # what the connections of one service share
include "core/connection/closing.pxi"     # the closing handshake, failing, letting go
include "core/connection/dispatch.pxi"    # from an event to its handler
include "core/connection/registry.pxi"    # names, groups, and the functions of the service API
include "core/connection/connection.pxi"  # what it knows, what a read brings, its face
include "core/connection/timing.pxi"      # ping, pong, idle and all deadlines
include "core/connection/client.pxi"      # a client whose messages are awaited

# nodes: this process among others, if there are any
include "core/nodes/nats.pxi"           # the protocol of NATS; no socket, no loop, no connection
include "core/nodes/resp.pxi"           # the protocol of Redis and Valkey; likewise
include "core/nodes/envelope.pxi"       # what nodes say to each other, as bytes
include "core/nodes/target.pxi"         # what others are told of under one subject
include "core/nodes/links.pxi"          # what workers of one machine say to each other
include "core/nodes/parts.pxi"          # what has come of messages in parts
include "core/nodes/serving.pxi"        # what others say to the connections here
include "core/nodes/voice.pxi"          # what a node says, and what it wants of others
include "core/nodes/node.pxi"           # whom it hears, what is missing, and whose a name is

include "core/checks.pxi"               # what holds in between, asked in debug builds
include "core/probe.pxi"                # the parts alone, for tests and measuring
