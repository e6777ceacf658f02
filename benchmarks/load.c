/* Load for a WebSocket server, from one thread, and what the server spent on it.
 *
 *   load QUESTION port=N pid=N connections=N seconds=S [size=N] [window=N] [stalled=N] [rate=N] [deflate=1] [tls=1]
 *
 *   echo        every client keeps `window` messages under way; a round trip is timed
 *   broadcast   the first client publishes, `window` messages under way; timed until the last client has one
 *   chat        every client publishes, `window` messages under way; timed until the sender has its own
 *   slow        the first client publishes `rate` messages a second, the last `stalled` never read; timed until all others
 *               have one; what they do not get in time counts as late as the end found it
 *   idle        resident memory of the server per connection
 *   handshake   opening handshakes, `connections` at a time; each is cut off with a reset
 *
 * Messages are text of `size` bytes, and are counted as they are received. A fifth of `seconds` comes before to warm up.
 * Prints one JSON object.
 */
#include <sys/timerfd.h>

#include "clients.h"

#define WARM_CONNECTIONS 128  /* that an idle server has before its memory is read the first time */
#define SLOW_WINDOW 4096      /* messages that those who read may be behind */
#define EVENTS 512

static uint64_t connections, stalled;
static double rate;

typedef void (*answer_t)(client_t *all, client_t *client, uint64_t messages);

static void answer_echo(client_t *all, client_t *client, uint64_t messages)
{
    double time = now();
    (void)all;
    counted += messages;
    while (messages--) {
        note_latency(time - client->asked_at[client->answered++ % window]);
        ask(client, time);
    }
    send_owed(client);
}

/* Note that so many clients more have a message of the publisher; returns whether all have it, and one more is due. */
static int is_complete(const client_t *publisher, uint64_t message, double time)
{
    static uint64_t *holders;
    if (!holders)
        holders = calloc(window, sizeof *holders);
    if (++holders[message % window] < connections - stalled)
        return 0;
    holders[message % window] = 0;
    note_latency(time - publisher->asked_at[message % window]);
    return 1;
}

static void answer_broadcast(client_t *all, client_t *client, uint64_t messages)
{
    double time = now();
    counted += messages;
    while (messages--)
        if (is_complete(all, client->answered++, time))
            ask(all, time);
    send_owed(all);
}

static void answer_chat(client_t *all, client_t *client, uint64_t messages)
{
    double time = now();
    (void)all;
    counted += messages;
    for (; client->own; client->own--) {
        note_latency(time - client->asked_at[client->answered++ % window]);
        ask(client, time);
    }
    send_owed(client);
}

static uint64_t complete;  /* messages that all who read have */

static void answer_slow(client_t *all, client_t *client, uint64_t messages)
{
    double time = now();
    counted += messages;
    while (messages--)
        complete += is_complete(all, client->answered++, time);
}

/* --- The questions */

/* Let what happened at one client be answered. */
static void handle(const struct epoll_event *event, client_t *all, answer_t answer)
{
    client_t *client = event->data.ptr;
    if (event->events & EPOLLOUT)
        send_owed(client);
    uint64_t messages = event->events & ~EPOLLOUT ? receive(client) : 0;
    if (messages)
        answer(all, client, messages);
}

static void exchange(answer_t answer, uint64_t publishers, int marked)
{
    client_t *all = calloc(connections, sizeof *all);
    frames_t *frames = calloc(marked ? connections : 1, sizeof *frames);
    struct epoll_event events[EVENTS];
    make_frames(frames, "");
    open_clients(all, connections, frames);
    for (uint64_t i = 0; marked && i < connections; i++) {
        snprintf(all[i].mark, sizeof all[i].mark, "%08x", (unsigned)i);
        make_frames(&frames[i], all[i].mark);
        all[i].frames = &frames[i];
    }
    set_times();
    for (uint64_t i = 0; i < publishers; i++) {
        for (uint64_t k = 0; k < window; k++)
            ask(&all[i], now());
        send_owed(&all[i]);
    }
    while (go_on()) {
        int ready = epoll_wait(poll_fd, events, EVENTS, 100);
        for (int i = 0; i < ready; i++)
            handle(&events[i], all, answer);
    }
    report_some("messages", publishers * window);
    puts("}");
}

static int timer;

