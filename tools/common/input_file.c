#include "common/input_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

static trol_status read_stream(FILE *stream, const char *name, size_t max_bytes, char **bytes, size_t *n_bytes,
                               trol_error *error) {
    size_t capacity = 0, used = 0;
    char *content = NULL;
    for (;;) {
        if (capacity - used < 2) {
            capacity = 2 * capacity + 65536;
            char *larger = realloc(content, capacity);
            if (!larger) {
                free(content);
                return fail(error, TROL_ERROR_MEMORY, "out of memory: %s has more than %zu bytes", name, used);
            }
            content = larger;
        }
        size_t got = fread(content + used, 1, capacity - used - 1, stream);
        used += got;
        if (got == 0 || used > max_bytes)
            break;
    }
    if (ferror(stream) || used > max_bytes) {
        trol_status status = ferror(stream) ? fail(error, TROL_ERROR_IO, "%s cannot be read: %s", name, strerror(errno))
                                            : fail(error, TROL_ERROR_IO, "%s has more than %zu bytes", name, max_bytes);
        free(content);
        return status;
    }
    content[used] = '\0';
    *bytes = content;
    *n_bytes = used;
    return TROL_OK;
}

trol_status input_file_read(const char *path, size_t max_bytes, char **bytes, size_t *n_bytes, trol_error *error) {
    *bytes = NULL;
    *n_bytes = 0;
    if (strcmp(path, "-") == 0)
        return read_stream(stdin, "standard input", max_bytes, bytes, n_bytes, error);
    FILE *stream = fopen(path, "rb");
    if (!stream)
        return fail(error, TROL_ERROR_IO, "%s cannot be opened: %s", path, strerror(errno));
    trol_status status = read_stream(stream, path, max_bytes, bytes, n_bytes, error);
    fclose(stream);
    return status;
}
