#define _DEFAULT_SOURCE /* madvise */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/download.h"
#include "base/memory.h"

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

/* Opens without waiting for the writer of a pipe that has none, and reports what is wrong with anything that is neither
 * a file nor a pipe. */
static trol_status open_to_read(const char *path, int *descriptor, size_t *expected_bytes, trol_error *error) {
    struct stat info;
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0)
        return download_fail_open(path, errno, error);
    if (fstat(opened, &info) != 0) {
        trol_status status = fail(error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
        close(opened);
        return status;
    }
    if (!S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode)) {
        close(opened);
        return fail(error, TROL_ERROR_IO, "%s is a %s, expected a file", path,
                    S_ISDIR(info.st_mode) ? "folder" : "device or socket");
    }
    fcntl(opened, F_SETFL, fcntl(opened, F_GETFL) & ~O_NONBLOCK);
    *descriptor = opened;
    *expected_bytes = S_ISREG(info.st_mode) && info.st_size > 0 ? (size_t)info.st_size : 0;
    return TROL_OK;
}

trol_status file_read(const char *path, size_t max_bytes, char **bytes, size_t *n_bytes, trol_error *error) {
    *bytes = NULL;
    *n_bytes = 0;
    int descriptor = -1;
    size_t expected = 0, used = 0, capacity;
    TRY(open_to_read(path, &descriptor, &expected, error));
    trol_status status = TROL_OK;
    void *buffer = NULL;
    if (expected > max_bytes) {
        status =
            fail(error, TROL_ERROR_FORMAT, "%s is %zu bytes long, expected at most %zu", path, expected, max_bytes);
        goto done;
    }
    capacity = expected + 1;
    TRY_GOTO(memory_alloc(capacity, 1, path, &buffer, error), done);
    /* The size is a hint: the file may grow or shrink meanwhile. The byte kept for the NUL also shows whether more
     * follows. */
    for (;;) {
        if (used == capacity)
            TRY_GOTO(memory_grow(&buffer, &capacity, capacity + 1, 1, path, error), done);
        ssize_t got = read(descriptor, (char *)buffer + used, capacity - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = fail(error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
            goto done;
        }
        if (got == 0)
            break;
        used += (size_t)got;
        if (used > max_bytes) {
            status = fail(error, TROL_ERROR_FORMAT, "%s is longer than %zu bytes, the most that is expected", path,
                          max_bytes);
            goto done;
        }
    }
    ((char *)buffer)[used] = '\0'; /* used < capacity, or the last read would have had no room to return 0 */
    *bytes = buffer;
    *n_bytes = used;
    buffer = NULL;
done:
    memory_free(buffer);
    close(descriptor);
    return status;
}

trol_status path_join(const char *folder, const char *name, char **path, trol_error *error) {
    size_t folder_bytes = strlen(folder), name_bytes = strlen(name);
    bool slash = folder_bytes > 0 && folder[folder_bytes - 1] != '/';
    void *joined;
    *path = NULL;
    TRY(memory_alloc(folder_bytes + slash + name_bytes + 1, 1, "a path", &joined, error));
    snprintf(joined, folder_bytes + slash + name_bytes + 1, "%s%s%s", folder, slash ? "/" : "", name);
    *path = joined;
    return TROL_OK;
}

const char *path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static char *joined(const char *first, size_t n_first, const char *second) {
    const size_t n_second = strlen(second);
    char *text = malloc(n_first + n_second + 1);
    if (text) {
        memcpy(text, first, n_first);
        memcpy(text + n_first, second, n_second + 1);
    }
    return text;
}

char *path_follow_links(const char *path) {
    enum { MAX_LINKS = 40 };
    char link[PATH_MAX];
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

void file_forget_pages(const void *data, size_t n_bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)data + page - 1) / page * page,
                    last = ((uintptr_t)data + n_bytes) / page * page;
    if (last > first)
        madvise((void *)first, last - first, MADV_DONTNEED);
}

void file_expect_pages(const void *data, size_t n_bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t)data / page * page;
    madvise((void *)first, (uintptr_t)data + n_bytes - first, MADV_WILLNEED);
}
