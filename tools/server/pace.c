#include "server/pace.h"

#include <math.h>
#include <stdlib.h>

enum {
    TILE_ROWS = 8,    /* of a kernel: any number up to a multiple costs about as much as that; the least of a piece */
    LEAST_ALONE = 64, /* where no answer waits */
    ALONE = 4         /* how many times as long pieces may take then */
};

bool pace_init(pace *p, double piece_seconds, size_t n_slots) {
    *p = (pace){.piece_seconds = piece_seconds, .answer_seconds = calloc(n_slots + 1, sizeof(double))};
    return p->answer_seconds != NULL;
}

void pace_free(pace *p) { free(p->answer_seconds); }

/* The number of rows that take this long, in whole tiles if it is at least one. */
static size_t rows_within(const pace *p, double seconds) {
    if (p->row_seconds == 0)
        return TILE_ROWS;
    const double rows = seconds / p->row_seconds;
    return rows >= PACE_LARGEST_PIECE ? PACE_LARGEST_PIECE
           : rows >= TILE_ROWS        ? (size_t)rows / TILE_ROWS * TILE_ROWS
                                      : TILE_ROWS;
}

size_t pace_rows(const pace *p, size_t n_answers) {
    if (n_answers == 0) { /* only new requests wait, and those whose clients disconnect */
        const size_t rows = rows_within(p, ALONE * p->piece_seconds);
        return rows < LEAST_ALONE ? LEAST_ALONE : rows;
    }
    const bool known = p->answer_seconds[n_answers] > 0; /* the cost of answers alone must be measured first */
    return known && !p->others_turn ? rows_within(p, p->piece_seconds) : 0;
}

double pace_expect(const pace *p, size_t n_answers, size_t n_rows) {
    const double answers = n_answers ? p->answer_seconds[n_answers] : 0;
    if ((n_answers > 0 && answers == 0) || (n_rows > 0 && p->row_seconds == 0))
        return INFINITY;
    return answers + (double)n_rows * p->row_seconds;
}

/* Slowly enough that one late step does not shrink the pieces. */
static void follow(double *value, double measured) {
    const double share = 0.3;
    *value = *value == 0 ? measured : *value + share * (measured - *value);
}

void pace_measure(pace *p, double seconds, size_t n_answers, size_t n_rows, size_t room) {
    if (n_rows == 0)
        follow(&p->answer_seconds[n_answers], seconds);
    if (n_rows == 0 || (n_rows < room && n_rows < TILE_ROWS)) /* the last rows of a prompt cost more each */
        return;
    const double base = n_answers ? p->answer_seconds[n_answers] : 0;
    const double least = 1e-6; /* a step that was faster than without the piece shows nothing */
    const double cost = (seconds - base) / (double)n_rows;
    follow(&p->row_seconds, cost > least ? cost : least);
}

bool pace_give_turn(pace *p, bool others, size_t n_rows) {
    p->others_turn = others && n_rows > 0;
    return others && n_rows == 0;
}
