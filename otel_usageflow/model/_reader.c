/* Reading spans out of an export request, fast: the compiled twin of model/plain_reader.py.

   It takes what exporters write, and nothing else: at the first byte that is legal protobuf but not usual (a group, a
   number in more bytes than it needs, a message in two parts), or not legal at all, `read` gives up and returns None,
   and the plain reader has the last word. So nothing is judged here, and there are no errors but that memory is out.

   A span is a view: it keeps a reference to the request's bytes, and where in them its parts are. Attributes are
   compared with the keys that are wanted while they are passed by; none becomes an object unless somebody asks. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SERVER 2
#define LONGEST_KEY 127
#define MOST_FOUND 128

/* A part of the request: [at, end). */
typedef struct {
    const uint8_t *at, *end;
} Part;

/* A key that is wanted. */
typedef struct {
    const uint8_t *name;
    uint32_t size;
    PyObject *text;
} Key;

typedef struct {
    PyObject_HEAD
    PyObject *search;  /* the twin's way to find attributes, for spans that are not usual */
    PyObject *names;   /* tuple of bytes; keeps the names below alive */
    PyObject *texts;   /* tuple of str, in the same order */
    PyObject *groups;  /* frozenset of str -> bytes: whether each key is one of them */
    Key *keys;
    Py_ssize_t key_count;
    int32_t *table;    /* open addressing; -1 is empty */
    size_t mask;
} Reader;

/* A wanted attribute of a span. */
typedef struct {
    const uint8_t *field; /* where its tag stands in the span */
    Part raw;             /* the KeyValue */
    int32_t key;
} Found;

typedef struct {
    PyObject_VAR_HEAD
    Reader *reader;
    PyObject *payload; /* bytes; all parts point into it */
    PyObject *trace_id_object;
    Part whole, trace_id, span_id, trace_state, parent;
    uint64_t start_ns, end_ns;
    uint32_t dropped, flags;
    int32_t kind;
    char valid;
    char usual; /* whether `found` is all there is to find, each key once */
    Found found[1];
} Span;

static PyTypeObject *span_type;

/* --- The wire ------------------------------------------------------------------------------------------------- */

/* A number of up to nine bytes; false for a longer one, or where the bytes end. */
static inline int number(Part *rest, uint64_t *value) {
    uint64_t sum = 0;
    const uint8_t *at = rest->at;
    for (int shift = 0; shift < 63 && at < rest->end; shift += 7) {
        uint8_t byte = *at++;
        sum |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            rest->at = at;
            *value = sum;
            return 1;
        }
    }
    return 0;
}

/* A tag of up to four bytes, with a field number. */
static inline int tag(Part *rest, uint32_t *value) {
    uint64_t read;
    if (!number(rest, &read) || read < 8 || read >= (1u << 28)) {
        return 0;
    }
    *value = (uint32_t)read;
    return 1;
}

static inline int part(Part *rest, Part *value) {
    uint64_t size;
    if (!number(rest, &size) || size > (uint64_t)(rest->end - rest->at)) {
        return 0;
    }
    value->at = rest->at;
    value->end = rest->at += size;
    return 1;
}

static inline int fixed(Part *rest, void *value, size_t size) { /* little-endian, as the wire is: see `init` */
    if ((size_t)(rest->end - rest->at) < size) {
        return 0;
    }
    memcpy(value, rest->at, size);
    rest->at += size;
    return 1;
}

static int skip(Part *rest, uint32_t wire_type) {
    uint64_t ignored;
    Part passed;
    switch (wire_type) {
    case 0:
        return number(rest, &ignored);
    case 1:
        return fixed(rest, &ignored, 8);
    case 2:
        return part(rest, &passed);
    case 5:
        return fixed(rest, &ignored, 4);
    default:
        return 0;
    }
}

/* The tag of a field. A known field under another wire type than its own is not usual. */
#define IS(field, type) ((field) << 3 | (type))
enum { NUMBER = 0, FIXED64 = 1, PART = 2, FIXED32 = 5 };

static PyObject *bytes_of(Part part) {
    return PyBytes_FromStringAndSize((const char *)part.at, part.end - part.at);
}

/* --- Keys ----------------------------------------------------------------------------------------------------- */

