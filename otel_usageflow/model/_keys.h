/* The keys that are wanted, and what a reader of them is: see _reader.c. */

#ifndef OTEL_USAGEFLOW_KEYS_H
#define OTEL_USAGEFLOW_KEYS_H

#include "_wire.h"

#define LONGEST_KEY 127

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

/* Make the table of a reader that has its names and texts; -1 and an error if there is no memory. */
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

#endif
