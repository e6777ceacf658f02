/* The clients that the load generator plays: how they connect, what they send, and what they accept.
 *
 * Connecting goes by crowds, so that the server is not waited for once per client. Messages of a client are all alike (when
 * compressed, of a set), so what is owed is a place in an endless repetition of frames made before.
 */
#ifndef CLIENTS_H
#define CLIENTS_H

#include "meter.h"
#include "wire.h"

#define READ_LEN 1048576
#define CROWD 64          /* clients that connect at the same time */
#define VARIANTS 64       /* different messages, when the server compresses: a history must not hold all of them alike */
#define MARK_LEN 8        /* that a message of a chat begins with: its sender */
#define PATIENCE 15       /* seconds for a handshake */
#define SMALL_BUFFER 4096 /* bytes, of those who do not read */
#define KEY "\x37\xfa\x21\x3d"
#define REQUEST                                                                                    \
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"           \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
#define OFFER "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

typedef struct {
    uint8_t *data;
    size_t frame_len, length;
} frames_t;

typedef struct {
    wire_t wire;
    stream_t stream;
    const frames_t *frames;
    uint64_t owed, sent;       /* bytes of frames to send, and sent */
    uint64_t asked, answered;  /* messages */
    uint64_t own;              /* messages of a chat that came back to their sender and were not looked at yet */
    double *asked_at;          /* of the last `window` messages */
    char mark[MARK_LEN + 1], seen[MARK_LEN];
} client_t;

static int poll_fd, port, deflates, secure;
static uint64_t size, window;

/* --- Messages */

/* Text that compresses about as well as a feed of prices does. */
static void write_quotes(uint8_t *out, uint64_t variant)
{
    static const char *names[] = {"AAPL", "MSFT", "NVDA", "AMZN", "META", "TSLA", "ORCL", "INTC"};
    uint64_t state = 0x9e3779b97f4a7c15u * (variant + 1), length = 0;
    char quote[128];
    while (length < size) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        unsigned cents = state % 50000, volume = state >> 32 & 4095;
        int part = snprintf(quote, sizeof quote, "{\"symbol\":\"%s\",\"bid\":%u.%02u,\"volume\":%u},",
                            names[state >> 60 & 7], cents / 100, cents % 100, volume);
        uint64_t fits = size - length < (uint64_t)part ? size - length : (uint64_t)part;
        memcpy(out + length, quote, fits);
        length += fits;
    }
}

static void write_text(uint8_t *out, uint64_t variant, const char *mark)
{
    for (uint64_t i = 0; i < size; i++)
        out[i] = 'a' + i % 26;
    if (deflates)
        write_quotes(out, variant);
    memcpy(out, mark, strlen(mark));
}

static void make_frames(frames_t *frames, const char *mark)
{
    uint8_t head[14];
    unsigned head_length = put_head(head, 1, size, BIT_MASK);
    memcpy(head + head_length, KEY, 4);
    head_length += 4;
    frames->frame_len = head_length + size;
    uint64_t fit = 1 + READ_LEN / frames->frame_len, wanted = deflates ? VARIANTS : window;
    uint64_t copies = *mark ? 1 : wanted < fit ? wanted : fit;
    frames->length = frames->frame_len * copies;
    frames->data = malloc(frames->length);
    for (uint64_t copy = 0; copy < copies; copy++) {
        uint8_t *frame = frames->data + copy * frames->frame_len;
        memcpy(frame, head, head_length);
        write_text(frame + head_length, copy, mark);
        for (uint64_t i = 0; i < size; i++)
            frame[head_length + i] ^= (uint8_t)KEY[i % 4];
    }
}

/* --- Connecting */

