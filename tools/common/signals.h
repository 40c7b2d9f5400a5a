/* signals.h - what a signal that ends a tool does, and the files that must not be left behind.
 */
#ifndef TOOLS_SIGNALS_H
#define TOOLS_SIGNALS_H

#include <stdbool.h>

/* Calls the handler for SIGINT, SIGTERM and, unless it is ignored as under nohup, SIGHUP. A closed pipe and a file-size
 * limit become write errors (SIGPIPE and SIGXFSZ are ignored). A mapped file that is cut while in use (SIGBUS) is named
 * on standard error, and the program exits with 1. */
void signals_catch(void (*handler)(int number));

/* A handler: removes unfinished files and exits with 128 + number. For whatever does not need to end cleanly.
 */
void signals_end_at_once(int number);

/* Registers a file that signals_end_at_once is to remove, preferably before it is created. Returns a number for
 * signals_forget_file; -1: the table is full, and the file would stay. */
int signals_unfinished_file(const char *path);
void signals_forget_file(int number);

/* A flag that is true while a line is shown on the terminal, which must be wiped before the program ends. */
void signals_progress_line(const bool *shown);

#endif
