#include "base/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *library_open(const char *name, char *why, size_t why_bytes) {
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        snprintf(why, why_bytes, "%s", reason ? reason : "no reason is known");
    }
    return library;
}

/* ISO C has no cast from an object's address to a function's. */
bool library_function(void *library, const char *name, void *function) {
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}
