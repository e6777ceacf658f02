/* Many sends with one system call: a ring of requests that the kernel reads
 * and a ring of answers that it writes (io_uring).
 *
 * What it saves is the way into the kernel and back for each send, which is a
 * seventh of a small one. All requests say MSG_DONTWAIT, so each is answered
 * before the system call returns: nothing is ever under way between two calls,
 * and a descriptor or a buffer is never in use longer than that.
 *
 * A ring belongs to the thread that opens it (SINGLE_ISSUER) and asks the
 * kernel for nothing behind its back (DEFER_TASKRUN). Both exist since Linux
 * 6.1; where they do not, or where io_uring is forbidden, as in many
 * containers, opening fails once and everything is sent one by one. The
 * structures are the kernel's own and never change; they are written down here
 * because the headers that wheels are built with are older.
 *
 * A child of a fork would share the rings with its parent, and move their ends
 * under its hands. So they are not mapped there, and refused by the pid.
 */
#ifndef FASTWS_URING_H
#define FASTWS_URING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a request's result says until the kernel has answered it. */
enum { FASTWS_RING_UNSENT = -4096 };

enum { FASTWS_RING_UNTRIED, FASTWS_RING_OPEN, FASTWS_RING_REFUSED };

typedef struct fastws_sqe fastws_sqe_t;
typedef struct fastws_cqe fastws_cqe_t;

typedef struct {
    int state;
    int fd;
    pid_t process; /* that opened it: a fork has no part in it */
    unsigned count; /* requests that wait to be submitted */
    unsigned mask;
    unsigned answers_mask;
    unsigned *tail; /* of the requests; ours to move */
    unsigned *answers_head; /* ours to move */
    unsigned *answers_tail; /* the kernel's */
    fastws_sqe_t *requests;
    fastws_cqe_t *answers;
    void *rings; /* where both are mapped */
    size_t rings_len;
    size_t requests_len;
} fastws_ring_t;

#if defined(__linux__) && !defined(__alpha__)

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FASTWS_SYS_SETUP = 425,
    FASTWS_SYS_ENTER = 426,
    FASTWS_OP_SEND = 26,
    FASTWS_GETEVENTS = 1 << 0,
    FASTWS_SUBMIT_ALL = 1 << 7,
    FASTWS_SINGLE_ISSUER = 1 << 12,
    FASTWS_DEFER_TASKRUN = 1 << 13,
    FASTWS_REQUESTS_AT = 0x10000000,
};

struct fastws_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t priority;
    int32_t fd;
    uint64_t offset;
    uint64_t data;
    uint32_t length;
    uint32_t message_flags;
    uint64_t user_data;
    uint64_t rest[3];
};

