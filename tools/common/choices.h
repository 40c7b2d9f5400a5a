/* choices.h - the names of trol.h's choices, in the order of their enums, for options and requests. */
#ifndef TOOLS_CHOICES_H
#define TOOLS_CHOICES_H

#define WEIGHT_TYPES    "as-stored", "f32", "f16", "bf16", "q8", "q4" /* trol_weight_type */
#define TRAVERSAL_MODES "prompt", "all", "off"                        /* trol_traversal */
#define CACHE_TYPES     "f16", "f32", "q8"                            /* trol_cache_type */
#define COMPUTE_KINDS   "exact", "bf16"                               /* trol_compute */

#endif
