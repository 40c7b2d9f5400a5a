/* constraint.h - --json-schema, --json and --grammar. */
#ifndef CLI_CONSTRAINT_H
#define CLI_CONSTRAINT_H

#include "cli/cli.h"

/* What is wrong with the options; NULL if all is well. */
const char *constraint_contradiction(const options *o);
/* Reads the file into r->constraint_text and makes r->constraint, once the model is loaded; nothing without such an
 * option. */
trol_status constraint_make(run *r);

#endif