/* Of the length and the last eight bytes, in which names of attributes differ. */
static inline size_t hashed(const uint8_t *name, uint32_t size) {
    uint64_t word = 0;
    if (size >= 8) {
        memcpy(&word, name + size - 8, 8);
    } else {
        memcpy(&word, name, size);
    }
    word = (word ^ size) * 0x9E3779B97F4A7C15u;
    return (size_t)(word >> 32);
}

static inline int32_t wanted(const Reader *reader, const uint8_t *name, uint32_t size) {
    for (size_t slot = hashed(name, size) & reader->mask;; slot = (slot + 1) & reader->mask) {
        int32_t index = reader->table[slot];
        if (index < 0) {
            return -1;
        }
        const Key *key = &reader->keys[index];
        if (key->size == size && memcmp(key->name, name, size) == 0) {
            return index;
        }
    }
}

/* --- Spans ---------------------------------------------------------------------------------------------------- */

/* File an attribute if it is wanted; false if the span is not usual. */
static inline int note(const Reader *reader, Found *found, Py_ssize_t *count, const uint8_t *field, Part raw) {
    if (raw.end - raw.at < 2 || raw.at[0] != 0x0A || raw.at[1] > LONGEST_KEY) {
        return 0;
    }
    uint32_t size = raw.at[1];
    if (size > raw.end - raw.at - 2) {
        return 0;
    }
    int32_t key = wanted(reader, raw.at + 2, size);
    if (key < 0) {
        return 1;
    }
    for (Py_ssize_t index = 0; index < *count; index++) {
        if (found[index].key == key) {
            return 0;
        }
    }
    if (*count == MOST_FOUND) {
        return 0;
    }
    found[(*count)++] = (Found){field, raw, key};
    return 1;
}

static int all_zero(Part part) {
    for (const uint8_t *at = part.at; at < part.end; at++) {
        if (*at) {
            return 0;
        }
    }
    return 1;
}

/* Read a span; NULL without an error set if its bytes are not usual. */
static PyObject *read_span(Reader *reader, PyObject *payload, Part whole) {
    Span read;
    Found found[MOST_FOUND];
    Py_ssize_t count = 0;
    memset(&read, 0, offsetof(Span, found));
    read.whole = whole;
    read.usual = 1;
    int passed = 0; /* attributes that were not looked at, because the span seemed to be no SERVER span */
    int kind_known = 0;
    Part rest = whole, raw;
    uint32_t field;
    uint64_t value;
    while (rest.at < rest.end) {
        const uint8_t *begin = rest.at;
        if (!tag(&rest, &field)) {
            return NULL;
        }
        switch (field) {
        case IS(1, PART):
            if (!part(&rest, &read.trace_id)) {
                return NULL;
            }
            break;
        case IS(2, PART):
            if (!part(&rest, &read.span_id)) {
                return NULL;
            }
            break;
        case IS(3, PART):
            if (!part(&rest, &read.trace_state)) {
                return NULL;
            }
            break;
        case IS(4, PART):
            if (!part(&rest, &read.parent)) {
                return NULL;
            }
            break;
        case IS(6, NUMBER):
            if (!number(&rest, &value)) {
                return NULL;
            }
            read.kind = (int32_t)(uint32_t)value;
            kind_known = 1;
            break;
        case IS(7, FIXED64):
            if (!fixed(&rest, &read.start_ns, 8)) {
                return NULL;
            }
            break;
        case IS(8, FIXED64):
            if (!fixed(&rest, &read.end_ns, 8)) {
                return NULL;
            }
            break;
        case IS(9, PART):
            if (!part(&rest, &raw)) {
                return NULL;
            }
            if (kind_known && read.kind != SERVER) {
                passed = 1;
            } else if (read.usual) {
                read.usual = (char)note(reader, found, &count, begin, raw);
            }
            break;
        case IS(10, NUMBER):
            if (!number(&rest, &value)) {
                return NULL;
            }
            read.dropped = (uint32_t)value;
            break;
        case IS(16, FIXED32):
            if (!fixed(&rest, &read.flags, 4)) {
                return NULL;
            }
            break;
        default:
            switch (field >> 3) {
            case 1: case 2: case 3: case 4: case 6: case 7: case 8: case 9: case 10: case 16:
                return NULL;
            default:
                if (!skip(&rest, field & 7)) {
                    return NULL;
                }
            }
        }
    }
    if (passed) {
        read.usual = 0;
    }
    Py_ssize_t parent = read.parent.end - read.parent.at;
    read.valid = read.trace_id.end - read.trace_id.at == 16 && read.span_id.end - read.span_id.at == 8 &&
                 (parent == 0 || parent == 8) && !all_zero(read.trace_id) && !all_zero(read.span_id);
    Py_ssize_t kept = read.usual ? count : 0;
    Span *span = PyObject_NewVar(Span, span_type, kept);
    if (span == NULL) {
        return NULL;
    }
    size_t head = offsetof(Span, reader);
    memcpy((char *)span + head, (char *)&read + head, offsetof(Span, found) - head);
    memcpy(span->found, found, (size_t)kept * sizeof(Found));
    span->reader = (Reader *)Py_NewRef((PyObject *)reader);
    span->payload = Py_NewRef(payload);
    return (PyObject *)span;
}

