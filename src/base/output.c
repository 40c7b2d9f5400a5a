#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static trol_status write_error(const output *out, trol_error *error) {
    return fail(error, TROL_ERROR_IO, "%s: the file cannot be written: %s", out->path, strerror(errno));
}

trol_status output_open(const char *path, output *out, trol_error *error) {
    enum { MAX_ATTEMPTS = 100 };
    static const char suffix[] = ".12345.12";
    *out = (output){0};
    const size_t length = strlen(path);
    out->path = malloc(length + 1);
    out->temporary = malloc(length + sizeof suffix);
    if (!out->path || !out->temporary) {
        output_discard(out);
        return fail_memory(error, length, "a file's name");
    }
    memcpy(out->path, path, length + 1);
    memcpy(out->temporary, path, length);
    memcpy(out->temporary + length, suffix, sizeof suffix);
    int descriptor = -1;
    for (int attempt = 0; attempt < MAX_ATTEMPTS && descriptor < 0; attempt++) {
        snprintf(out->temporary + length, sizeof suffix, ".%05u.%02u", (unsigned)getpid() % 100000u, (unsigned)attempt % 100u);
        descriptor = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666); /* as the umask allows, unlike mkstemp's */
        if (descriptor < 0 && errno != EEXIST)
            break;
    }
    out->file = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    if (!out->file) {
        trol_status status = write_error(out, error);
        if (descriptor >= 0) {
            close(descriptor);
            unlink(out->temporary);
        }
        output_discard(out);
        return status;
    }
    return TROL_OK;
}

trol_status output_write(output *out, const void *bytes, size_t n_bytes, trol_error *error) {
    if (n_bytes > 0 && fwrite(bytes, 1, n_bytes, out->file) != n_bytes)
        return write_error(out, error);
    return TROL_OK;
}

trol_status output_commit(output *out, trol_error *error) {
    trol_status status = TROL_OK;
    if (fflush(out->file) != 0 || fsync(fileno(out->file)) != 0)
        status = write_error(out, error);
    if (fclose(out->file) != 0 && status == TROL_OK)
        status = write_error(out, error);
    out->file = NULL;
    if (status == TROL_OK && rename(out->temporary, out->path) != 0)
        status = write_error(out, error);
    if (status != TROL_OK)
        unlink(out->temporary);
    output_discard(out);
    return status;
}

void output_discard(output *out) {
    if (out->file) {
        fclose(out->file);
        unlink(out->temporary);
    }
    free(out->path);
    free(out->temporary);
    *out = (output){0};
}
