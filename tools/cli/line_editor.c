#include "cli/line_editor.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#if defined(TROL_HAVE_LIBEDIT)
#include <histedit.h>
#include <locale.h>
#endif

struct line_editor {
    const volatile sig_atomic_t *interrupted;
    const char *prompt;
    char *line; /* [capacity] */
    size_t capacity;
    bool terminal;
#if defined(TROL_HAVE_LIBEDIT)
    EditLine *edit; /* NULL: plain lines */
    History *history;
    mbstate_t state; /* of the character that is being typed */
#endif
};

#if defined(TROL_HAVE_LIBEDIT)

enum { HISTORY_LINES = 1000 };

static line_editor *editor_of(EditLine *edit) {
    void *data = NULL;
    el_get(edit, EL_CLIENTDATA, &data);
    return data;
}

static char *show_prompt(EditLine *edit) { return (char *)editor_of(edit)->prompt; }

/* One character; 0 at the end or when ^C was pressed, which libedit's own reading would ignore once. */
static int read_character(EditLine *edit, wchar_t *character) {
    line_editor *editor = editor_of(edit);
    for (;;) {
        char byte;
        const ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (*editor->interrupted || n == 0)
            return 0;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        const size_t used = mbrtowc(character, &byte, 1, &editor->state);
        if (used == (size_t)-2)
            continue;
        if (used == (size_t)-1) { /* not a character: skipped */
            memset(&editor->state, 0, sizeof editor->state);
            continue;
        }
        return 1;
    }
}

static void start_editing(line_editor *editor) {
    HistEvent event;
    setlocale(LC_CTYPE, ""); /* nothing else: numbers keep the decimal point */
    editor->edit = el_init("trol-cli", stdin, stdout, stderr);
    editor->history = editor->edit ? history_init() : NULL;
    if (!editor->history) {
        if (editor->edit)
            el_end(editor->edit);
        editor->edit = NULL;
        return;
    }
    history(editor->history, &event, H_SETSIZE, HISTORY_LINES);
    history(editor->history, &event, H_SETUNIQUE, 1);
    el_set(editor->edit, EL_CLIENTDATA, editor);
    el_set(editor->edit, EL_PROMPT, show_prompt);
    el_set(editor->edit, EL_EDITOR, "emacs");
    el_set(editor->edit, EL_HIST, history, editor->history);
    el_set(editor->edit, EL_GETCFN, read_character);
    el_set(editor->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(editor->edit, NULL); /* ~/.editrc */
}

static line_result edit_line(line_editor *editor, const char **line) {
    int n = 0;
    memset(&editor->state, 0, sizeof editor->state);
    const char *text = el_gets(editor->edit, &n);
    if (*editor->interrupted) {
        el_reset(editor->edit);
        return LINE_INTERRUPTED;
    }
    if (!text || n <= 0)
        return n < 0 ? LINE_FAILED : LINE_END;
    char *copy = realloc(editor->line, (size_t)n + 1);
    if (!copy)
        return LINE_FAILED;
    editor->line = copy;
    editor->capacity = (size_t)n + 1;
    memcpy(copy, text, (size_t)n);
    copy[text[n - 1] == '\n' ? n - 1 : n] = '\0';
    *line = copy;
    return LINE_READ;
}

#endif

line_editor *line_editor_new(const volatile sig_atomic_t *interrupted) {
    line_editor *editor = calloc(1, sizeof *editor);
    if (!editor)
        return NULL;
    editor->interrupted = interrupted;
    editor->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
#if defined(TROL_HAVE_LIBEDIT)
    if (editor->terminal)
        start_editing(editor);
#endif
    return editor;
}

void line_editor_free(line_editor *editor) {
    if (!editor)
        return;
#if defined(TROL_HAVE_LIBEDIT)
    if (editor->edit) {
        history_end(editor->history);
        el_end(editor->edit);
    }
#endif
    free(editor->line);
    free(editor);
}

static line_result read_plain_line(line_editor *editor, const char **line) {
    if (editor->terminal) {
        fputs(editor->prompt, stdout);
        fflush(stdout);
    }
    const ssize_t n = getline(&editor->line, &editor->capacity, stdin);
    if (*editor->interrupted) {
        clearerr(stdin);
        return LINE_INTERRUPTED;
    }
    if (n < 0)
        return ferror(stdin) ? LINE_FAILED : LINE_END;
    editor->line[strcspn(editor->line, "\n")] = '\0';
    const size_t length = strlen(editor->line);
    if (length > 0 && editor->line[length - 1] == '\r')
        editor->line[length - 1] = '\0';
    *line = editor->line;
    return LINE_READ;
}

line_result line_editor_read(line_editor *editor, const char *prompt, const char **line) {
    editor->prompt = prompt;
#if defined(TROL_HAVE_LIBEDIT)
    if (editor->edit)
        return edit_line(editor, line);
#endif
    return read_plain_line(editor, line);
}

void line_editor_remember(line_editor *editor, const char *text) {
#if defined(TROL_HAVE_LIBEDIT)
    HistEvent event;
    if (editor->edit && *text)
        history(editor->history, &event, H_ENTER, text);
#else
    (void)editor;
    (void)text;
#endif
}
