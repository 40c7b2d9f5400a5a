#include "common/output_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "common/fail.h"
#include "common/signals.h"

trol_status output_file_failed(const output_file *file, trol_error *error) {
    return tool_fail(error, TROL_ERROR_IO, "%s cannot be written: %s", file->path, strerror(errno));
}

static void release(output_file *file) {
    signals_forget_file(file->unfinished);
    free(file->path);
    free(file->place);
    free(file->partial);
    *file = (output_file){.unfinished = -1};
}

static char *partial_name(const char *place) {
    static const char suffix[] = ".partial";
    const size_t n = strlen(place);
    char *name = malloc(n + sizeof suffix);
    if (name) {
        memcpy(name, place, n);
        memcpy(name + n, suffix, sizeof suffix);
    }
    return name;
}

trol_status output_file_open(const char *path, output_file *file, trol_error *error) {
    struct stat info;
    *file = (output_file){.unfinished = -1};
    file->path = strdup(path);
    if (!file->path)
        return tool_fail(error, TROL_ERROR_MEMORY, "out of memory");
    file->place = path_follow_links(path);
    const bool is_file = file->place && (stat(file->place, &info) != 0 || S_ISREG(info.st_mode));
    if (is_file)
        file->partial = partial_name(file->place);
    if (file->partial)
        file->unfinished = signals_unfinished_file(file->partial);
    if (file->place && (file->partial || !is_file))
        file->stream = fopen(file->partial ? file->partial : file->place, "wb");
    if (!file->stream) {
        trol_status status = output_file_failed(file, error);
        release(file);
        return status;
    }
    return TROL_OK;
}

trol_status output_file_close(output_file *file, bool keep, trol_error *error) {
    trol_status status = TROL_OK;
    if (!file->stream)
        return TROL_OK;
    if (keep && fflush(file->stream) != 0)
        status = output_file_failed(file, error);
    if (fclose(file->stream) != 0 && keep && status == TROL_OK)
        status = output_file_failed(file, error);
    if (keep && status == TROL_OK && file->partial && rename(file->partial, file->place) != 0)
        status = output_file_failed(file, error);
    if ((!keep || status != TROL_OK) && file->partial)
        remove(file->partial);
    release(file);
    return status;
}
