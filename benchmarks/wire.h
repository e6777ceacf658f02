/* How bytes travel: over a plain socket, or over TLS on it.
 *
 * OpenSSL is loaded when TLS is asked for, and the few functions of it that we call are declared here: nobody needs its
 * headers, and where it is not installed everything else is measured all the same. Certificates are not verified: the
 * server is ours, at loopback.
 */
#ifndef WIRE_H
#define WIRE_H

#include <dlfcn.h>

#include "stream.h"

#define TLS_WANT_READ 2
#define TLS_WANT_WRITE 3
#define TLS_ZERO_RETURN 6
#define TLS_SET_MODE 33
#define TLS_PARTIAL_AND_MOVING_WRITES 3L

typedef struct {
    int fd;
    void *tls;  /* NULL when plain */
} wire_t;

static void *tls_context;
static const void *(*tls_client_method)(void);
static void *(*tls_new_context)(const void *method), *(*tls_new)(void *context);
static long (*tls_control)(void *context, int command, long number, void *object);
static int (*tls_set_fd)(void *tls, int fd), (*tls_connect)(void *tls), (*tls_error)(const void *tls, int result);
static int (*tls_read)(void *tls, void *data, int length), (*tls_write)(void *tls, const void *data, int length);

static void tls_load(void)
{
    const struct {
        const char *name;
        void *function;
    } needed[] = {
        {"TLS_client_method", &tls_client_method},
        {"SSL_CTX_new", &tls_new_context},
        {"SSL_CTX_ctrl", &tls_control},
        {"SSL_new", &tls_new},
        {"SSL_set_fd", &tls_set_fd},
        {"SSL_connect", &tls_connect},
        {"SSL_get_error", &tls_error},
        {"SSL_read", &tls_read},
        {"SSL_write", &tls_write},
    };
    void *library = dlopen("libssl.so.3", RTLD_NOW);
    if (!library)
        library = dlopen("libssl.so.1.1", RTLD_NOW);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        void *function = library ? dlsym(library, needed[i].name) : NULL;
        if (!function) {
            fprintf(stderr, "OpenSSL is needed for TLS: %s\n", dlerror());
            exit(2);
        }
        memcpy(needed[i].function, &function, sizeof function);
    }
    tls_context = tls_new_context(tls_client_method());
    tls_control(tls_context, TLS_SET_MODE, TLS_PARTIAL_AND_MOVING_WRITES, NULL);
}

/* The TLS handshake on a connected, blocking socket. */
static void wire_secure(wire_t *wire)
{
    wire->tls = tls_new(tls_context);
    if (!tls_set_fd(wire->tls, wire->fd) || tls_connect(wire->tls) != 1) {
        fprintf(stderr, "the TLS handshake failed\n");
        exit(2);
    }
}

/* What recv() or send() would have returned, errno included. */
static ssize_t tls_result(const wire_t *wire, int result)
{
    if (result > 0)
        return result;
    int error = tls_error(wire->tls, result);
    errno = error == TLS_WANT_READ || error == TLS_WANT_WRITE ? EAGAIN : EPROTO;
    return error == TLS_ZERO_RETURN ? 0 : -1;
}

static ssize_t wire_recv(const wire_t *wire, void *data, size_t length)
{
    return wire->tls ? tls_result(wire, tls_read(wire->tls, data, (int)length)) : recv(wire->fd, data, length, 0);
}

static ssize_t wire_send(const wire_t *wire, const void *data, size_t length)
{
    if (wire->tls)
        return tls_result(wire, tls_write(wire->tls, data, (int)length));
    return send(wire->fd, data, length, MSG_NOSIGNAL);
}

#endif
