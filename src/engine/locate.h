/* locate.h - where a checkpoint is: a folder, or a hub name in the hub's cache on this machine. */
#ifndef ENGINE_LOCATE_H
#define ENGINE_LOCATE_H

#include "base/error.h"

/* *folder is allocated: free with memory_free. Nothing is downloaded. */
trol_status locate_checkpoint(const char *path, char **folder, trol_error *error);

#endif
