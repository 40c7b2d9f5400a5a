/* Pieces of prompts beside answers: on machines of any speed they take the time that they may, not more and hardly
 * less, and pictures and prompts take turns. */
#include "server/pace.h"

#include "test.h"

/* A machine on which rows cost the same by the tile, beside a part that any piece costs. */
typedef struct machine {
    double answers, fixed, tile;
    size_t tile_rows;
} machine;

static double step_seconds(const machine *m, size_t n_answers, size_t n_rows) {
    const double pieces = ceil((double)n_rows / (double)m->tile_rows);
    return (n_answers ? m->answers : 0) + (n_rows ? m->fixed + pieces * m->tile : 0);
}

/* A step, with as much of the prompt as may be. */
static size_t run_step(pace *p, const machine *m, size_t n_answers) {
    const size_t room = pace_rows(p, n_answers);
    pace_measure(p, step_seconds(m, n_answers, room), n_answers, room, room);
    return room;
}

static void test_sizes(void) {
    const double piece = 0.25;
    const machine machines[] = {
        {0.09, 0.10, 0.06, 8}, /* two cores, a model of 1.8e9 weights in 8 bits */
        {0.30, 0.10, 0.06, 8}, /* the same with eight answers */
        {0.004, 0.002, 0.003, 8}, {0.02, 0.01, 0.01, 8}, {0.5, 0.10, 0.02, 1}, {0.001, 1e-5, 1e-5, 16},
    };
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        const machine *m = &machines[i];
        pace p;
        size_t rows = 0;
        CHECK(pace_init(&p, piece, 8), "memory");
        CHECK(pace_rows(&p, 0) >= 64, "without answers pieces are large");
        CHECK(isinf(pace_expect(&p, 3, 5)), "nothing is known");
        CHECK(pace_rows(&p, 8) == 0, "what answers cost is measured first");
        run_step(&p, m, 8);
        CHECK(pace_rows(&p, 8) == 8, "the first piece is small");
        for (int k = 0; k < 60; k++)
            rows = run_step(&p, m, 8);
        double most = 0;
        for (int k = 0; k < 60; k++) {
            const double added = step_seconds(m, 8, run_step(&p, m, 8)) - m->answers;
            most = added > most ? added : most;
        }
        CHECK(rows >= 8 && rows <= PACE_LARGEST_PIECE, "machine %zu: %zu rows", i, rows);
        CHECK(most <= 1.1 * piece, "machine %zu: a piece takes %g s of %g", i, most, piece);
        CHECK(rows == PACE_LARGEST_PIECE || step_seconds(m, 8, rows + m->tile_rows) - m->answers > 0.8 * piece,
              "machine %zu: there was time for more than %zu rows", i, rows);
        const double foreseen = pace_expect(&p, 8, rows), takes = step_seconds(m, 8, rows);
        CHECK(fabs(foreseen - takes) < 0.3 * takes, "machine %zu: %g s foreseen, %g taken", i, foreseen, takes);
        pace_free(&p);
    }
}

/* A machine that gets slower for a while, as when other programs run. */
static void test_changes(void) {
    machine m = {0.02, 0.01, 0.01, 8};
    pace p;
    CHECK(pace_init(&p, 0.1, 4), "memory");
    run_step(&p, &m, 2);
    for (int k = 0; k < 40; k++)
        run_step(&p, &m, 2);
    const size_t before = pace_rows(&p, 2);
    pace_measure(&p, 5, 2, before, before);
    CHECK(pace_rows(&p, 2) >= 1, "one late step");
    for (int k = 0; k < 40; k++)
        run_step(&p, &m, 2);
    CHECK(pace_rows(&p, 2) == before, "after one late step %zu rows, %zu before", pace_rows(&p, 2), before);
    m.tile *= 8;
    for (int k = 0; k < 40; k++)
        run_step(&p, &m, 2);
    CHECK(pace_rows(&p, 2) < before / 4, "a slow machine has pieces of %zu rows, %zu before", pace_rows(&p, 2), before);
    /* The last rows of a prompt cost more each: they do not count. */
    const size_t rows = pace_rows(&p, 2);
    CHECK(rows >= 8, "%zu rows", rows);
    pace_measure(&p, 1, 2, 1, rows);
    CHECK(pace_rows(&p, 2) == rows, "the end of a prompt changed the pieces");
    pace_free(&p);
}

static void test_turns(void) {
    const machine m = {0.02, 0.01, 0.01, 8};
    pace p;
    CHECK(pace_init(&p, 0.1, 4), "memory");
    run_step(&p, &m, 1);
    size_t n_pieces = 0, n_turns = 0, n_both = 0;
    for (int k = 0; k < 20; k++) {
        const size_t rows = run_step(&p, &m, 1);
        const bool turn = pace_give_turn(&p, true, rows);
        n_pieces += rows > 0;
        n_turns += turn;
        n_both += turn && rows > 0;
    }
    CHECK(n_pieces == 10 && n_turns == 10 && n_both == 0, "%zu pieces, %zu turns, %zu at once", n_pieces, n_turns,
          n_both);
    for (int k = 0; k < 4; k++)
        CHECK(pace_give_turn(&p, true, 0), "with no prompt, pictures have every turn");
    CHECK(!pace_give_turn(&p, false, 16) && pace_rows(&p, 1) > 0, "with no picture, prompts have every turn");
    pace_free(&p);
}

int main(void) {
    test_sizes();
    test_changes();
    test_turns();
    return test_summary("test-pace");
}
