/* line_editor.h - lines that a person types: with editing and a history on a terminal (libedit), plain otherwise. */
#ifndef CLI_LINE_EDITOR_H
#define CLI_LINE_EDITOR_H

#include <signal.h>

#include "trol.h"

typedef struct line_editor line_editor;

typedef enum line_result {
    LINE_READ,
    LINE_END,         /* ^D, or the end of standard input */
    LINE_INTERRUPTED, /* ^C: *interrupted is not zero */
    LINE_FAILED       /* standard input cannot be read, or there is no memory */
} line_result;

/* interrupted: set by the program's SIGINT handler, which must interrupt system calls. NULL: no memory. */
line_editor *line_editor_new(const volatile sig_atomic_t *interrupted);
void line_editor_free(line_editor *editor);

/* Reads a line after showing the prompt (on a terminal only). *line is without its line break, owned by the editor and
 * valid until its next call. */
line_result line_editor_read(line_editor *editor, const char *prompt, const char **line);
/* Puts a text into the history, where it has one. */
void line_editor_remember(line_editor *editor, const char *text);

#endif
