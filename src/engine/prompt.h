/* prompt.h - a conversation through a family's template into token ids, image tokens included. */
#ifndef ENGINE_PROMPT_H
#define ENGINE_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "format/tokenizer.h"
#include "trol.h"

/* A family's template: one row of data. */
typedef struct prompt_template {
    const char *begin;                /* "<s>" */
    const char *system_open, *system_close;
    const char *user_open, *user_close;
    const char *assistant_open, *assistant_close;
    const char *image_open, *image_close; /* around a picture's tokens: "<img>", "</img>", or "" */
    const char *image_token;              /* "<image>" or "<IMG_CONTEXT>" */
    const char *const *end_tokens;        /* that end an answer, NULL-terminated */
} prompt_template;

extern const prompt_template prompt_template_internlm2, prompt_template_phi3;

/* The authors' system prompt. */
extern const char prompt_default_system[];

/* How the pictures' tokens are counted: picture i has image_tokens[i] of them. */
typedef struct prompt_pictures {
    const int32_t *image_tokens; /* [n] */
    size_t n;
} prompt_pictures;

/* The rules of trol_session_set_prompt. Ids are allocated: free with memory_free. `special`: a message's text may spell
 * special tokens too. raw: the messages' text as it is, no template (one message). */
trol_status prompt_render(const prompt_template *family, const tokenizer *t, const trol_message *messages,
                          size_t n_messages, const prompt_pictures *pictures, bool special, bool raw, int32_t **ids,
                          size_t *n_ids, trol_error *error);

/* Ids of the end tokens that this tokenizer knows; returns how many (at most capacity). */
size_t prompt_end_tokens(const prompt_template *family, const tokenizer *t, int32_t *ids, size_t capacity);

#endif
