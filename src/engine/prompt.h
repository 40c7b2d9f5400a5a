/* prompt.h - a conversation through a family's template into token ids, image tokens included. */
#ifndef ENGINE_PROMPT_H
#define ENGINE_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/tokenizer.h"
#include "trol.h"

/* A family's template: one row of data. A conversation is
 *
 *     begin (system_open SYSTEM system_close)? (user_open USER user_close assistant_open ANSWER assistant_close)*
 *     user_open USER user_close assistant_open
 *
 * and each picture image_open, its image tokens, image_close. */
typedef struct prompt_template {
    const char *begin; /* "<s>" */
    const char *system_open, *system_close;
    const char *user_open, *user_close;
    const char *assistant_open, *assistant_close;
    const char *image_open, *image_close; /* around a picture's tokens: "<img>", "</img>", or "" */
    const char *image_token;              /* "<image>" or "<IMG_CONTEXT>" */
    const char *const *end_tokens;        /* that end an answer, NULL-terminated */
    const char *const *special_tokens;    /* all that the texts above spell, NULL-terminated */
} prompt_template;

extern const prompt_template prompt_template_internlm2, prompt_template_phi3;

/* The authors' system prompt. */
extern const char prompt_default_system[];

/* How the pictures' tokens are counted: picture i has image_tokens[i] of them. */
typedef struct prompt_pictures {
    const int32_t *image_tokens; /* [n], each at least 1 */
    size_t n;
} prompt_pictures;

/* A message of a conversation. An answer may be given as the tokens that were generated, without the end token: a later
 * turn then continues exactly these. Nothing merges across their borders; the template's text on both sides is what it
 * is without them, so up to the answer's end the tokens are those of the earlier prompt followed by the answer's. (Text
 * that an answer is given as is part of the template's text instead, as in the authors' code: it may join the line
 * break in front, and need not become the tokens that it was decoded from.) */
typedef struct prompt_message {
    trol_role role;
    const char *text;      /* UTF-8, NUL-terminated; NULL for an answer that is given as tokens */
    const int32_t *tokens; /* [n_tokens], read where text is NULL */
    size_t n_tokens;
} prompt_message;

/* Fails if the tokenizer does not know a special token of the template. */
trol_status prompt_check(const prompt_template *family, const tokenizer *t, trol_error *error);

/* The rules of trol_session_set_prompt:
 *  - A first message may be the system's (without one: the authors' own; an empty text: no system part); then user and
 *    assistant take turns, the user first and last.
 *  - Each "<image>" in a user's text places the next picture; their numbers must agree. Where there are pictures and no
 *    "<image>" at all, "<image>\n" is put in front of the first user's text for each picture.
 *  - What spells a special token in a message stays plain text; `special` makes it that token, in every message. An
 *    image token may come only where a picture is placed.
 * raw: no template: the text of the one message, a user's, with pictures placed in it at each "<image>" (and nowhere
 * else), is the whole prompt; no <s> is put in front.
 * Ids are allocated: free with memory_free; *ids is NULL where there are none. */
trol_status prompt_render(const prompt_template *family, const tokenizer *t, const trol_message *messages,
                          size_t n_messages, const prompt_pictures *pictures, bool special, bool raw, int32_t **ids,
                          size_t *n_ids, trol_error *error);

/* The same for messages of which answers may be tokens. */
trol_status prompt_render_history(const prompt_template *family, const tokenizer *t, const prompt_message *messages,
                                  size_t n_messages, const prompt_pictures *pictures, bool special, bool raw,
                                  int32_t **ids, size_t *n_ids, trol_error *error);

/* Ids of the end tokens that this tokenizer knows; returns how many (at most capacity). */
size_t prompt_end_tokens(const prompt_template *family, const tokenizer *t, int32_t *ids, size_t capacity);

#endif
