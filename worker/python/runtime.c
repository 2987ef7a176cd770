/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The Python runtime of an executor: embedded CPython, started with the first
   Python preload and kept. It is used by the executor's one thread, which holds
   the GIL all the time. */
#include "value.h"

#include "bootstrap.py.h"
#include "pickling.py.h"
#include "runtime.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    runtime_t base;
    PyObject *load_file, *load_module, *load_code, *check_environment, *seed, *describe,
        *after_fork, *dump_exception;
} python_t;

static shared_t *page;
static const call_t *current; /* that runs; NULL between calls */

static volatile sig_atomic_t interrupting; /* Python was told, and may not have raised yet */
static volatile sig_atomic_t loading;      /* a preload: no item runs */

/* Whether the item that runs now is to be interrupted. */
static bool is_stopped(void)
{
    uint64_t claimed = shared_claimed(page);
    return claimed > 0 && shared_stops(page, (uint32_t)claimed - 1, atomic_load(&page->item));
}

/* Interrupts what is to be interrupted and nothing else. */
static void on_sigint(int signal)
{
    (void)signal;
    if (!loading && is_stopped()) {
        interrupting = 1;
        atomic_store(&page->heard, (uint32_t)shared_claimed(page));
        PyErr_SetInterrupt();
    }
}

/* For bootstrap.py: this is no moment to be interrupted, so the supervisor is to say it again. */
static PyObject *postpone(PyObject *self, PyObject *none)
{
    (void)self, (void)none;
    atomic_store(&page->heard, 0);
    Py_RETURN_NONE;
}

/* An interrupt that came too late must not hit the next item. */
static void drop_interrupt(void)
{
    interrupting = 0;
    PyErr_CheckSignals();
    PyErr_Clear();
}

/* Moves the pending Python exception into failure. */
static void take_error(python_t *self, failure_t *failure, int status, bool pickles)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback) PyException_SetTraceback(error, traceback);
    PyObject *told = error ? PyObject_CallOneArg(self->describe, error) : NULL;
    const char *name, *message, *text;
    if (told && PyArg_ParseTuple(told, "sss", &name, &message, &text)) {
        failure_set(failure, status, "%s", message);
        failure->type = strdup(name);
        failure->traceback = strdup(text);
    } else {
        PyErr_Clear();
        failure_set(failure, status, "an exception that cannot be described (%s)",
                    type ? ((PyTypeObject *)type)->tp_name : "none");
    }
    Py_XDECREF(told);
    PyObject *pickle = pickles && error ? PyObject_CallOneArg(self->dump_exception, error) : NULL;
    if (pickle && PyBytes_Check(pickle)) {
        size_t size = (size_t)PyBytes_GET_SIZE(pickle);
        if ((failure->exception = malloc(size + 1)) != NULL) {
            memcpy(failure->exception, PyBytes_AS_STRING(pickle), size);
            failure->exception_size = size;
        }
    }
    Py_XDECREF(pickle);
    PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

/* The functions by name; *files_p gets the files that they are from beside the preload's own. */
static PyObject *load(python_t *self, const Peach__PreloadItem *item, ProtobufCBinaryData source,
                      char **files_p)
{
    PyObject *pair = item->kind == PEACH__PRELOAD_KIND__PRELOAD_MODULE
                         ? PyObject_CallFunction(self->load_module, "s", item->name)
                         : PyObject_CallFunction(self->load_file, "ssy#", item->name, item->path,
                                                 source.data, (Py_ssize_t)source.len);
    PyObject *found = NULL;
    const char *files;
    if (pair && PyArg_ParseTuple(pair, "Os", &found, &files)) {
        Py_INCREF(found);
        *files_p = strdup(files);
    } else {
        found = NULL; /* it was the pair's, or there is none */
    }
    Py_XDECREF(pair);
    return found;
}

static int python_load(runtime_t *base, const Peach__PreloadItem *item, ProtobufCBinaryData source,
                       define_fn define, void *executor, char **files_p, failure_t *failure)
{
    python_t *self = (python_t *)base;
    loading = 1;
    if (interrupting) drop_interrupt(); /* meant for an item before */
    PyObject *found = load(self, item, source, files_p);
    if (!found) take_error(self, failure, PEACH_E_PRELOAD, false);
    loading = 0;
    if (!found) return PEACH_E_PRELOAD;
    PyObject *name, *function;
    Py_ssize_t position = 0;
    while (PyDict_Next(found, &position, &name, &function)) {
        const char *text = PyUnicode_AsUTF8(name);
        if (!text || strlen(text) > WIRE_MAX_NAME) {
            PyErr_Clear();
            continue; /* a name that nobody can send */
        }
        Py_INCREF(function);
        define(executor, text, function);
    }
    Py_DECREF(found);
    return 0;
}

