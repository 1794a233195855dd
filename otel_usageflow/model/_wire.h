/* The wire format of protobuf, as far as it is usual: see _reader.c. Every function here takes from `rest` what it
   reads, and returns false where the bytes end or are not usual. */

#ifndef OTEL_USAGEFLOW_WIRE_H
#define OTEL_USAGEFLOW_WIRE_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

/* A part of the request: [at, end). */
typedef struct {
    const uint8_t *at, *end;
} Part;

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

#endif
