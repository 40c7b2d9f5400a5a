/* config_keys.h - which keys of a config.json may stay unread. */
#ifndef MODEL_CONFIG_KEYS_H
#define MODEL_CONFIG_KEYS_H

#include <cjson/cJSON.h>

#include "base/error.h"
#include "base/log.h"

/* The part of config.json that an object is; the top of a file that is not divided is two of them. */
enum { CONFIG_TOP = 1, CONFIG_DECODER = 2, CONFIG_VISION = 4, CONFIG_ROPE = 8 };

/* Goes through the keys of one object (`prefix`: "llm_config.", in messages). A key that is known to change what a
 * model computes must have the value that is computed here; one that is not known is refused where its name is one of
 * arithmetic, and noted as passed over where it is not. Null counts as absent. */
trol_status config_check_keys(const cJSON *object, const char *prefix, unsigned parts, const logger *log,
                              trol_error *error);

#endif
