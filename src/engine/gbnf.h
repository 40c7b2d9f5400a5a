/* gbnf.h - grammars as users of llama.cpp write them.
 *
 * A file is rules, NAME ::= ALTERNATES, and comments from # to the end of the line; the rule `root` is what a text must
 * match. A rule ends with its line, unless the line ends inside parentheses or after ::= or |, or the next one begins
 * with |. Names are letters, digits, - and _. An alternate is a sequence of: "literals", [classes], [^negated classes],
 * . for any character, rule names, (groups), each followed by *, +, ?, {n}, {n,} or {n,m} where it repeats. Escapes in
 * literals and classes: \n \r \t \\ \" \[ \] \- \^, \xNN, \uNNNN, \UNNNNNNNN: code points, not bytes. */
#ifndef ENGINE_GBNF_H
#define ENGINE_GBNF_H

#include "engine/grammar.h"

/* Compiles text[0 .. n_bytes-1]; what is wrong with it is an error that gives the line. Free *result with
 * grammar_free. */
trol_status gbnf_compile(const char *text, size_t n_bytes, grammar **result, trol_error *error);

#endif
