/* Reading spans out of an export request, fast: the compiled twin of model/plain_reader.py.

   It takes what exporters write, and nothing else: at the first byte that is legal protobuf but not usual (a group, a
   number in more bytes than it needs, a message in two parts), or not legal at all, `read` gives up and returns None,
   and the plain reader has the last word. So nothing is judged here, and there are no errors but that memory is out.

   A span is a view: it keeps a reference to the request's bytes, and where in them its parts are. Attributes are
   compared with the keys that are wanted while they are passed by; none becomes an object unless somebody asks. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_span.h"

/* Append what was made to a list; false if that fails, or if there is nothing. */
static int appended(PyObject *list, PyObject *item) {
    int done = item != NULL && PyList_Append(list, item) == 0;
    Py_XDECREF(item);
    return done;
}

/* The parts under one field of a message whose other fields do not matter; false if it is not usual. */
static int parts_of(Part message, uint32_t wanted_field, PyObject *list) {
    uint32_t field;
    Part raw;
    while (message.at < message.end) {
        if (!tag(&message, &field)) {
            return 0;
        }
        if (field == wanted_field) {
            if (!part(&message, &raw) || !appended(list, bytes_of(raw))) {
                return 0;
            }
        } else if (field >> 3 == wanted_field >> 3 || !skip(&message, field & 7)) {
            return 0;
        }
    }
    return 1;
}

/* (name of the scope, its spans) */
static PyObject *read_scope(Reader *reader, PyObject *payload, Part rest) {
    PyObject *spans = PyList_New(0), *names = PyList_New(0), *read = NULL;
    uint32_t field;
    int scopes = 0;
    Part message;
    if (spans == NULL || names == NULL) {
        goto done;
    }
    while (rest.at < rest.end) {
        if (!tag(&rest, &field)) {
            goto done;
        }
        if (field == IS(1, PART)) {
            if (scopes++ || !part(&rest, &message) || !parts_of(message, IS(1, PART), names)) {
                goto done;
            }
        } else if (field == IS(2, PART)) {
            if (!part(&rest, &message) || !appended(spans, read_span(reader, payload, message))) {
                goto done;
            }
        } else if (field >> 3 == 1 || field >> 3 == 2 || !skip(&rest, field & 7)) {
            goto done;
        }
    }
    Py_ssize_t count = PyList_GET_SIZE(names); /* the last of several is it */
    PyObject *name = count ? Py_NewRef(PyList_GET_ITEM(names, count - 1)) : PyBytes_FromStringAndSize("", 0);
    if (name != NULL) {
        read = PyTuple_Pack(2, name, spans);
        Py_DECREF(name);
    }
done:
    Py_XDECREF(spans);
    Py_XDECREF(names);
    return read;
}

/* (attributes of the resource, its scopes) */
static PyObject *read_resource(Reader *reader, PyObject *payload, Part rest) {
    PyObject *attributes = PyList_New(0), *scopes = PyList_New(0), *read = NULL;
    uint32_t field;
    int resources = 0;
    Part message;
    if (attributes == NULL || scopes == NULL) {
        goto done;
    }
    while (rest.at < rest.end) {
        if (!tag(&rest, &field)) {
            goto done;
        }
        if (field == IS(1, PART)) {
            if (resources++ || !part(&rest, &message) || !parts_of(message, IS(1, PART), attributes)) {
                goto done;
            }
        } else if (field == IS(2, PART)) {
            if (!part(&rest, &message) || !appended(scopes, read_scope(reader, payload, message))) {
                goto done;
            }
        } else if (field >> 3 == 1 || field >> 3 == 2 || !skip(&rest, field & 7)) {
            goto done;
        }
    }
    read = PyTuple_Pack(2, attributes, scopes);
done:
    Py_XDECREF(attributes);
    Py_XDECREF(scopes);
    return read;
}

static PyObject *reader_read(Reader *self, PyObject *payload) {
    if (!PyBytes_Check(payload)) {
        return PyErr_Format(PyExc_TypeError, "a request is bytes, not %.100s", Py_TYPE(payload)->tp_name);
    }
    PyObject *resources = PyList_New(0);
    if (resources == NULL) {
        return NULL;
    }
    uint32_t field;
    Part rest, message;
    rest.at = (const uint8_t *)PyBytes_AS_STRING(payload);
    rest.end = rest.at + PyBytes_GET_SIZE(payload);
    while (rest.at < rest.end) {
        if (!tag(&rest, &field)) {
            goto unusual;
        }
        if (field == IS(1, PART)) {
            if (!part(&rest, &message) || !appended(resources, read_resource(self, payload, message))) {
                goto unusual;
            }
        } else if (field >> 3 == 1 || !skip(&rest, field & 7)) {
            goto unusual;
        }
    }
    return resources;
unusual:
    Py_DECREF(resources);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *reader_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    PyObject *texts, *search;
    if (!PyArg_ParseTuple(arguments, "O!O", &PyTuple_Type, &texts, &search)) {
        return NULL;
    }
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->key_count = PyTuple_GET_SIZE(texts);
    self->texts = Py_NewRef(texts);
    self->search = Py_NewRef(search);
    self->names = PyTuple_New(self->key_count);
    self->groups = PyDict_New();
    if (self->names == NULL || self->groups == NULL) {
        goto failed;
    }
    for (Py_ssize_t index = 0; index < self->key_count; index++) {
        PyObject *name = PyUnicode_AsUTF8String(PyTuple_GET_ITEM(texts, index));
        if (name == NULL) {
            goto failed;
        }
        PyTuple_SET_ITEM(self->names, index, name);
    }
    if (make_table(self) == 0) {
        return (PyObject *)self;
    }
failed:
    Py_DECREF((PyObject *)self);
    return NULL;
}

static int reader_traverse(Reader *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->search);
    Py_VISIT(self->groups);
    return 0;
}

static int reader_clear(Reader *self) {
    Py_CLEAR(self->search);
    Py_CLEAR(self->groups);
    return 0;
}

static void reader_dealloc(Reader *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    reader_clear(self);
    Py_XDECREF(self->names);
    Py_XDECREF(self->texts);
    PyMem_Free(self->keys);
    PyMem_Free(self->table);
    type->tp_free(self);
    Py_DECREF((PyObject *)type);
}

static PyMethodDef reader_methods[] = {
    {"read", (PyCFunction)reader_read, METH_O, "What a request holds; None where the plain reader has to say it."},
    {NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_clear, reader_clear},
    {Py_tp_methods, reader_methods},
    {Py_tp_doc, "Reader(keys, search): reads requests; `keys` are at most 127 bytes long each."},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "otel_usageflow.model._reader.Reader",
    .basicsize = sizeof(Reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = reader_slots,
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_reader",
    .m_doc = "Reading spans, compiled; see plain_reader.py.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__reader(void) {
#if PY_BIG_ENDIAN
    PyErr_SetString(PyExc_ImportError, "only for machines that write numbers as the wire does");
    return NULL;
#endif
    PyObject *made = PyModule_Create(&module);
    PyObject *reader = made == NULL ? NULL : PyType_FromSpec(&reader_spec);
    span_type = reader == NULL ? NULL : (PyTypeObject *)PyType_FromSpec(&span_spec);
    int failed = span_type == NULL || PyModule_AddObjectRef(made, "Reader", reader) < 0;
    Py_XDECREF(reader);
    if (failed) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
