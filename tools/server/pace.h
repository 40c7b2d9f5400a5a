/* pace.h - how many prompt rows a step has beside the answers: as many as add at most a given time to it.
 *
 * The cost of rows is measured as steps run, so that the time is kept on any machine, also under other load. */
#ifndef SERVER_PACE_H
#define SERVER_PACE_H

#include <stdbool.h>
#include <stddef.h>

enum { PACE_LARGEST_PIECE = 512 };

typedef struct pace {
    double piece_seconds;   /* what a piece may add to a step */
    double row_seconds;     /* of a piece's row, as measured lately; 0: not yet */
    double *answer_seconds; /* [n_slots + 1], of a step with this many answers and no piece; 0: not yet */
    bool others_turn;       /* pictures or searches get the time after the next step, which has no piece */
} pace;

bool pace_init(pace *p, double piece_seconds, size_t n_slots);
void pace_free(pace *p);

/* The number of prompt rows that the next step may have beside n_answers answers. */
size_t pace_rows(const pace *p, size_t n_answers);
/* The expected time of such a step; infinite while it is not known. */
double pace_expect(const pace *p, size_t n_answers, size_t n_rows);
/* Records how long a step took with n_rows prompt rows, of the `room` that it could have had. */
void pace_measure(pace *p, double seconds, size_t n_answers, size_t n_rows, size_t room);
/* After a step beside which pictures or searches want to compute, or do not: whether they have their time now. Pieces
 * and they take turns, so that a token of an answer waits for one of both. */
bool pace_give_turn(pace *p, bool others, size_t n_rows);

#endif
