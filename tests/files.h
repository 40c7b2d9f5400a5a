/* files.h - a temporary folder for tests that need files with given, mostly broken, contents. */
#ifndef TESTS_FILES_H
#define TESTS_FILES_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char test_folder[512];

/* Makes the folder, in $TMPDIR or /tmp; call test_remove_folder at the end. */
static inline void test_make_folder(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(test_folder, sizeof test_folder, "%s/trol-test-XXXXXX", parent && strlen(parent) < 400 ? parent : "/tmp");
    if (!mkdtemp(test_folder)) {
        perror(test_folder);
        exit(1);
    }
}

/* The path of a name in the folder; one of four buffers, used in turn. */
static inline const char *test_path(const char *name) {
    static char paths[4][1024];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", test_folder, name);
    return paths[next];
}

/* A new file each time: overwriting one makes some file systems wait for the disk. */
static inline void test_write(const char *name, const void *bytes, size_t n_bytes) {
    unlink(test_path(name));
    FILE *file = fopen(test_path(name), "wb");
    if (!file || fwrite(bytes, 1, n_bytes, file) != n_bytes || fclose(file) != 0) {
        perror(name);
        exit(1);
    }
}

/* Removes what is in the folder (files, links, empty folders). */
static inline void test_clear_folder(void) {
    DIR *folder = opendir(test_folder);
    struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            if (unlinkat(dirfd(folder), entry->d_name, 0) != 0)
                unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
    if (folder)
        closedir(folder);
}

static inline void test_remove_folder(void) {
    test_clear_folder();
    rmdir(test_folder);
}

#endif
