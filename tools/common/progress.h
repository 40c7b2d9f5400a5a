/* progress.h - a line on a terminal that shows how far a stage is. */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "trol.h"

typedef struct progress_line {
    bool enabled; /* else nothing is ever written */
    bool shown;   /* something is on the line */
    int last_stage, last_percent;
} progress_line;

/* Enabled if standard error is a terminal and `quiet` is not set. */
progress_line progress_start(bool quiet);
void progress_show(progress_line *line, trol_stage stage, int64_t done, int64_t total);
/* To be called before anything else is written to the terminal. */
void progress_clear(progress_line *line);

#endif
