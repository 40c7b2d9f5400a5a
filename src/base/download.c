#include "base/download.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

trol_status download_check(const char *path, const void *bytes, size_t n_bytes, trol_error *error) {
    static const char pointer[] = "version https://git-lfs.github.com/spec/";
    static const char *const pages[] = {"<!doctype html", "<html", "Entry not found"};
    const char *text = bytes;
    if (n_bytes >= sizeof pointer - 1 && memcmp(text, pointer, sizeof pointer - 1) == 0)
        return fail(error, TROL_ERROR_FORMAT,
                    "%s is a Git LFS pointer, the file itself was not downloaded: run git lfs pull", path);
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (n_bytes >= strlen(pages[i]) && strncasecmp(text, pages[i], strlen(pages[i])) == 0)
            return fail(error, TROL_ERROR_FORMAT, "%s is a web page, not the file itself: download it again", path);
    return TROL_OK;
}

/* The hub's library, curl, browsers and aria2 call a file so until it is whole. */
static bool is_unfinished(const char *name) {
    static const char *const ends[] = {".incomplete", ".part", ".crdownload", ".aria2"};
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (length > strlen(ends[i]) && strcmp(name + length - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}

/* The first unfinished file in the folder, its name in `name`. */
static bool find_unfinished(const char *folder, char *name, size_t bytes) {
    DIR *directory = opendir(folder);
    bool found = false;
    for (const struct dirent *entry; directory && !found && (entry = readdir(directory));)
        if ((found = is_unfinished(entry->d_name)))
            snprintf(name, bytes, "%.200s", entry->d_name);
    if (directory)
        closedir(directory);
    return found;
}

bool download_unfinished(const char *path, char *name, size_t bytes) {
    /* beside the file; where the hub's library keeps unfinished downloads, for a local folder and in its cache */
    static const char *const places[] = {".", ".cache/huggingface/download", "../../blobs"};
    const char *slash = strrchr(path, '/');
    name[0] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char folder[4096];
        const int length =
            snprintf(folder, sizeof folder, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, places[i]);
        if (length > 0 && (size_t)length < sizeof folder && find_unfinished(folder, name, bytes))
            return true;
    }
    return false;
}

trol_status download_fail_open(const char *path, int cause, trol_error *error) {
    struct stat info;
    char name[256];
    if (cause == ENOENT && lstat(path, &info) == 0 && S_ISLNK(info.st_mode))
        return fail(error, TROL_ERROR_IO, "%s is a link to a file that is not there: was the download finished?", path);
    if (cause == ENOENT && download_unfinished(path, name, sizeof name))
        return fail(error, TROL_ERROR_IO, "%s is missing; a download was not finished: %s is there", path, name);
    return fail(error, TROL_ERROR_IO, "%s cannot be opened: %s", path, strerror(cause));
}