/* Have an event without a client come as often as a message is due. */
static void start_ticking(void)
{
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct timespec interval = {(time_t)(1 / rate), (long)((1 / rate - (time_t)(1 / rate)) * 1e9)};
    struct itimerspec times = {interval, interval};
    timerfd_settime(timer, 0, &times, NULL);
    watch(poll_fd, timer, NULL);
}

/* Publish what is due. A latency counts from when a message was due, not from when we came to it. */
static void publish_due(client_t *publisher, double started, uint64_t *withheld)
{
    uint64_t ticks;
    double due;
    if (read(timer, &ticks, sizeof ticks) < 0)  /* it goes on only when it was read */
        return;
    while ((due = started + (publisher->asked + *withheld) / rate) <= now()) {
        if (publisher->asked - complete < window)
            ask(publisher, due);
        else
            ++*withheld;
    }
    send_owed(publisher);
}

static void slow(void)
{
    client_t *all = calloc(connections, sizeof *all);
    frames_t frames;
    struct epoll_event events[EVENTS];
    uint64_t withheld = 0;
    window = SLOW_WINDOW;
    make_frames(&frames, "");
    open_clients(all, connections - stalled, &frames);
    open_silent(stalled, SMALL_BUFFER);
    start_ticking();
    set_times();
    double started = now(), before = server_memory(), peak = before;
    while (go_on()) {
        int ready = epoll_wait(poll_fd, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) {
                handle(&events[i], all, answer_slow);
            } else {
                publish_due(all, started, &withheld);
                peak = fmax(peak, server_memory());
            }
        }
    }
    for (uint64_t k = complete; k < all->asked; k++)
        note_latency(end - all->asked_at[k % window]);
    report("messages", 0);
    printf(", \"memory_growth\": %.0f, \"unfinished\": %llu, \"withheld\": %llu}\n", peak - before,
           (unsigned long long)(all->asked - complete), (unsigned long long)withheld);
}

static void settle(void)
{
    usleep((useconds_t)(seconds / 2 * 1e6));
}

static void idle(void)
{
    open_silent(WARM_CONNECTIONS, 0);
    settle();
    double before = server_memory();
    open_silent(connections, 0);
    settle();
    printf("{\"bytes_per_connection\": %.1f}\n", (server_memory() - before) / connections);
}

static void handshake(void)
{
    struct linger reset = {1, 0};
    wire_t *wires = calloc(connections, sizeof *wires);
    set_times();
    while (go_on()) {
        connect_crowd(wires, connections, 0);
        for (uint64_t i = 0; i < connections; i++) {
            setsockopt(wires[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(wires[i].fd);
        }
        counted += connections;
    }
    report_some("handshakes", 0);
    puts("}");
}

/* --- Arguments */

static double setting(char **arguments, const char *name, double otherwise)
{
    size_t length = strlen(name);
    for (; *arguments; arguments++)
        if (strncmp(*arguments, name, length) == 0 && (*arguments)[length] == '=')
            return atof(*arguments + length + 1);
    return otherwise;
}

static void take_settings(char **arguments)
{
    port = (int)setting(arguments, "port", 0);
    pid = (int)setting(arguments, "pid", 0);
    connections = (uint64_t)setting(arguments, "connections", 1);
    seconds = setting(arguments, "seconds", 1);
    size = (uint64_t)setting(arguments, "size", 0);
    window = (uint64_t)setting(arguments, "window", 1);
    stalled = (uint64_t)setting(arguments, "stalled", 0);
    rate = setting(arguments, "rate", 0);
    deflates = setting(arguments, "deflate", 0) != 0;
    secure = setting(arguments, "tls", 0) != 0;
}

static int run(const char *question)
{
    if (strcmp(question, "echo") == 0)
        exchange(answer_echo, connections, 0);
    else if (strcmp(question, "broadcast") == 0)
        exchange(answer_broadcast, 1, 0);
    else if (strcmp(question, "chat") == 0)
        exchange(answer_chat, connections, 1);
    else if (strcmp(question, "slow") == 0)
        slow();
    else if (strcmp(question, "idle") == 0)
        idle();
    else if (strcmp(question, "handshake") == 0)
        handshake();
    else
        return 2;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    take_settings(argv + 2);
    poll_fd = epoll_create1(0);
    allow_many_files();
    if (secure)
        tls_load();
    return run(argv[1]);
}
