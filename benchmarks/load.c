/* Load for a WebSocket server, from one thread, and what the server spent on it.
 *
 *   load QUESTION PORT PID CONNECTIONS SIZE WINDOW SECONDS
 *
 *   echo        every connection keeps WINDOW messages under way; a round trip is timed
 *   broadcast   the first connection publishes, WINDOW messages under way; timed until the last connection has one
 *   idle        resident memory of the server per connection
 *   handshake   opening handshakes, CONNECTIONS at a time; each is cut off with a reset
 *
 * Messages are text of SIZE bytes. A fifth of SECONDS comes before to warm up, and is not counted. Prints one JSON object.
 * CPU time is the server's own clock (user and system, all threads), read when counting begins and ends.
 */
#include <math.h>
#include <time.h>

#include "stream.h"

#define READ_LEN 1048576
#define WARM_CONNECTIONS 100  /* that an idle server has before its memory is read the first time */
#define REQUEST                                                                                    \
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"           \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

typedef struct {
    int fd;
    stream_t stream;
    uint64_t owed, sent;       /* bytes of frames to send, and sent */
    uint64_t asked, answered;  /* messages */
    double *asked_at;          /* of the last WINDOW messages */
} connection_t;

static int poll_fd, port, pid;
static uint64_t connections, size, window;
static double seconds;

/* --- Clocks and memory */

static double read_clock(clockid_t id)
{
    struct timespec time;
    if (clock_gettime(id, &time) < 0)
        fail("clock_gettime");
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static double server_cpu(void)
{
    clockid_t id;
    if ((errno = clock_getcpuclockid(pid, &id)))
        fail("clock_getcpuclockid");
    return read_clock(id);
}

static double server_memory(void)
{
    char path[64];
    double pages;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*s %lf", &pages) != 1)
        fail(path);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* --- Latencies: counted in steps of 2 % */

#define STEP log(1.02)
static uint64_t histogram[2048], timed;

static void note_latency(double elapsed)
{
    int place = elapsed < 1e-7 ? 0 : (int)(log(elapsed / 1e-7) / STEP);
    histogram[place < 2048 ? place : 2047]++;
    timed++;
}

static double percentile(double share)
{
    uint64_t seen = 0;
    for (int i = 0; i < 2048; i++)
        if ((seen += histogram[i]) > share * timed)
            return 1e-7 * exp((i + 0.5) * STEP);
    return 0;
}

/* --- Counting: from the end of the warm-up on */

static double begin, end, cpu;
static uint64_t counted, warm;

static void set_times(void)
{
    begin = now() + seconds / 5;
    end = begin + seconds;
}

/* 0 when it is over. */
static int go_on(void)
{
    double time = now();
    if (!warm && time >= begin) {
        warm = 1;
        begin = time;
        cpu = server_cpu();
        counted = timed = 0;
        memset(histogram, 0, sizeof histogram);
    }
    return time < end;
}

static void report(const char *what)
{
    double elapsed = now() - begin, spent = server_cpu() - cpu;
    if (!counted) {
        fprintf(stderr, "nothing came in %.1f s\n", elapsed);
        exit(2);
    }
    printf("{\"%s_per_second\": %.1f, \"cpu_us\": %.4f, \"cpu_share\": %.3f", what, counted / elapsed,
           spent / counted * 1e6, spent / elapsed);
    if (timed)
        printf(", \"p50_ms\": %.4f, \"p99_ms\": %.4f", percentile(0.5) * 1e3, percentile(0.99) * 1e3);
    puts("}");
}

/* --- Connections */

static int start_connect(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    if (send(fd, REQUEST, strlen(REQUEST), MSG_NOSIGNAL) != (ssize_t)strlen(REQUEST))
        fail("send");
    return fd;
}

/* Byte by byte, so that no frame behind it is taken. */
static void finish_connect(int fd)
{
    char head[4096];
    size_t length = 0;
    do {
        if (length == sizeof head || recv(fd, head + length++, 1, 0) != 1)
            fail("handshake");
    } while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4));
    if (memcmp(head, "HTTP/1.1 101 ", 13)) {
        fprintf(stderr, "refused: %.*s\n", (int)length, head);
        exit(2);
    }
}

static void open_connection(connection_t *connection)
{
    connection->fd = start_connect();
    finish_connect(connection->fd);
    set_socket(connection->fd);
    connection->asked_at = calloc(window, sizeof(double));
    watch(poll_fd, connection->fd, connection);
}

/* --- Messages: all are alike, so what is owed is a place in an endless repetition of one frame */

static uint8_t *frames;
static size_t frame_len, frames_len;

static void make_frames(void)
{
    uint8_t head[14];
    unsigned head_length = put_head(head, 1, size, BIT_MASK);
    memcpy(head + head_length, "\x37\xfa\x21\x3d", 4);
    head_length += 4;
    frame_len = head_length + size;
    size_t copies = window < 1 + READ_LEN / frame_len ? window : 1 + READ_LEN / frame_len;
    frames_len = frame_len * copies;
    frames = malloc(frames_len);
    for (uint8_t *frame = frames; frame < frames + frames_len; frame += frame_len) {
        memcpy(frame, head, head_length);
        for (uint64_t i = 0; i < size; i++)
            frame[head_length + i] = (uint8_t)('a' + i % 26) ^ head[head_length - 4 + i % 4];
    }
}

