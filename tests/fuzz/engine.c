/* libFuzzer around Python: each input is given to check() of the target that FUZZ_TARGET names, and an exception out of
 * it is a finding. The target's seeds are written to FUZZ_SEEDS first, before libFuzzer looks for its corpus.
 *
 * Coverage comes from two sides. The compiled core counts its own edges (clang's -fsanitize=fuzzer-no-link). Of Python
 * code below FUZZ_ROOT a trace function counts the steps from line to line; that includes the reference, whose branches
 * are the cases of the protocol.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>
#include <stdint.h>

#define COUNTERS (1 << 14)

__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

static PyObject *check;
static const char *root;
static uint32_t last_line;

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    if (PyErr_Occurred())
        PyErr_Print();
    abort();
}

static int count_line(PyObject *self, PyFrameObject *frame, int event, PyObject *argument)
{
    if (event != PyTrace_LINE)
        return 0;
    PyCodeObject *code = PyFrame_GetCode(frame);
    const char *path = PyUnicode_AsUTF8(code->co_filename);
    if (path != NULL && strncmp(path, root, strlen(root)) == 0) {
        /* The hash of a str is kept in it, and fixed by PYTHONHASHSEED: no run numbers a line differently */
        uint32_t line = (uint32_t)PyObject_Hash(code->co_filename) + 2654435761u * (uint32_t)PyFrame_GetLineNumber(frame);
        uint32_t step = (line ^ (last_line >> 1)) * 2246822519u;
        counters[step >> 18]++;
        last_line = line;
    }
    Py_DECREF(code);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *target = getenv("FUZZ_TARGET");
    const char *seeds = getenv("FUZZ_SEEDS");
    const char *python = getenv("FUZZ_PYTHON");
    PyConfig config;

    root = getenv("FUZZ_ROOT");
    if (target == NULL || seeds == NULL || python == NULL || root == NULL)
        die("FUZZ_TARGET, FUZZ_SEEDS, FUZZ_PYTHON and FUZZ_ROOT must be set: use `make fuzz`");
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0; /* libFuzzer has its own */
    /* The name decides whose site-packages are found: those of an environment too */
    if (PyStatus_Exception(PyConfig_SetBytesString(&config, &config.program_name, python)) ||
        PyStatus_Exception(Py_InitializeFromConfig(&config)))
        die("Python does not start");
    PyConfig_Clear(&config);

    PyObject *module = PyImport_ImportModule("tests.fuzz.corpus");
    check = module != NULL ? PyObject_CallMethod(module, "prepare", "ss", target, seeds) : NULL;
    if (check == NULL)
        die("the target cannot be imported");
    PyEval_SetTrace(count_line, NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *input = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
    last_line = 0;
    PyObject *result = input != NULL ? PyObject_CallOneArg(check, input) : NULL;
    Py_XDECREF(input);
    if (result == NULL)
        die("the target found something");
    Py_DECREF(result);
    return 0;
}
