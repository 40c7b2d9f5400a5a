#define _GNU_SOURCE /* program_invocation_short_name */
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"

/* For the handler, which takes no arguments and may call few functions. */
enum { MAX_FILES = 8, MAX_PATH_BYTES = 4200 };
static char paths[MAX_FILES][MAX_PATH_BYTES];
static volatile sig_atomic_t is_unfinished[MAX_FILES];
static const bool *volatile line_shown;

static void remove_unfinished(void) {
    for (int i = 0; i < MAX_FILES; i++)
        if (is_unfinished[i])
            unlink(paths[i]);
}

/* ---- a mapped file that was cut -------------------------------------------------------------- */

static const char *read_hexadecimal(const char *text, uintptr_t *value) {
    *value = 0;
    for (int digit; (digit = hex_value(*text)) >= 0; text++)
        *value = *value << 4 | (uintptr_t)digit;
    return text;
}

/* The path in a line of /proc/self/maps, "begin-end rights offset device inode path", if the line covers the
 * address. */
static const char *path_in_line(const char *line, uintptr_t address) {
    uintptr_t begin, end;
    const char *at = read_hexadecimal(line, &begin);
    at = read_hexadecimal(at + (*at == '-'), &end);
    if (address < begin || address >= end)
        return NULL;
    for (int field = 0; field < 4; field++) {
        at += strspn(at, " ");
        at += strcspn(at, " ");
    }
    at += strspn(at, " ");
    return *at == '/' ? at : NULL;
}

/* The file that is mapped at that address, in `line`, which is scratch; NULL if unknown. Calls only what a signal
 * handler may. */
static const char *mapped_file(uintptr_t address, char *line, size_t bytes) {
    char chunk[1024];
    const char *path = NULL;
    size_t used = 0;
    const int descriptor = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; descriptor >= 0 && !path && (n = read(descriptor, chunk, sizeof chunk)) > 0;)
        for (ssize_t i = 0; i < n && !path; i++) {
            if (chunk[i] != '\n') {
                const unsigned char c = (unsigned char)chunk[i];
                if (used + 1 < bytes)
                    line[used++] = c < 0x20 || c == 0x7f ? '?' : chunk[i];
                continue;
            }
            line[used] = '\0';
            used = 0;
            path = path_in_line(line, address);
        }
    if (descriptor >= 0)
        close(descriptor);
    return path;
}

static void say(const char *text) {
    for (size_t n = strlen(text); n > 0;) {
        const ssize_t written = write(STDERR_FILENO, text, n);
        if (written <= 0)
            return;
        text += written;
        n -= (size_t)written;
    }
}

/* A mapped file lost its end: a download to the same place, a truncation, a failing disk. */
static void on_bus_error(int number, siginfo_t *info, void *context) {
    static atomic_flag first = ATOMIC_FLAG_INIT;
    char line[4300];
    (void)context;
    if (info->si_code <= 0 || info->si_code == BUS_ADRALN) { /* sent by a process, or not about a file */
        signal(number, SIG_DFL); /* the instruction runs again and ends the program as without a handler */
        return;
    }
    while (atomic_flag_test_and_set(&first))
        pause(); /* several threads read the file: the first of them ends the program */
    const char *path = mapped_file((uintptr_t)info->si_addr, line, sizeof line);
    if (line_shown && *line_shown)
        say("\r\033[K");
    say(program_invocation_short_name);
    say(": ");
    say(path ? path : "a file");
    say(" became shorter, or could not be read, while it was in use (replace a file by renaming another to it)\n");
    remove_unfinished();
    _exit(1);
}

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
    struct sigaction bus = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigemptyset(&bus.sa_mask);
    sigaction(SIGBUS, &bus, NULL);
}

void signals_end_at_once(int number) {
    static const char clear[] = "\r\033[K";
    remove_unfinished();
    if (line_shown && *line_shown && write(STDERR_FILENO, clear, sizeof clear - 1) < 0)
        _exit(128 + number); /* no line is shown */
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
