/* json_schema.h - a JSON Schema to a grammar of the JSON texts that it accepts. */
#ifndef ENGINE_JSON_SCHEMA_H
#define ENGINE_JSON_SCHEMA_H

#include "engine/grammar.h"

/* What is understood of the standard: see trol_constraint_new_json_schema. Free *result with grammar_free. */
trol_status json_schema_compile(const char *text, size_t n_bytes, grammar **result, trol_error *error);

#endif
