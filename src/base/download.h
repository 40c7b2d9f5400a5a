/* download.h - recognizes what a missing or unfinished download left in place of a file. */
#ifndef BASE_DOWNLOAD_H
#define BASE_DOWNLOAD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Fails where the bytes that `path` begins with are a Git LFS pointer or a web page instead of the file itself. */
trol_status download_check(const char *path, const void *bytes, size_t n_bytes, trol_error *error);

/* Whether a download in or near the folder of that file was not finished; `name` gets that of its file, else "". */
bool download_unfinished(const char *path, char *name, size_t bytes);

/* The error for a file that open() refused with the errno `cause`: a link that leads nowhere, and downloads in or near
 * the file's folder that were not finished, are named. */
trol_status download_fail_open(const char *path, int cause, trol_error *error);

#endif
