/* eval_set.h - questions about pictures and what a right answer contains: a folder with questions.jsonl, one JSON
 * object per line, and the pictures. tools/train/README.md documents how such a folder is made and how answers are
 * graded.
 */
#ifndef TOOLS_EVAL_SET_H
#define TOOLS_EVAL_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "trol.h"

/* One line. Texts belong to the set. */
typedef struct eval_question {
    char *image; /* path of the picture; NULL: none */
    int kind;    /* index into the set's kinds */
    const char *question;
    const char *answer; /* the reference answer; NULL: none */
    struct cJSON *json; /* the whole line */
} eval_question;

typedef struct eval_set {
    eval_question *questions; /* [n_questions], those about the same picture in sequence */
    size_t n_questions;
    size_t n_images;
    const char **kinds; /* [n_kinds], in order of first occurrence */
    int n_kinds;
} eval_set;

/* Reads folder/questions.jsonl, `limit` lines at most (0: all). On failure the set is empty. */
trol_status eval_set_read(const char *folder, size_t limit, eval_set *set, trol_error *error);
void eval_set_free(eval_set *set);

/* Whether the answer is right: all phrases of one list in "accept" occur in it and no phrase of "reject" does. Words
 * are runs of ASCII letters and digits, ignoring case; a phrase occurs where its words are consecutive. */
bool eval_grade(const eval_question *question, const char *answer);

#endif
