/* regex_parser.h - patterns (ECMA 262) to the nodes of one nondeterministic automaton. */
#ifndef ENGINE_REGEX_PARSER_H
#define ENGINE_REGEX_PARSER_H

#include "engine/code_points.h"

#define NO_NODE UINT32_MAX

typedef enum regex_node_kind {
    NODE_SPLIT,
    NODE_SET,
    NODE_BEGIN,
    NODE_END,
    NODE_LOOK,     /* what begins at `other` matches from here on */
    NODE_LOOK_NOT, /* it does not */
    NODE_LOOKED,   /* the end of a look-ahead */
    NODE_MATCHED   /* the end of the pattern */
} regex_node_kind;

typedef struct regex_node {
    regex_node_kind kind;
    uint32_t next, other; /* other: NODE_SPLIT, NODE_LOOK, NODE_LOOK_NOT; for NODE_SET the set */
} regex_node;

typedef struct regex_patterns {
    regex_node *nodes;
    size_t n_nodes, nodes_capacity;
    code_points *sets;
    size_t n_sets, sets_capacity;
    uint32_t *starts; /* [n]: of each pattern */
    const char *text; /* of the pattern in progress */
    size_t n_bytes, at;
    int depth;
    bool in_look_not; /* inside of a look-ahead that must not match */
    trol_error *error;
} regex_patterns;

/* Adds a normalized set, unless there is an equal one. Takes it over, also on failure. */
trol_status regex_add_set(regex_patterns *p, code_points *set, uint32_t *index);
/* One pattern, to be found anywhere: any characters before and after it. Its nodes are made last to first. */
trol_status regex_add_pattern(regex_patterns *p, const char *text, uint32_t *start);

#endif