static void *python_define(runtime_t *base, const peach_value_t *code, bool pickles,
                           failure_t *failure)
{
    python_t *self = (python_t *)base;
    if (interrupting && !is_stopped()) drop_interrupt(); /* meant for one before */
    PyObject *object = NULL, *checked = NULL;
    if (peach_value_kind(code) == PEACH_LIST && peach_value_length(code) == 2) {
        /* What the pickle needs comes first: it may not even load. */
        PyObject *needs = python_from_value(peach_value_at(code, 0));
        checked = needs ? PyObject_CallOneArg(self->check_environment, needs) : NULL;
        if (checked) object = python_from_value(peach_value_at(code, 1));
        PyObject *after = object ? PyObject_CallOneArg(checked, object) : NULL;
        if (object && !after) Py_CLEAR(object);
        Py_XDECREF(after);
        Py_XDECREF(checked);
        Py_XDECREF(needs);
    } else {
        object = python_from_value(code);
    }
    PyObject *function = object ? PyObject_CallOneArg(self->load_code, object) : NULL;
    Py_XDECREF(object);
    if (!function) take_error(self, failure, PEACH_E_RAISED, pickles);
    if (is_stopped()) drop_interrupt();
    return function;
}

static void python_forget(runtime_t *base, void *handle)
{
    (void)base;
    Py_DECREF((PyObject *)handle);
}

enum { FEW = 8 }; /* arguments that need no memory */

static PyObject *run(python_t *self, PyObject *function, const call_t *call)
{
    PyObject *few[1 + FEW], **args = few + 1, *result = NULL; /* Python may use what is before */
    size_t made = 0;
    if (call->arg_count > FEW) {
        PyObject **many = calloc(1 + call->arg_count, sizeof *many);
        if (!many) return PyErr_NoMemory();
        args = many + 1;
    }
    if (call->seeded) {
        PyObject *seeded = PyObject_CallFunction(self->seed, "K", (unsigned long long)call->seed);
        if (!seeded) goto done;
        Py_DECREF(seeded);
    }
    for (; made < call->arg_count; made++)
        if (!(args[made] = python_from_value(call->args[made]))) goto done;
    size_t positional = call->arg_count - (size_t)call->keywords;
    result = PyObject_VectorcallDict(function, args, positional | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     call->keywords ? args[positional] : NULL);
done:
    while (made > 0) Py_DECREF(args[--made]);
    if (args != few + 1) free(args - 1);
    return result;
}

static peach_value_t *python_call(runtime_t *base, void *handle, const call_t *call,
                                  peach_value_t *scratch, failure_t *failure)
{
    python_t *self = (python_t *)base;
    if (interrupting && !call_stopped(page, call)) drop_interrupt(); /* meant for one before */
    current = call;
    PyObject *object = run(self, handle, call);
    peach_value_t *value = NULL;
    if (object && python_to_number(object, scratch))
        value = scratch;
    else if (object)
        value = python_to_value(object, call->pickles ? PYTHON_OBJECT : PYTHON_VALUE, PYTHON_LEND);
    Py_XDECREF(object);
    current = NULL;
    if (!value) take_error(self, failure, PEACH_E_RAISED, call->pickles);
    if (call_stopped(page, call)) drop_interrupt();
    return value;
}

static void python_forks(runtime_t *base, fork_phase_t phase)
{
    if (phase == FORK_BEFORE) {
        PyOS_BeforeFork();
    } else if (phase == FORK_PARENT) {
        PyOS_AfterFork_Parent();
    } else {
        PyOS_AfterFork_Child();
        PyObject *done = PyObject_CallNoArgs(((python_t *)base)->after_fork);
        if (!done) PyErr_Print();
        Py_XDECREF(done);
    }
}

static void python_destroy(runtime_t **self_p)
{
    free(*self_p); /* the interpreter goes with the process */
    *self_p = NULL;
}

/* The Python that the interpreter is to be, as if started by that name: so it finds a virtual
   environment. $PEACH_PYTHON; or the client's that started this fleet (VERSION:PATH), if it is
   of this version; or the system's. */
static const char *python_program(void)
{
    static const char version[] = Py_STRINGIFY(PY_MAJOR_VERSION) "." Py_STRINGIFY(PY_MINOR_VERSION);
    const char *asked = getenv("PEACH_PYTHON"), *client = getenv("PEACH_CLIENT_PYTHON");
    size_t length = strlen(version);
    if (asked && *asked) return asked;
    if (client && strncmp(client, version, length) == 0 && client[length] == ':' &&
        client[length + 1])
        return client + length + 1;
    return PEACH_PYTHON;
}

