/* batch_line.h - a line of --batch as a request. */
#ifndef CLI_BATCH_LINE_H
#define CLI_BATCH_LINE_H

#include <cjson/cJSON.h>

#include "cli/cli.h"
#include "server/chat_request.h"

/* Reads a line (NUL-terminated, n_bytes without it). A request is "prompt" (a text in which "<image>" places a picture,
 * as -p) or "messages" (as the OpenAI chat API has them), "image" or "images" (paths, or data: URLs), and the fields of
 * tools/server/chat_request.c; for fields that the line leaves out the command's options apply. *id: the line's "id" as
 * JSON text, from malloc, or NULL. false, with the sentence in *error, for a line that is not valid. */
bool batch_line_read(const run *r, const char *line, size_t n_bytes, chat_request *request, char **id,
                     api_error *error);

#endif