static void send_owed(connection_t *connection)
{
    while (connection->sent < connection->owed) {
        size_t place = connection->sent % frames_len, length = frames_len - place;
        if (length > connection->owed - connection->sent)
            length = connection->owed - connection->sent;
        ssize_t sent = send(connection->fd, frames + place, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0)
            fail("send");
        connection->sent += sent;
    }
}

static void ask(connection_t *connection, double time)
{
    connection->asked_at[connection->asked++ % window] = time;
    connection->owed += frame_len;
}

/* Whether the frame that came is a message: it must be what was sent. Pings and pongs are passed over. */
static int is_message(const stream_t *stream)
{
    uint8_t opcode = stream->head[0] & 15;
    if (opcode == 9 || opcode == 10)
        return 0;
    if (stream->head[0] != (BIT_FIN | 1) || stream->done != size) {
        fprintf(stderr, "not what was sent: head %02x, %llu bytes\n", stream->head[0], (unsigned long long)stream->done);
        exit(2);
    }
    return 1;
}

/* Count the messages that are there. */
static uint64_t receive(connection_t *connection)
{
    static uint8_t buffer[READ_LEN];
    uint64_t messages = 0;
    ssize_t length;
    stretch_t part;
    do {
        length = recv(connection->fd, buffer, sizeof buffer, 0);
        if (length == 0 || (length < 0 && errno != EAGAIN)) {
            fprintf(stderr, "the server closed a connection\n");
            exit(2);
        }
        const uint8_t *position = buffer;
        while (length > 0 && stream_next(&connection->stream, &position, buffer + length, &part))
            messages += part.ends && is_message(&connection->stream);
    } while (length == sizeof buffer);
    return messages;
}

/* --- The questions */

static void answer_echo(connection_t *all, connection_t *connection, uint64_t messages)
{
    double time = now();
    (void)all;
    counted += messages;
    while (messages--) {
        note_latency(time - connection->asked_at[connection->answered++ % window]);
        ask(connection, time);
    }
    send_owed(connection);
}

/* Message k is done when all connections have k + 1. */
static void answer_broadcast(connection_t *all, connection_t *connection, uint64_t messages)
{
    static uint64_t *holders;
    double time = now();
    if (!holders)
        holders = calloc(window, sizeof *holders);
    counted += messages;
    while (messages--) {
        uint64_t message = connection->answered++;
        if (++holders[message % window] < connections)
            continue;
        holders[message % window] = 0;
        note_latency(time - all->asked_at[message % window]);
        ask(all, time);
    }
    send_owed(all);
}

static void exchange(int broadcasts)
{
    connection_t *all = calloc(connections, sizeof *all);
    struct epoll_event events[512];
    make_frames();
    for (uint64_t i = 0; i < connections; i++)
        open_connection(&all[i]);
    set_times();
    for (uint64_t i = 0; i < (broadcasts ? 1 : connections); i++) {
        for (uint64_t k = 0; k < window; k++)
            ask(&all[i], now());
        send_owed(&all[i]);
    }
    while (go_on()) {
        int ready = epoll_wait(poll_fd, events, 512, 100);
        for (int i = 0; i < ready; i++) {
            connection_t *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                send_owed(connection);
            uint64_t messages = events[i].events & ~EPOLLOUT ? receive(connection) : 0;
            if (messages)
                (broadcasts ? answer_broadcast : answer_echo)(all, connection, messages);
        }
    }
    report("messages");
}

static void settle(void)
{
    usleep((useconds_t)(seconds / 2 * 1e6));
}

static void idle(void)
{
    for (int i = 0; i < WARM_CONNECTIONS; i++)
        finish_connect(start_connect());
    settle();
    double before = server_memory();
    for (uint64_t i = 0; i < connections; i++)
        finish_connect(start_connect());
    settle();
    printf("{\"bytes_per_connection\": %.1f}\n", (server_memory() - before) / connections);
}

static void handshake(void)
{
    struct linger reset = {1, 0};
    int *fds = calloc(connections, sizeof *fds);
    set_times();
    while (go_on()) {
        for (uint64_t i = 0; i < connections; i++)
            fds[i] = start_connect();
        for (uint64_t i = 0; i < connections; i++) {
            finish_connect(fds[i]);
            setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(fds[i]);
        }
        counted += connections;
    }
    report("handshakes");
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: load QUESTION PORT PID CONNECTIONS SIZE WINDOW SECONDS\n");
        return 2;
    }
    port = atoi(argv[2]);
    pid = atoi(argv[3]);
    connections = strtoull(argv[4], NULL, 10);
    size = strtoull(argv[5], NULL, 10);
    window = strtoull(argv[6], NULL, 10);
    seconds = atof(argv[7]);
    poll_fd = epoll_create1(0);
    allow_many_files();
    if (strcmp(argv[1], "idle") == 0)
        idle();
    else if (strcmp(argv[1], "handshake") == 0)
        handshake();
    else
        exchange(strcmp(argv[1], "broadcast") == 0);
    return 0;
}
