/* pace.h - how many rows of prompts a step has beside the answers: so many that they add at most a given time to it.
 *
 * What rows cost is measured as steps run, so that the time holds on any machine, and while others use it, too. */
#ifndef SERVER_PACE_H
#define SERVER_PACE_H

#include <stdbool.h>
#include <stddef.h>

enum { PACE_LARGEST_PIECE = 512 };

typedef struct pace {
    double piece_seconds;   /* what a piece may add to a step */
    double row_seconds;     /* of a piece's row, as measured lately; 0: not yet */
    double *answer_seconds; /* [n_slots + 1], of a step with so many answers and no piece; 0: not yet */
    bool others_turn;       /* pictures or searches have the time after the next step, which has no piece */
} pace;

bool pace_init(pace *p, double piece_seconds, size_t n_slots);
void pace_free(pace *p);

/* Rows of prompts that the next step may have beside n_answers answers. */
size_t pace_rows(const pace *p, size_t n_answers);
/* How long such a step takes, as far as is known; without that, for ever. */
double pace_expect(const pace *p, size_t n_answers, size_t n_rows);
/* A step with n_rows rows of the `room` that it could have had took so long. */
void pace_measure(pace *p, double seconds, size_t n_answers, size_t n_rows, size_t room);
/* After a step beside which pictures or searches want to compute, or do not: whether they have their time now. Pieces
 * and they take turns, so that a token of an answer waits for one of both. */
bool pace_give_turn(pace *p, bool others, size_t n_rows);

#endif
