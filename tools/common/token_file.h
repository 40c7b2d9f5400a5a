/* token_file.h - token ids from a text file: decimal numbers with white space between. */
#ifndef TOOLS_TOKEN_FILE_H
#define TOOLS_TOKEN_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "trol.h"

/* path "-": standard input. *tokens is allocated with malloc; the caller frees it. */
trol_status token_file_read(const char *path, int32_t **tokens, size_t *n_tokens, trol_error *error);

/* Fails, with the file's name and the place in it, if a token is not below n_ids. */
trol_status token_file_check(const char *path, const int32_t *tokens, size_t n_tokens, int32_t n_ids,
                             trol_error *error);

#endif