static int start_connect(int receive_buffer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {PATIENCE, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    return fd;
}

static void ask_to_upgrade(const wire_t *wire)
{
    const char *request = deflates ? REQUEST OFFER "\r\n" : REQUEST "\r\n";
    if (wire_send(wire, request, strlen(request)) != (ssize_t)strlen(request))
        fail("send");
}

/* Byte by byte, so that no frame behind the head is taken; a plain socket lets us look ahead. */
static size_t read_head(const wire_t *wire, char *head, size_t room)
{
    size_t length = 0;
    for (;;) {
        ssize_t more = wire->tls ? wire_recv(wire, head + length, 1) : recv(wire->fd, head + length, room - length, MSG_PEEK);
        if (more <= 0)
            fail("handshake");
        head[length + more] = 0;
        const char *blank = strstr(head, "\r\n\r\n");
        size_t taken = wire->tls || !blank ? (size_t)more : (size_t)(blank + 4 - head) - length;
        if (!wire->tls && recv(wire->fd, head + length, taken, 0) != (ssize_t)taken)
            fail("handshake");
        length += taken;
        if (blank || length == room)
            return length;
    }
}

static void expect_upgrade(const wire_t *wire)
{
    char head[4097];
    size_t length = read_head(wire, head, sizeof head - 1);
    head[length] = 0;
    if (memcmp(head, "HTTP/1.1 101 ", 13)) {
        fprintf(stderr, "refused: %s\n", head);
        exit(2);
    }
    if (deflates && !strstr(head, "permessage-deflate")) {
        fprintf(stderr, "the server does not compress\n");
        exit(2);
    }
}

/* Whole handshakes of up to a crowd of clients; each has its wire. */
static void connect_crowd(wire_t *wires, uint64_t count, int receive_buffer)
{
    for (uint64_t i = 0; i < count; i++)
        wires[i] = (wire_t){start_connect(receive_buffer), NULL};
    for (uint64_t i = 0; i < count; i++) {
        if (secure)
            wire_secure(&wires[i]);
        ask_to_upgrade(&wires[i]);
    }
    for (uint64_t i = 0; i < count; i++)
        expect_upgrade(&wires[i]);
}

static void open_client(client_t *client, wire_t wire, const frames_t *frames)
{
    client->wire = wire;
    client->frames = frames;
    client->asked_at = calloc(window, sizeof(double));
    set_socket(wire.fd);
    watch(poll_fd, wire.fd, client);
}

static void open_clients(client_t *all, uint64_t count, const frames_t *frames)
{
    wire_t wires[CROWD];
    for (uint64_t done = 0; done < count; done += CROWD) {
        uint64_t crowd = count - done < CROWD ? count - done : CROWD;
        connect_crowd(wires, crowd, 0);
        for (uint64_t i = 0; i < crowd; i++)
            open_client(&all[done + i], wires[i], frames);
    }
}

/* Clients who only connect: nobody reads what they are sent. */
static void open_silent(uint64_t count, int receive_buffer)
{
    wire_t wires[CROWD];
    for (uint64_t done = 0; done < count; done += CROWD)
        connect_crowd(wires, count - done < CROWD ? count - done : CROWD, receive_buffer);
}

/* --- Sending and receiving */

static void send_owed(client_t *client)
{
    const frames_t *frames = client->frames;
    while (client->sent < client->owed) {
        size_t place = client->sent % frames->length, length = frames->length - place;
        if (length > client->owed - client->sent)
            length = client->owed - client->sent;
        ssize_t sent = wire_send(&client->wire, frames->data + place, length);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0)
            fail("send");
        client->sent += sent;
    }
}

static void ask(client_t *client, double time)
{
    client->asked_at[client->asked++ % window] = time;
    client->owed += client->frames->frame_len;
}

/* Pings and pongs are passed over. */
static int is_text(const stream_t *stream)
{
    uint8_t opcode = stream->head[0] & 15;
    return opcode != 9 && opcode != 10;
}

/* Whether the frame that came is a message: it must be like what was sent. */
static int is_message(const stream_t *stream)
{
    if (!is_text(stream))
        return 0;
    int alike = deflates ? stream->head[0] == (BIT_FIN | BIT_RSV1 | 1) && stream->done < size
                         : stream->head[0] == (BIT_FIN | 1) && stream->done == size;
    if (!alike) {
        fprintf(stderr, "not what was sent: head %02x, %llu bytes\n", stream->head[0], (unsigned long long)stream->done);
        exit(2);
    }
    return 1;
}

static void note_mark(client_t *client, const stretch_t *part)
{
    uint64_t place = client->stream.done - part->length;
    for (size_t i = 0; i < part->length && place + i < MARK_LEN; i++)
        client->seen[place + i] = (char)part->data[i];
    client->own += part->ends && memcmp(client->seen, client->mark, MARK_LEN) == 0;
}

/* What the warm-up brings is compared with what was sent, byte by byte; afterwards only its length is. */
static void expect_text(const stream_t *stream, const stretch_t *part)
{
    uint64_t place = stream->done - part->length;
    for (size_t i = 0; i < part->length; i++) {
        if (part->data[i] != 'a' + (place + i) % 26) {
            fprintf(stderr, "not what was sent: another text\n");
            exit(2);
        }
    }
}

/* Count the messages that are there. */
static uint64_t receive(client_t *client)
{
    static uint8_t buffer[READ_LEN];
    uint64_t messages = 0;
    ssize_t length;
    stretch_t part;
    do {
        length = wire_recv(&client->wire, buffer, sizeof buffer);
        if (length == 0 || (length < 0 && errno != EAGAIN)) {
            fprintf(stderr, "the server closed a connection\n");
            exit(2);
        }
        const uint8_t *position = buffer;
        while (length > 0 && stream_next(&client->stream, &position, buffer + length, &part)) {
            messages += part.ends && is_message(&client->stream);
            if (*client->mark)
                note_mark(client, &part);
            else if (!warm && !deflates && is_text(&client->stream))
                expect_text(&client->stream, &part);
        }
    } while (length == sizeof buffer || (length > 0 && client->wire.tls));
    return messages;
}

#endif
