#include "common/output_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/signals.h"

static char *joined(const char *first, size_t n_first, const char *second) {
    const size_t n_second = strlen(second);
    char *text = malloc(n_first + n_second + 1);
    if (text) {
        memcpy(text, first, n_first);
        memcpy(text + n_first, second, n_second + 1);
    }
    return text;
}

/* The file behind a link, also one that is not there yet. NULL with errno set. */
static char *follow_links(const char *path) {
    enum { MAX_LINKS = 40 };
    char link[4096];
    char *place = joined(path, strlen(path), "");
    for (int i = 0; place; i++) {
        const ssize_t n = readlink(place, link, sizeof link - 1);
        if (n < 0)
            return place; /* no link */
        link[n] = '\0';
        const char *slash = strrchr(place, '/');
        const size_t n_folder = link[0] == '/' || !slash ? 0 : (size_t)(slash - place) + 1;
        char *target = i < MAX_LINKS ? joined(place, n_folder, link) : NULL;
        if (i == MAX_LINKS)
            errno = ELOOP;
        free(place);
        place = target;
    }
    return NULL;
}

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

trol_status output_file_open(const char *path, output_file *file, trol_error *error) {
    struct stat info;
    *file = (output_file){.unfinished = -1};
    file->path = joined(path, strlen(path), "");
    if (!file->path)
        return tool_fail(error, TROL_ERROR_MEMORY, "out of memory");
    file->place = follow_links(path);
    if (file->place && (stat(file->place, &info) != 0 || S_ISREG(info.st_mode)))
        file->partial = joined(file->place, strlen(file->place), ".partial");
    if (file->partial)
        file->unfinished = signals_unfinished_file(file->partial);
    if (file->place)
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