static bool start_interpreter(failure_t *failure)
{
    /* Another Python's home would give us its library. */
    unsetenv("PYTHONHOME");
    unsetenv("PYTHONEXECUTABLE");
    unsetenv("PYTHONSTARTUP");
    unsetenv("PYTHONINSPECT");
    unsetenv("__PYVENV_LAUNCHER__");
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.buffered_stdio = 0;
    config.install_signal_handlers = 1;
    config.use_environment = 1;
    PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, python_program());
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        failure_set(failure, PEACH_E_UNSUPPORTED, "Python does not start: %s",
                    status.err_msg ? status.err_msg : "no reason given");
    return !PyStatus_Exception(status);
}

static PyObject *run_module(const char *text, const char *name)
{
    PyObject *code = Py_CompileString(text, "<peach>", Py_file_input);
    PyObject *module = code ? PyImport_ExecCodeModule(name, code) : NULL;
    Py_XDECREF(code);
    return module;
}

/* ---- what the package peach asks for in a task ---- */

/* (function, item, depth), or None between calls. */
static PyObject *tell_current(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    if (!current) Py_RETURN_NONE;
    return Py_BuildValue("(sKI)", current->function, (unsigned long long)current->item,
                         current->depth);
}

/* The address of the word that says that the task waits for tasks of its own. */
static PyObject *tell_waiting(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromVoidPtr((void *)&page->waiting);
}

/* Says something about the job to its client. */
static PyObject *say_notice(PyObject *module, PyObject *text)
{
    (void)module;
    const char *line = PyUnicode_AsUTF8(text);
    if (!line) return NULL;
    dprintf(PRINT_FD, PRINT_NOTICE_LINE, (unsigned long long)page->token, line);
    Py_RETURN_NONE;
}

static PyMethodDef told[] = {{"told_current", tell_current, METH_NOARGS, NULL},
                             {"waiting_address", tell_waiting, METH_NOARGS, NULL},
                             {"notice", say_notice, METH_O, NULL},
                             {"postpone", postpone, METH_NOARGS, NULL},
                             {0}};

static bool run_bootstrap(python_t *self, failure_t *failure)
{
    PyObject *module = run_module((const char *)bootstrap_py, "peach_bootstrap");
    if (module && PyModule_AddFunctions(module, told) != 0) Py_CLEAR(module);
    if (module) {
        self->load_file = PyObject_GetAttrString(module, "load_file");
        self->load_module = PyObject_GetAttrString(module, "load_module");
        self->load_code = PyObject_GetAttrString(module, "load_code");
        self->check_environment = PyObject_GetAttrString(module, "check_environment");
        self->seed = PyObject_GetAttrString(module, "seed");
        self->describe = PyObject_GetAttrString(module, "describe");
        self->after_fork = PyObject_GetAttrString(module, "after_fork");
    }
    PyObject *pickling = module ? run_module((const char *)pickling_py, "peach_pickling") : NULL;
    if (pickling) {
        self->dump_exception = PyObject_GetAttrString(pickling, "dump_exception");
        python_value_init(
            PyObject_GetAttrString(pickling, "as_array"), PyObject_GetAttrString(pickling, "dumps"),
            PyObject_GetAttrString(pickling, getenv(NO_PUSH_VARIABLE) ? "refuse" : "loads"));
    }
    Py_XDECREF(module);
    Py_XDECREF(pickling);
    if (!PyErr_Occurred()) return true;
    PyErr_Print();
    failure_set(failure, PEACH_E_UNSUPPORTED, "Python's standard library is not complete");
    return false;
}

PEACH_EXPORT runtime_t *peach_python_runtime_new(shared_t *shared, failure_t *failure);

/* An interrupt waits meanwhile: an interpreter or a bootstrap by half serves no later item. */
static bool start_python(python_t *self, failure_t *failure)
{
    sigset_t interrupt, before;
    struct sigaction ours, action = {.sa_handler = on_sigint};
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, &before);
    sigaction(SIGINT, NULL, &ours);
    bool done = start_interpreter(failure) && run_bootstrap(self, failure);
    sigaction(SIGINT, done ? &action : &ours, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return done;
}

runtime_t *peach_python_runtime_new(shared_t *shared, failure_t *failure)
{
    python_t *self = calloc(1, sizeof *self);
    if (!self) {
        failure_set(failure, PEACH_E_MEMORY, "%s", peach_status_text(PEACH_E_MEMORY));
        return NULL;
    }
    page = shared;
    self->base = (runtime_t){python_load, python_define, python_forget,
                             python_call, python_forks,  python_destroy};
    if (start_python(self, failure)) return &self->base;
    free(self);
    return NULL;
}
