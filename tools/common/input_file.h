/* input_file.h - a whole file, or standard input, in memory. */
#ifndef TOOLS_INPUT_FILE_H
#define TOOLS_INPUT_FILE_H

#include <stddef.h>

#include "trol.h"

/* path "-": standard input. A NUL is appended to the bytes. *bytes comes from malloc; the caller frees it. */
trol_status input_file_read(const char *path, size_t max_bytes, char **bytes, size_t *n_bytes, trol_error *error);

#endif
