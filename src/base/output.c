#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

/* A file system may keep what is written in large pieces in huge pages, which a checkpoint is then read from. */
enum { BUFFER_BYTES = 4 << 20 };

trol_status output_failed(const output *out, trol_error *error) {
    return fail(error, TROL_ERROR_IO, "%s cannot be written: %s", out->path, strerror(errno));
}

/* A new file beside the place; its name is left in out->temporary. -1 with errno set. */
static int open_temporary(output *out) {
    enum { MAX_ATTEMPTS = 100 };
    const size_t length = strlen(out->place);
    char suffix[16];
    int descriptor = -1;
    out->temporary = malloc(length + sizeof suffix);
    if (out->temporary)
        memcpy(out->temporary, out->place, length);
    for (int attempt = 0; out->temporary && attempt < MAX_ATTEMPTS && descriptor < 0; attempt++) {
        snprintf(suffix, sizeof suffix, ".%05u.%02u", (unsigned)getpid() % 100000u, (unsigned)attempt % 100u);
        memcpy(out->temporary + length, suffix, strlen(suffix) + 1);
        descriptor = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                          0666); /* as the umask allows, unlike mkstemp's */
        if (descriptor < 0 && errno != EEXIST)
            break;
    }
    if (descriptor < 0) { /* no new file, or another's */
        free(out->temporary);
        out->temporary = NULL;
    }
    return descriptor;
}

trol_status output_open(const char *path, output *out, trol_error *error) {
    struct stat info;
    *out = (output){0};
    out->path = strdup(path);
    if (!out->path)
        return fail_memory(error, strlen(path), "a file's name");
    out->buffer = malloc(BUFFER_BYTES);
    if (!out->buffer) {
        output_discard(out);
        return fail_memory(error, BUFFER_BYTES, "a file's buffer");
    }
    out->place = path_follow_links(path);
    int descriptor = -1;
    if (out->place && stat(out->place, &info) == 0 && !S_ISREG(info.st_mode))
        descriptor = open(out->place, O_WRONLY | O_CLOEXEC);
    else if (out->place)
        descriptor = open_temporary(out);
    out->file = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    if (!out->file) {
        trol_status status = output_failed(out, error);
        if (descriptor >= 0)
            close(descriptor);
        output_discard(out);
        return status;
    }
    (void)setvbuf(out->file, out->buffer, _IOFBF, BUFFER_BYTES); /* refused: only slower */
    return TROL_OK;
}

trol_status output_write(output *out, const void *bytes, size_t n_bytes, trol_error *error) {
    if (n_bytes > 0 && fwrite(bytes, 1, n_bytes, out->file) != n_bytes)
        return output_failed(out, error);
    return TROL_OK;
}

trol_status output_finish(output *out, trol_error *error) {
    trol_status status = TROL_OK;
    /* A device or a pipe has nothing to flush to a disk. */
    if (fflush(out->file) != 0 || (out->temporary && fsync(fileno(out->file)) != 0))
        status = output_failed(out, error);
    if (fclose(out->file) != 0 && status == TROL_OK)
        status = output_failed(out, error);
    out->file = NULL;
    return status;
}

trol_status output_commit(output *out, trol_error *error) {
    trol_status status = out->file ? output_finish(out, error) : TROL_OK;
    if (status == TROL_OK && out->temporary) {
        if (rename(out->temporary, out->place) == 0) {
            free(out->temporary);
            out->temporary = NULL;
        } else {
            status = output_failed(out, error);
        }
    }
    output_discard(out);
    return status;
}

void output_discard(output *out) {
    if (out->file)
        fclose(out->file);
    if (out->temporary)
        unlink(out->temporary);
    free(out->buffer);
    free(out->path);
    free(out->place);
    free(out->temporary);
    *out = (output){0};
}