struct fastws_cqe {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

typedef struct {
    uint32_t head, tail, mask, entries, flags, dropped, array, reserved;
    uint64_t address;
} fastws_sq_offsets_t;

typedef struct {
    uint32_t head, tail, mask, entries, overflow, cqes, flags, reserved;
    uint64_t address;
} fastws_cq_offsets_t;

typedef struct {
    uint32_t sq_entries, cq_entries, flags, cpu, idle, features, queue, reserved[3];
    fastws_sq_offsets_t sq;
    fastws_cq_offsets_t cq;
} fastws_ring_params_t;

static inline void fastws_ring_close(fastws_ring_t *ring)
{
    if (ring->state == FASTWS_RING_OPEN) {
        if (ring->process == getpid()) {
            munmap(ring->requests, ring->requests_len);
            munmap(ring->rings, ring->rings_len);
        }
        close(ring->fd);
    }
    ring->state = FASTWS_RING_UNTRIED;
}

/* Map the two rings, which the kernel laid out in one piece, and the requests. */
static inline int fastws_ring_map(fastws_ring_t *ring, const fastws_ring_params_t *params)
{
    const int access = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    size_t requests_end = params->sq.array + params->sq_entries * sizeof(uint32_t);
    size_t answers_end = params->cq.cqes + params->cq_entries * sizeof(fastws_cqe_t);
    uint32_t *array;
    uint32_t i;
    ring->rings_len = requests_end > answers_end ? requests_end : answers_end;
    ring->requests_len = params->sq_entries * sizeof(fastws_sqe_t);
    ring->rings = mmap(NULL, ring->rings_len, access, flags, ring->fd, 0);
    if (ring->rings == MAP_FAILED)
        return 0;
    ring->requests = mmap(NULL, ring->requests_len, access, flags, ring->fd, FASTWS_REQUESTS_AT);
    if (ring->requests == MAP_FAILED) {
        munmap(ring->rings, ring->rings_len);
        return 0;
    }
    madvise(ring->rings, ring->rings_len, MADV_DONTFORK);
    madvise(ring->requests, ring->requests_len, MADV_DONTFORK);
    ring->tail = (unsigned *)((char *)ring->rings + params->sq.tail);
    ring->mask = params->sq_entries - 1;
    ring->answers_head = (unsigned *)((char *)ring->rings + params->cq.head);
    ring->answers_tail = (unsigned *)((char *)ring->rings + params->cq.tail);
    ring->answers_mask = params->cq_entries - 1;
    ring->answers = (fastws_cqe_t *)((char *)ring->rings + params->cq.cqes);
    /* Requests are taken in the order of their places */
    array = (uint32_t *)((char *)ring->rings + params->sq.array);
    for (i = 0; i < params->sq_entries; i++)
        array[i] = i;
    return 1;
}

/* Whether the ring may be used by this thread; the first question opens it, for `entries` requests at a time. */
static inline int fastws_ring_ready(fastws_ring_t *ring, unsigned entries)
{
    fastws_ring_params_t params;
    if (ring->state == FASTWS_RING_OPEN && ring->process != getpid()) {
        fastws_ring_close(ring);
        ring->state = FASTWS_RING_REFUSED;
    }
    if (ring->state != FASTWS_RING_UNTRIED)
        return ring->state == FASTWS_RING_OPEN;
    ring->state = FASTWS_RING_REFUSED;
    ring->process = getpid();
    ring->count = 0;
    memset(&params, 0, sizeof(params));
    params.flags = FASTWS_SUBMIT_ALL | FASTWS_SINGLE_ISSUER | FASTWS_DEFER_TASKRUN;
    ring->fd = (int)syscall(FASTWS_SYS_SETUP, entries, &params);
    if (ring->fd < 0)
        return 0;
    if (fastws_ring_map(ring, &params))
        ring->state = FASTWS_RING_OPEN;
    else
        close(ring->fd);
    return ring->state == FASTWS_RING_OPEN;
}

/* Add a send; *result becomes what send() would return, or minus errno, when fastws_ring_run() returns. */
static inline void fastws_ring_put(fastws_ring_t *ring, int fd, const void *data, size_t length, ssize_t *result)
{
    fastws_sqe_t *request = &ring->requests[(*ring->tail + ring->count++) & ring->mask];
    memset(request, 0, sizeof(*request));
    request->opcode = FASTWS_OP_SEND;
    request->fd = fd;
    request->data = (uintptr_t)data;
    request->length = (uint32_t)length;
    request->message_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    request->user_data = (uintptr_t)result;
    *result = FASTWS_RING_UNSENT;
}

/* Take the answers that are there; how many. */
static inline unsigned fastws_ring_reap(fastws_ring_t *ring)
{
    unsigned head = *ring->answers_head;
    unsigned count = __atomic_load_n(ring->answers_tail, __ATOMIC_ACQUIRE) - head;
    unsigned i;
    for (i = 0; i < count; i++) {
        const fastws_cqe_t *answer = &ring->answers[(head + i) & ring->answers_mask];
        *(ssize_t *)(uintptr_t)answer->user_data = answer->result;
    }
    __atomic_store_n(ring->answers_head, head + count, __ATOMIC_RELEASE);
    return count;
}

/* Make all sends that were added. What the kernel did not take stays FASTWS_RING_UNSENT, and the ring is given up. */
static inline void fastws_ring_run(fastws_ring_t *ring)
{
    unsigned left = ring->count, flying = 0;
    int broken = 0;
    __atomic_store_n(ring->tail, *ring->tail + left, __ATOMIC_RELEASE);
    ring->count = 0;
    while (left || flying) {
        long taken = syscall(FASTWS_SYS_ENTER, ring->fd, left, left + flying, FASTWS_GETEVENTS, NULL, 0);
        if (taken >= 0) {
            left -= (unsigned)taken;
            flying += (unsigned)taken;
        } else if (errno != EINTR) {
            broken = 1;
            left = 0;
        }
        flying -= fastws_ring_reap(ring);
    }
    if (broken) {
        fastws_ring_close(ring);
        ring->state = FASTWS_RING_REFUSED;
    }
}

#else

static inline void fastws_ring_close(fastws_ring_t *ring)
{
    (void)ring;
}

static inline int fastws_ring_ready(fastws_ring_t *ring, unsigned entries)
{
    (void)ring;
    (void)entries;
    return 0;
}

static inline void fastws_ring_put(fastws_ring_t *ring, int fd, const void *data, size_t length, ssize_t *result)
{
    (void)ring;
    (void)fd;
    (void)data;
    (void)length;
    (void)result;
}

static inline void fastws_ring_run(fastws_ring_t *ring)
{
    (void)ring;
}

#endif

#endif
