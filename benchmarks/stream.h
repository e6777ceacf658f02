/* What the load generator and the floor server share: a byte stream of frames, taken apart without keeping it.
 *
 * stream_next() gives a stretch of payload at a time, so that nobody buffers a message. Lengths in network order,
 * no fragments, no control frames: both ends are ours, or a server that sends none within a measurement.
 */
#ifndef STREAM_H
#define STREAM_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIT_FIN 0x80
#define BIT_RSV1 0x40
#define BIT_MASK 0x80

typedef struct {
    uint8_t head[14];
    unsigned have;    /* bytes of head */
    int in_payload;   /* head is complete, payload is coming */
    uint64_t left;    /* payload bytes to come */
    uint64_t done;    /* payload bytes that came */
} stream_t;

typedef struct {
    const uint8_t *data;
    size_t length;
    int starts, ends; /* whether this is the first stretch of its frame, and the last */
} stretch_t;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(2);
}

static unsigned head_len(const uint8_t *head)
{
    unsigned length = head[1] & 127;
    return 2 + (length < 126 ? 0 : length == 126 ? 2 : 8) + (head[1] & BIT_MASK ? 4 : 0);
}

/* The next stretch of payload between *position and end, or 0 when more bytes are needed. */
static int stream_next(stream_t *stream, const uint8_t **position, const uint8_t *end, stretch_t *out)
{
    int starts = !stream->in_payload;
    if (starts) {
        while (stream->have < 2 || stream->have < head_len(stream->head)) {
            if (*position == end)
                return 0;
            stream->head[stream->have++] = *(*position)++;
        }
        unsigned small = stream->head[1] & 127, extended = small < 126 ? 0 : small == 126 ? 2 : 8;
        stream->left = extended ? 0 : small;
        for (unsigned i = 0; i < extended; i++)
            stream->left = stream->left << 8 | stream->head[2 + i];
        stream->done = 0;
        stream->in_payload = 1;
    } else if (*position == end) {
        return 0;
    }
    size_t there = end - *position, length = there < stream->left ? there : (size_t)stream->left;
    *out = (stretch_t){*position, length, starts, length == stream->left};
    *position += length;
    stream->left -= length;
    stream->done += length;
    if (out->ends)
        stream->in_payload = stream->have = 0;
    return 1;
}

/* Write a head without its masking key; returns its length. */
static unsigned put_head(uint8_t *out, uint8_t opcode, uint64_t length, uint8_t mask_bit)
{
    unsigned extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    out[0] = BIT_FIN | opcode;
    out[1] = mask_bit | (extended == 0 ? (uint8_t)length : extended == 2 ? 126 : 127);
    for (unsigned i = 0; i < extended; i++)
        out[2 + i] = (uint8_t)(length >> 8 * (extended - 1 - i));
    return 2 + extended;
}

static void allow_many_files(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void set_socket(int fd)
{
    int one = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void watch(int poll, int fd, void *object)
{
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLET, {.ptr = object}};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
}

#endif
