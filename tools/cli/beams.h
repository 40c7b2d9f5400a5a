/* beams.h - trol-cli --beams: the best answer of a beam search, and all of them in a file. */
#ifndef CLI_BEAMS_H
#define CLI_BEAMS_H

#include "cli/cli.h"

/* What --beams cannot be combined with; NULL if all is well. */
const char *beams_contradiction(const options *o);

/* Writes the answer to r->session's prompt, and the file of --n-best. */
trol_status beams_answer(run *r);

#endif
