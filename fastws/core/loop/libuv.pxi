# libuv as uvloop has it: the few functions with which we watch a socket on a loop of uvloop's.
#
# uvloop tells us its uv_loop_t (`libuv_get_loop_t_ptr`, made for extensions like this one), and its module exports the
# functions of the libuv inside it. Where a build of it does not, or is too new for what we know of it, nothing of this is
# used and the transports are the loop's.

cdef extern from "<dlfcn.h>" nogil:
    enum:
        RTLD_LAZY
        RTLD_NOLOAD
    void *dlopen(const char *path, int flags)
    void *dlsym(void *library, const char *name)

cdef extern from "Python.h":
    void *PyCapsule_GetPointer(object capsule, const char *name) except NULL

cdef enum:
    UV_READABLE = 1
    UV_WRITABLE = 2
    UV_POLL = 8                # the type of a uv_poll_t
    UV_PREPARE = 9             # and of a uv_prepare_t
    POLL_LEN = 192             # bytes that we have for one


ctypedef void (*uv_poll_cb)(void *handle, int status, int events) noexcept nogil
ctypedef void (*uv_close_cb)(void *handle) noexcept nogil
ctypedef void (*uv_prepare_cb)(void *handle) noexcept nogil

ctypedef struct libuv_t:
    int (*poll_init)(void *loop, void *handle, int fd) noexcept nogil
    int (*poll_start)(void *handle, int events, uv_poll_cb callback) noexcept nogil
    int (*poll_stop)(void *handle) noexcept nogil
    void (*close)(void *handle, uv_close_cb callback) noexcept nogil
    size_t (*handle_size)(int type) noexcept nogil
    int (*prepare_init)(void *loop, void *handle) noexcept nogil
    int (*prepare_start)(void *handle, uv_prepare_cb callback) noexcept nogil

cdef libuv_t libuv
cdef bint libuv_loaded = False


cdef bint load_libuv(object module):
    """Find the functions in uvloop's extension module; False if it does not have what we need."""
    global libuv_loaded
    cdef bytes path
    cdef void *library
    if libuv_loaded:
        return True
    path = os.fsencode(module.__file__)
    library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD)
    if library is NULL:
        return False
    (<void **>&libuv.poll_init)[0] = dlsym(library, "uv_poll_init")
    (<void **>&libuv.poll_start)[0] = dlsym(library, "uv_poll_start")
    (<void **>&libuv.poll_stop)[0] = dlsym(library, "uv_poll_stop")
    (<void **>&libuv.close)[0] = dlsym(library, "uv_close")
    (<void **>&libuv.handle_size)[0] = dlsym(library, "uv_handle_size")
    (<void **>&libuv.prepare_init)[0] = dlsym(library, "uv_prepare_init")
    (<void **>&libuv.prepare_start)[0] = dlsym(library, "uv_prepare_start")
    if (libuv.poll_init is NULL or libuv.poll_start is NULL or libuv.poll_stop is NULL or libuv.close is NULL
            or libuv.handle_size is NULL or libuv.prepare_init is NULL or libuv.prepare_start is NULL):
        return False
    libuv_loaded = libuv.handle_size(UV_POLL) <= POLL_LEN and libuv.handle_size(UV_PREPARE) <= POLL_LEN
    return libuv_loaded


cdef void *uv_loop_of(object loop) except? NULL:
    """The uv_loop_t of a loop, or NULL: it is another kind of loop."""
    uvloop = sys.modules.get("uvloop")
    if uvloop is None or not isinstance(loop, uvloop.Loop) or not load_libuv(uvloop.loop):
        return NULL
    return PyCapsule_GetPointer(uvloop.loop.libuv_get_loop_t_ptr(loop), NULL)
