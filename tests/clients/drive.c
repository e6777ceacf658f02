// The client of libwebsockets, driven by lines (see drivers.py): drive NAME
#include <libwebsockets.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 4 << 20 };

static struct lws_context *context;
static struct lws *wsi;
static char answer[LINE], line[LINE];
static bool answered, opened;
// The message that comes, and what goes
static unsigned char *coming, *going;
static size_t coming_len, going_len;
static enum lws_write_protocol going_kind;
static int close_code;
static char close_reason[128];

static void encode(char *out, const void *data, size_t length) {
    *out++ = '=';
    lws_b64_encode_string(data, (int)length, out, LINE - 64);
}

static size_t decode(const char *word, unsigned char *out) {
    int length = word[1] ? lws_b64_decode_string(word + 1, (char *)out, LINE) : 0;
    return length < 0 ? 0 : (size_t)length;
}

static void tell(const char *kind, const void *data, size_t length) {
    int place = sprintf(answer, "%s ", kind);
    encode(answer + place, data, length);
    answered = true;
}

static void received(struct lws *from, const void *in, size_t length) {
    memcpy(coming + coming_len, in, length);
    coming_len += length;
    if (lws_remaining_packet_payload(from) || !lws_is_final_fragment(from)) return;
    tell(lws_frame_is_binary(from) ? "binary" : "text", coming, coming_len);
    coming_len = 0;
    lws_rx_flow_control(from, 0);  // one message for each line that asks for one
}

static void ended(void) {
    char kind[32];
    if (!opened) {
        strcpy(answer, "refused - -");
    } else {
        sprintf(kind, "closed %d", close_code);
        tell(kind, close_reason, strlen(close_reason));
    }
    answered = true;
    wsi = NULL;
}

static int happened(struct lws *from, enum lws_callback_reasons what, void *user, void *in, size_t length) {
    (void)user;
    switch (what) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        opened = answered = true;
        strcpy(answer, "open");
        break;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        received(from, in, length);
        break;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        if (going_kind == LWS_WRITE_CONTINUATION) break;
        if (close_code < 0) {
            lws_close_reason(from, (enum lws_close_status)-close_code, going + LWS_PRE, going_len);
            return -1;
        }
        lws_write(from, going + LWS_PRE, going_len, going_kind);
        going_kind = LWS_WRITE_CONTINUATION;
        strcpy(answer, "done");
        answered = true;
        break;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        close_code = length >= 2 ? ((unsigned char *)in)[0] << 8 | ((unsigned char *)in)[1] : 1005;
        if (length > 2) {
            memcpy(close_reason, (char *)in + 2, length - 2);
            close_reason[length - 2] = 0;
        }
        break;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_CLIENT_CLOSED:
        ended();
        break;
    default:
        break;
    }
    return 0;
}

static void start(const char *url) {
    struct lws_client_connect_info info = {0};
    char host[64], path[256];
    int port;
    sscanf(url, "ws://%63[^:]:%d%255s", host, &port, path);
    info.context = context;
    info.address = info.host = info.origin = host;
    info.port = port;
    info.path = path;
    info.pwsi = &wsi;
    opened = false;
    coming_len = 0;
    going_kind = LWS_WRITE_CONTINUATION;  // nothing
    close_code = 1006;
    close_reason[0] = 0;
    lws_client_connect_via_info(&info);
}

static void obey(char *command, char *first, char *second) {
    if (!strcmp(command, "connect")) {
        start(first);
    } else if (!wsi) {
        ended();
    } else if (!strcmp(command, "receive")) {
        lws_rx_flow_control(wsi, 1);
    } else {
        bool closes = !strcmp(command, "close");
        if (closes) close_code = -atoi(first);
        going_len = decode(closes ? second : first, going + LWS_PRE);
        going_kind = strcmp(command, "text") ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
        lws_rx_flow_control(wsi, closes);
        lws_callback_on_writable(wsi);
    }
}

int main(int argc, char **argv) {
    static const struct lws_protocols protocols[] = {{"", happened, 0, 1 << 16, 0, NULL, 0}, {0}};
    static const struct lws_extension extensions[] = {
        {"permessage-deflate", lws_extension_callback_pm_deflate,
         "permessage-deflate; client_no_context_takeover; client_max_window_bits"},
        {0}};
    struct lws_context_creation_info info = {0};
    lws_set_log_level(LLL_ERR, NULL);
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.protocols = protocols;
    if (argc > 1 && strstr(argv[1], "compressing")) info.extensions = extensions;
    context = lws_create_context(&info);
    coming = malloc(LINE);
    going = malloc(LWS_PRE + LINE);
    printf("version %s\n", LIBWEBSOCKETS);
    fflush(stdout);
    while (fgets(line, LINE, stdin)) {
        char *command = strtok(line, " \n"), *first = strtok(NULL, " \n"), *second = strtok(NULL, " \n");
        answered = false;
        obey(command, first, second);
        while (!answered) lws_service(context, 0);
        puts(strcmp(command, "close") ? answer : "done");
        fflush(stdout);
    }
    return 0;
}
