/* The least that a server can do on one thread: no language above it, no handler, no checks.
 *
 *   floor MODE      echo, or broadcast: every message to all connections; prints its port
 *
 * It collects what one read brought, or one turn of the loop, into one send per connection. It speaks with load.c, and
 * with the clients that are measured: it looks for nothing but the key in an opening handshake, which comes with one
 * read, believes every frame, and expects one publisher, or several whose messages are so small that each comes whole
 * with one read.
 */
#include <strings.h>

#include "../accept_key.h"
#include "../stream.h"
#include "wire/mask.h"

#define ANSWER                                                                          \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Accept: "
#define KEY_FIELD "\nSec-WebSocket-Key: "
#define READ_LEN 262144

typedef struct {
    uint8_t *data;
    size_t sent, length, capacity;
} bytes_t;

typedef struct connection {
    int fd, open;
    size_t place;     /* in the list of all */
    stream_t stream;
    bytes_t out;
} connection_t;

static connection_t **all;
static size_t count, capacity;
static bytes_t turn;  /* a broadcast server's frames of this turn */

static uint8_t *reserve(bytes_t *bytes, size_t extra)
{
    if (bytes->length + extra > bytes->capacity) {
        bytes->capacity = 2 * (bytes->length + extra);
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (!bytes->data)
            fail("realloc");
    }
    return bytes->data + bytes->length;
}

static void append(bytes_t *bytes, const void *data, size_t length)
{
    memcpy(reserve(bytes, length), data, length);
    bytes->length += length;
}

/* Send what waits; what the kernel does not take goes on waiting, and memory goes back once all is sent. */
static void flush_out(connection_t *connection)
{
    bytes_t *out = &connection->out;
    while (out->sent < out->length) {
        ssize_t sent = send(connection->fd, out->data + out->sent, out->length - out->sent, MSG_NOSIGNAL);
        if (sent < 0)
            return;
        out->sent += sent;
    }
    out->sent = out->length = 0;
    if (out->capacity > READ_LEN) {
        free(out->data);
        *out = (bytes_t){0};
    }
}

static void flush_turn(void)
{
    for (size_t i = 0; turn.length && i < count; i++) {
        connection_t *connection = all[i];
        ssize_t sent = 0;
        if (!connection->open)
            continue;
        if (connection->out.length == 0)
            sent = send(connection->fd, turn.data, turn.length, MSG_NOSIGNAL);
        if (sent < 0)
            sent = 0;
        if ((size_t)sent < turn.length)
            append(&connection->out, turn.data + sent, turn.length - sent);
    }
    turn.length = 0;
}

static void drop(connection_t *connection)
{
    all[connection->place] = all[--count];
    all[connection->place]->place = connection->place;
    close(connection->fd);
    free(connection->out.data);
    free(connection);
}

static void take(connection_t *connection, const uint8_t *data, size_t length, bytes_t *out)
{
    const uint8_t *end = data + length;
    stretch_t part;
    while (stream_next(&connection->stream, &data, end, &part)) {
        stream_t *stream = &connection->stream;
        if (part.starts)
            out->length += put_head(reserve(out, 10), stream->head[0] & 15, stream->left + part.length, 0);
        uint32_t key = fastws_mask_load(stream->head + head_len(stream->head) - 4);
        key = fastws_mask_rotate(key, stream->done - part.length);
        fastws_mask(reserve(out, part.length), part.data, part.length, key);
        out->length += part.length;
    }
}

/* Answer an opening handshake; 0 when there is no key in it. */
static int open_websocket(connection_t *connection, const uint8_t *data, size_t length)
{
    char accept[ACCEPT_LEN];
    size_t field = strlen(KEY_FIELD);
    for (size_t i = 0; i + field + KEY_LEN <= length; i++) {
        if (strncasecmp((const char *)data + i, KEY_FIELD, field) != 0)
            continue;
        accept_key((const char *)data + i + field, accept);
        append(&connection->out, ANSWER, strlen(ANSWER));
        append(&connection->out, accept, ACCEPT_LEN);
        append(&connection->out, "\r\n\r\n", 4);
        return connection->open = 1;
    }
    return 0;
}

/* 0 when the peer is gone. */
static int serve(connection_t *connection, int broadcasts)
{
    static uint8_t buffer[READ_LEN];
    ssize_t length;
    do {
        length = recv(connection->fd, buffer, sizeof buffer, 0);
        if (length == 0 || (length < 0 && errno != EAGAIN))
            return 0;
        if (length > 0 && connection->open) {
            take(connection, buffer, length, broadcasts ? &turn : &connection->out);
        } else if (length > 0 && !open_websocket(connection, buffer, length)) {
            return 0;
        }
        flush_out(connection);
    } while (length == sizeof buffer);
    return 1;
}

static void accept_all(int poll, int listener)
{
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        connection_t *connection = calloc(1, sizeof *connection);
        if (count == capacity)
            all = realloc(all, (capacity = 2 * capacity + 64) * sizeof *all);
        connection->fd = fd;
        connection->place = count;
        all[count++] = connection;
        set_socket(fd);
        watch(poll, fd, connection);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_len = sizeof address;
    struct epoll_event events[512];
    int poll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);
    int broadcasts = argc > 1 && strcmp(argv[1], "broadcast") == 0;

    allow_many_files();
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &address_len);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    set_socket(listener);
    watch(poll, listener, NULL);
    for (;;) {
        int ready = epoll_wait(poll, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            connection_t *connection = events[i].data.ptr;
            if (!connection)
                accept_all(poll, listener);
            else if (!serve(connection, broadcasts))
                drop(connection);
        }
        flush_turn();
    }
}
