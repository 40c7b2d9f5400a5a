/* output_file.h - a file that appears under its name only when it is whole; a link's file is replaced, not the link,
 * and a device or a pipe is written as it is. */
#ifndef TOOLS_OUTPUT_FILE_H
#define TOOLS_OUTPUT_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include "trol.h"

typedef struct output_file {
    FILE *stream;   /* NULL: not open */
    char *path;     /* as it was asked for */
    char *place;    /* where it will be: behind the links */
    char *partial;  /* where it is until then, removed where a signal ends the program; NULL: a device or a pipe */
    int unfinished; /* of signals.h */
} output_file;

/* On failure the file is not open and needs no close. */
trol_status output_file_open(const char *path, output_file *file, trol_error *error);
/* Sets the error for a write that has just failed. */
trol_status output_file_failed(const output_file *file, trol_error *error);
/* keep: gives it its name; else, or on failure, nothing is left of it. */
trol_status output_file_close(output_file *file, bool keep, trol_error *error);

#endif
