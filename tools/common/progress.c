#include "common/progress.h"

#include <stdio.h>
#include <unistd.h>

progress_line progress_start(bool quiet) {
    return (progress_line){.enabled = !quiet && isatty(STDERR_FILENO), .last_stage = -1};
}

void progress_show(progress_line *line, trol_stage stage, int64_t done, int64_t total) {
    static const char *const names[] = {"loading the model", "encoding the picture", "reading the prompt"};
    int percent = total > 0 ? (int)(100.0 * (double)done / (double)total) : 0;
    if (!line->enabled || ((int)stage == line->last_stage && percent == line->last_percent))
        return;
    line->last_stage = (int)stage;
    line->last_percent = percent;
    line->shown = true;
    fprintf(stderr, "\r\033[K%s: %d%%", names[stage], percent);
    fflush(stderr);
}

void progress_clear(progress_line *line) {
    if (!line->shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    line->shown = false;
}
