#include "server/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(buffer *b, size_t n_more) {
    if (b->failed || n_more > SIZE_MAX / 4 - b->n_bytes) {
        b->failed = true;
        return false;
    }
    const size_t needed = b->n_bytes + n_more + 1;
    if (needed <= b->capacity)
        return true;
    size_t capacity = b->capacity ? b->capacity : 256;
    while (capacity < needed)
        capacity *= 2;
    char *bytes = realloc(b->bytes, capacity);
    if (!bytes) {
        b->failed = true;
        return false;
    }
    b->bytes = bytes;
    b->capacity = capacity;
    return true;
}

void buffer_put(buffer *b, const void *bytes, size_t n_bytes) {
    if (!reserve(b, n_bytes))
        return;
    if (n_bytes)
        memcpy(b->bytes + b->n_bytes, bytes, n_bytes);
    b->n_bytes += n_bytes;
    b->bytes[b->n_bytes] = '\0';
}

void buffer_text(buffer *b, const char *text) { buffer_put(b, text, strlen(text)); }

void buffer_format(buffer *b, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !reserve(b, (size_t)length)) {
        b->failed = true;
        return;
    }
    va_start(arguments, format);
    vsnprintf(b->bytes + b->n_bytes, (size_t)length + 1, format, arguments);
    va_end(arguments);
    b->n_bytes += (size_t)length;
}

void buffer_string(buffer *b, const char *text) {
    buffer_put(b, "\"", 1);
    for (const char *run = text;; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        buffer_put(b, run, (size_t)(text - run));
        run = text + 1;
        if (c == '\0')
            break;
        if (c == '"' || c == '\\')
            buffer_format(b, "\\%c", c);
        else if (c == '\n')
            buffer_put(b, "\\n", 2);
        else
            buffer_format(b, "\\u%04x", c);
    }
    buffer_put(b, "\"", 1);
}

void buffer_skip(buffer *b, size_t n_bytes) {
    b->n_bytes -= n_bytes;
    memmove(b->bytes, b->bytes + n_bytes, b->n_bytes);
}

void buffer_free(buffer *b) {
    free(b->bytes);
    *b = (buffer){0};
}
