/* logprobs_file.h - the tokens of an answer with their log-probabilities, one JSON object per line; the file appears
 * under its name only when it is complete. */
#ifndef TOOLS_LOGPROBS_FILE_H
#define TOOLS_LOGPROBS_FILE_H

#include <stdbool.h>

#include "trol.h"

typedef struct logprobs_file logprobs_file;

/* Without a tokenizer in the model, "text" and "bytes" are left out. The model must outlive the file. */
trol_status logprobs_file_open(const char *path, const trol_model *model, bool has_tokenizer, logprobs_file **file,
                               trol_error *error);
/* {"position": 30, "token": 5, "text": "...", "bytes": [...], "logprob": -0.1, "top": [{"token": ...}, ...]}: text is
 * the bytes as text, with U+FFFD for what is not UTF-8; a log-probability of -infinity is null. */
trol_status logprobs_file_append(logprobs_file *file, const trol_token_info *info, trol_error *error);
/* Frees the file in any case. keep: gives it its name; else, or on failure, it is removed. NULL is allowed. */
trol_status logprobs_file_close(logprobs_file *file, bool keep, trol_error *error);

#endif
