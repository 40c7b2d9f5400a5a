/* file.h - whole files read, paths, pages of mapped files. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>

#include "base/error.h"

/* Reads a whole file or pipe (a NUL is put after it). Fails past max_bytes, and for folders and devices. Free *bytes
 * with memory_free. `path` in messages. */
trol_status file_read(const char *path, size_t max_bytes, char **bytes, size_t *n_bytes, trol_error *error);
/* These bytes of a mapped file need not stay in memory any more. */
void file_forget_pages(const void *data, size_t n_bytes);
/* Mapped bytes of a file that are read soon: the system may begin with it. */
void file_expect_pages(const void *data, size_t n_bytes);

/* The folder joined with a name, allocated: free with memory_free. */
trol_status path_join(const char *folder, const char *name, char **path, trol_error *error);
/* The part after the last '/'. */
const char *path_name(const char *path);
/* The file that a link leads to, also one that does not exist yet: the path to write to, so that the link stays.
 * Allocated with malloc; NULL with errno set. */
char *path_follow_links(const char *path);

#endif
