/* buffer.h - text that grows, and JSON written into it. A failed allocation sets a flag instead of being reported by
 * each call: the sender of the text checks it once. */
#ifndef SERVER_BUFFER_H
#define SERVER_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct buffer {
    char *bytes; /* [n_bytes], and a NUL after them once something was put */
    size_t n_bytes, capacity;
    bool failed; /* there was no memory: the text has holes */
} buffer;

void buffer_put(buffer *b, const void *bytes, size_t n_bytes);
void buffer_text(buffer *b, const char *text);
void buffer_format(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text as a JSON string, quoted. It must be valid UTF-8. */
void buffer_string(buffer *b, const char *text);
/* Removes the first n_bytes. */
void buffer_skip(buffer *b, size_t n_bytes);
void buffer_free(buffer *b);

#endif
