/* Spans as Python sees them, and how one is read: see _reader.c. */

#ifndef OTEL_USAGEFLOW_SPAN_H
#define OTEL_USAGEFLOW_SPAN_H

#include <stddef.h>

#include "_keys.h"

#define SERVER 2
#define MOST_FOUND 128

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

#endif
