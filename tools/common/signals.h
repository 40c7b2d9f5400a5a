/* signals.h - the end from outside: what a signal that ends a tool does, and the files that are not to be left behind.
 */
#ifndef TOOLS_SIGNALS_H
#define TOOLS_SIGNALS_H

#include <stdbool.h>

/* Calls the handler for SIGINT, SIGTERM and, unless it is ignored as under nohup, SIGHUP. A closed pipe and a file-size
 * limit become errors of writing (SIGPIPE and SIGXFSZ are ignored). A mapped file that is cut while it is in use
 * (SIGBUS) is named on standard error, and the program ends with 1. */
void signals_catch(void (*handler)(int number));

/* A handler: removes the unfinished files and ends the program with 128 + number. For all that need not be ended well.
 */
void signals_end_at_once(int number);

/* Notes a file that signals_end_at_once is to remove, at best before it is made. Returns a number for
 * signals_forget_file; -1: there is no room, and it would stay. */
int signals_unfinished_file(const char *path);
void signals_forget_file(int number);

/* What a line that is shown on a terminal needs before the program ends: a flag that is true while it is there. */
void signals_progress_line(const bool *shown);

#endif
