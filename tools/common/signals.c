#include "common/signals.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* For the handler, which can be given nothing and may call little. */
enum { MAX_FILES = 8, MAX_PATH_BYTES = 4200 };
static char paths[MAX_FILES][MAX_PATH_BYTES];
static volatile sig_atomic_t is_unfinished[MAX_FILES];
static const bool *volatile line_shown;

void signals_catch(void (*handler)(int number)) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = handler}, before;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 3; i++)
        sigaddset(&action.sa_mask, numbers[i]);
    for (int i = 0; i < 3; i++)
        if (numbers[i] != SIGHUP || sigaction(SIGHUP, NULL, &before) != 0 || before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

void signals_end_at_once(int number) {
    static const char clear[] = "\r\033[K";
    for (int i = 0; i < MAX_FILES; i++)
        if (is_unfinished[i])
            unlink(paths[i]);
    if (line_shown && *line_shown && write(STDERR_FILENO, clear, sizeof clear - 1) < 0)
        _exit(128 + number); /* there is nobody to see the line */
    _exit(128 + number);
}

int signals_unfinished_file(const char *path) {
    const size_t n_bytes = strlen(path) + 1;
    for (int i = 0; i < MAX_FILES && n_bytes <= MAX_PATH_BYTES; i++)
        if (!is_unfinished[i]) {
            memcpy(paths[i], path, n_bytes);
            is_unfinished[i] = 1;
            return i;
        }
    return -1;
}

void signals_forget_file(int number) {
    if (number >= 0)
        is_unfinished[number] = 0;
}

void signals_progress_line(const bool *shown) { line_shown = shown; }