static void span_dealloc(Span *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF((PyObject *)self->reader);
    Py_DECREF(self->payload);
    Py_XDECREF(self->trace_id_object);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static PyObject *span_trace_id(Span *self, void *closure) {
    if (self->trace_id_object == NULL) {
        self->trace_id_object = bytes_of(self->trace_id);
    }
    return Py_XNewRef(self->trace_id_object);
}

static PyObject *span_part(Span *self, void *offset) {
    return bytes_of(*(Part *)((char *)self + (size_t)offset));
}

static PyObject *span_long(Span *self, void *offset) {
    return PyLong_FromUnsignedLongLong(*(uint64_t *)((char *)self + (size_t)offset));
}

static PyObject *span_word(Span *self, void *offset) {
    return PyLong_FromUnsignedLong(*(uint32_t *)((char *)self + (size_t)offset));
}

static PyObject *span_kind(Span *self, void *closure) {
    return PyLong_FromLong(self->kind);
}

static PyObject *span_valid(Span *self, void *closure) {
    return PyBool_FromLong(self->valid);
}

/* All of the span's attributes; its bytes were found to be usual when it was read. */
static PyObject *span_attributes(Span *self, void *closure) {
    PyObject *list = PyList_New(0);
    Part rest = self->whole, raw;
    uint32_t field;
    while (list != NULL && rest.at < rest.end && tag(&rest, &field)) {
        if (field != IS(9, PART)) {
            if (!skip(&rest, field & 7)) {
                break;
            }
            continue;
        }
        if (!part(&rest, &raw)) {
            break;
        }
        PyObject *item = bytes_of(raw);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

/* Which of the reader's keys are of this group. */
static PyObject *group_of(Reader *reader, PyObject *keys) {
    PyObject *group = PyDict_GetItemWithError(reader->groups, keys);
    if (group != NULL || PyErr_Occurred()) {
        return group;
    }
    group = PyBytes_FromStringAndSize(NULL, reader->key_count);
    if (group == NULL) {
        return NULL;
    }
    char *flags = PyBytes_AS_STRING(group);
    for (Py_ssize_t index = 0; index < reader->key_count; index++) {
        int within = PySequence_Contains(keys, reader->keys[index].text);
        if (within < 0) {
            Py_DECREF(group);
            return NULL;
        }
        flags[index] = (char)within;
    }
    int failed = PyDict_SetItem(reader->groups, keys, group);
    Py_DECREF(group); /* the dictionary keeps it */
    return failed ? NULL : group;
}

static PyObject *span_said(Span *self, PyObject *keys) {
    if (!self->usual) {
        Py_RETURN_NONE;
    }
    PyObject *group = group_of(self->reader, keys);
    if (group == NULL) {
        return NULL;
    }
    const char *within = PyBytes_AS_STRING(group);
    Py_ssize_t size = 0, count = Py_SIZE(self);
    for (Py_ssize_t index = 0; index < count; index++) {
        if (within[self->found[index].key]) {
            size += self->found[index].raw.end - self->found[index].field;
        }
    }
    PyObject *said = PyBytes_FromStringAndSize(NULL, size);
    if (said == NULL) {
        return NULL;
    }
    char *to = PyBytes_AS_STRING(said);
    for (Py_ssize_t index = 0; index < count; index++) {
        if (within[self->found[index].key]) {
            size_t length = (size_t)(self->found[index].raw.end - self->found[index].field);
            memcpy(to, self->found[index].field, length);
            to += length;
        }
    }
    return said;
}

static PyObject *span_find(Span *self, PyObject *ignored) {
    if (!self->usual) {
        PyObject *attributes = span_attributes(self, NULL);
        if (attributes == NULL) {
            return NULL;
        }
        PyObject *found = PyObject_CallOneArg(self->reader->search, attributes);
        Py_DECREF(attributes);
        return found;
    }
    PyObject *found = PyDict_New();
    for (Py_ssize_t index = 0; found != NULL && index < Py_SIZE(self); index++) {
        PyObject *raw = bytes_of(self->found[index].raw);
        if (raw == NULL || PyDict_SetItem(found, self->reader->keys[self->found[index].key].text, raw) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(raw);
    }
    return found;
}

static PyGetSetDef span_fields[] = {
    {"trace_id", (getter)span_trace_id, NULL, "As it came.", NULL},
    {"span_id", (getter)span_part, NULL, "As it came.", (void *)offsetof(Span, span_id)},
    {"trace_state", (getter)span_part, NULL, "As it came.", (void *)offsetof(Span, trace_state)},
    {"parent_span_id", (getter)span_part, NULL, "As it came.", (void *)offsetof(Span, parent)},
    {"kind", (getter)span_kind, NULL, "A SpanKind.", NULL},
    {"start_time_unix_nano", (getter)span_long, NULL, "Unsigned.", (void *)offsetof(Span, start_ns)},
    {"end_time_unix_nano", (getter)span_long, NULL, "Unsigned.", (void *)offsetof(Span, end_ns)},
    {"dropped_attributes_count", (getter)span_word, NULL, "Unsigned.", (void *)offsetof(Span, dropped)},
    {"flags", (getter)span_word, NULL, "Span.flags.", (void *)offsetof(Span, flags)},
    {"attributes", (getter)span_attributes, NULL, "All of them, serialized.", NULL},
    {"valid", (getter)span_valid, NULL, "Whether its ids identify a span.", NULL},
    {NULL},
};

static PyMethodDef span_methods[] = {
    {"said", (PyCFunction)span_said, METH_O, "What it says under these keys, or None; see plain_reader.py."},
    {"find", (PyCFunction)span_find, METH_NOARGS, "The wanted attributes; see plain_reader.py."},
    {NULL},
};

static PyType_Slot span_slots[] = {
    {Py_tp_dealloc, span_dealloc},
    {Py_tp_getset, span_fields},
    {Py_tp_methods, span_methods},
    {Py_tp_doc, "A span: a view of the request's bytes."},
    {0, NULL},
};

static PyType_Spec span_spec = {
    .name = "otel_usageflow.model._reader.Span",
    .basicsize = offsetof(Span, found),
    .itemsize = sizeof(Found),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = span_slots,
};

/* --- Requests ------------------------------------------------------------------------------------------------- */

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

static int make_table(Reader *self) {
    size_t size = 8;
    while (size < (size_t)self->key_count * 4) {
        size *= 2;
    }
    self->keys = PyMem_Calloc((size_t)self->key_count + 1, sizeof(Key));
    self->table = PyMem_Malloc(size * sizeof(int32_t));
    if (self->keys == NULL || self->table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->mask = size - 1;
    memset(self->table, 0xFF, size * sizeof(int32_t));
    for (Py_ssize_t index = 0; index < self->key_count; index++) {
        PyObject *name = PyTuple_GET_ITEM(self->names, index);
        Key *key = &self->keys[index];
        key->name = (const uint8_t *)PyBytes_AS_STRING(name);
        key->size = (uint32_t)PyBytes_GET_SIZE(name);
        key->text = PyTuple_GET_ITEM(self->texts, index);
        size_t slot = hashed(key->name, key->size) & self->mask;
        while (self->table[slot] >= 0) {
            slot = (slot + 1) & self->mask;
        }
        self->table[slot] = (int32_t)index;
    }
    return 0;
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
    PyModuleDef_HEAD_INIT, "_reader", "Reading spans, compiled; see plain_reader.py.", -1, NULL,
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
