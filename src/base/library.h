/* library.h - shared libraries that few processes need, opened by name on first use: a process that does not need them
 * starts without them. They stay open. */
#ifndef BASE_LIBRARY_H
#define BASE_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* NULL: it cannot be opened, and why [why_bytes] has the system's reason. */
void *library_open(const char *name, char *why, size_t why_bytes);

/* Sets *function, a pointer to a function, to the one of that name; false: the library has none. */
bool library_function(void *library, const char *name, void *function);

#endif
