/* bundled_model.h - the model that a tool uses when none is given. */
#ifndef TOOLS_BUNDLED_MODEL_H
#define TOOLS_BUNDLED_MODEL_H

#include <stdbool.h>
#include <stddef.h>

/* $TROL_MODEL, or else a bundled model: installed (relative to the program), or in the source tree that the program was
 * built from. Writes its path; false if there is none. */
bool bundled_model_find(char *path, size_t bytes);

#endif
