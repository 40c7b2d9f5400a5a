/* config_keys.h - which keys of a config.json may stay unread. */
#ifndef MODEL_CONFIG_KEYS_H
#define MODEL_CONFIG_KEYS_H

#include <cjson/cJSON.h>

#include "base/error.h"
#include "base/log.h"

/* The part of config.json that an object represents; the top of an undivided file is two of them. */
enum { CONFIG_TOP = 1, CONFIG_DECODER = 2, CONFIG_VISION = 4, CONFIG_ROPE = 8 };

/* Checks the keys of one object (`prefix`: "llm_config.", for messages). A key that is known to change what a model
 * computes must have the supported value; an unknown key is refused if its name indicates arithmetic, and otherwise
 * logged as ignored. Null counts as absent. */
trol_status config_check_keys(const cJSON *object, const char *prefix, unsigned parts, const logger *log,
                              trol_error *error);

#endif
