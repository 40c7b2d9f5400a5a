/* prompt.h - a conversation through a family's template into token ids, image tokens included. */
#ifndef ENGINE_PROMPT_H
#define ENGINE_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/tokenizer.h"
#include "model/family.h"
#include "trol.h"

/* The authors' system prompt. */
extern const char prompt_default_system[];

/* Fails if the tokenizer does not know a special token of the template. */
trol_status prompt_check(const prompt_template *family, const tokenizer *t, trol_error *error);

/* The rules of trol_session_set_prompt:
 *  - A first message may be the system's (without one: the authors' own; an empty text: no system part); then user and
 *    assistant take turns, the user first and last. An answer may be given as tokens instead of text (trol_message).
 *  - Each "<image>" in a user's text places the next image; their numbers must agree. "\\<image>" is the text
 *    "<image>"; each pair of backslashes before a marker stands for one. If there are images and no "<image>" that
 *    places one, "<image>\n" is put before the first user text for each image.
 *  - Text in a message that spells a special token stays plain; with TROL_RENDER_SPECIAL it is that token, in every
 *    message. An image token is allowed only where an image is placed.
 * TROL_RENDER_RAW: no template: the text of the only message, a user's, with images placed at each "<image>" (and
 * nowhere else), is the whole prompt; no <s> is put before it. Each image is a single image token here: see
 * prompt_expand. Free the ids with memory_free; *ids is NULL if there are none. */
trol_status prompt_render(const prompt_template *family, const tokenizer *t, const trol_message *messages,
                          size_t n_messages, size_t n_images, int32_t flags, int32_t **ids, size_t *n_ids,
                          trol_error *error);

/* Expands image i's single image token to image_tokens[i] of them. Takes *ids over and replaces it; on failure it is
 * freed and NULL. */
trol_status prompt_expand(int32_t image_token, const int32_t *image_tokens, size_t n_images, int32_t **ids,
                          size_t *n_ids, trol_error *error);

/* Ids of the end tokens that this tokenizer knows; returns how many (at most capacity). */
size_t prompt_end_tokens(const prompt_template *family, const tokenizer *t, int32_t *ids, size_t capacity);

#endif
