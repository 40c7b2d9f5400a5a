#include "common/checkpoint_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool writer_open(checkpoint_writer *writer, const char *name) {
    char path[4096];
    if (writer->n_files == WRITER_MAX_FILES)
        return !fail(writer->error, TROL_ERROR_ARGUMENT, "a checkpoint of more than %d files", WRITER_MAX_FILES);
    const int length = snprintf(path, sizeof path, "%s/%s", writer->folder, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return !fail(writer->error, TROL_ERROR_ARGUMENT, "the path of the folder for %s is too long", name);
    if (!writer->force && access(path, F_OK) == 0)
        return !fail(writer->error, TROL_ERROR_IO, "%s exists already", path);
    if (output_open(path, &writer->files[writer->n_files], writer->error) != TROL_OK)
        return false;
    writer->n_files++;
    return true;
}

bool writer_write(checkpoint_writer *writer, const void *data, size_t n_bytes) {
    if (writer->cancel && *writer->cancel)
        return !fail(writer->error, TROL_ERROR_CANCELLED, "interrupted; nothing was kept");
    return output_write(&writer->files[writer->n_files - 1], data, n_bytes, writer->error) == TROL_OK;
}

bool writer_close(checkpoint_writer *writer) {
    return output_finish(&writer->files[writer->n_files - 1], writer->error) == TROL_OK;
}

bool writer_put(checkpoint_writer *writer, const char *name, const void *data, size_t n_bytes) {
    return writer_open(writer, name) && writer_write(writer, data, n_bytes) && writer_close(writer);
}

static bool copy_content(checkpoint_writer *writer, int descriptor, const char *path, const char *name) {
    char chunk[1 << 16];
    if (!writer_open(writer, name))
        return false;
    for (;;) {
        ssize_t n = read(descriptor, chunk, sizeof chunk);
        if (n == 0)
            return writer_close(writer);
        if (n < 0)
            return !fail(writer->error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
        if (!writer_write(writer, chunk, (size_t)n))
            return false;
    }
}

bool writer_copy(checkpoint_writer *writer, const char *from_folder, const char *name, bool optional) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", from_folder, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return !fail(writer->error, TROL_ERROR_ARGUMENT, "the path of the folder with %s is too long", name);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT && optional)
        return true;
    if (descriptor < 0)
        return !fail(writer->error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
    bool ok = copy_content(writer, descriptor, path, name);
    close(descriptor);
    return ok;
}

bool writer_finish(checkpoint_writer *writer, bool ok) {
    for (size_t i = 0; i < writer->n_files; i++) {
        output *file = &writer->files[i];
        if (ok)
            ok = output_commit(file, writer->error) == TROL_OK;
        output_discard(file);
    }
    writer->n_files = 0;
    return ok;
}
