/* output_file.h - an output (base/output.h) of a tool: it appears under its name only when it is complete, and an
 * unfinished one is removed if a signal ends the program. */
#ifndef TOOLS_OUTPUT_FILE_H
#define TOOLS_OUTPUT_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include "base/output.h"
#include "trol.h"

typedef struct output_file {
    FILE *stream; /* the output's; NULL: not open */
    output content;
    int unfinished; /* of signals.h */
} output_file;

/* On failure the file is not open and needs no close. */
trol_status output_file_open(const char *path, output_file *file, trol_error *error);
/* Sets the error for a write that has just failed. */
trol_status output_file_failed(const output_file *file, trol_error *error);
/* keep: gives it its name; else, or on failure, it is removed. */
trol_status output_file_close(output_file *file, bool keep, trol_error *error);

#endif
