/* conversation.h - messages with their images: a chat that grows, can be cut, and is kept in a file.
 *
 * The file is a JSON object {"messages": [...]} in the form of the OpenAI chat API: an image is an image_url part with
 * the bytes of its file in a data: URL. An assistant's message also has its token ids ("tokens"), so that a loaded
 * conversation continues from exactly what was generated. */
#ifndef TOOLS_CONVERSATION_H
#define TOOLS_CONVERSATION_H

#include <stddef.h>
#include <stdint.h>

#include "trol.h"

/* An image: its file's bytes, and its features. */
typedef struct conversation_image {
    char *bytes; /* [n_bytes], from malloc */
    size_t n_bytes;
    trol_features *features;
} conversation_image;

typedef struct conversation_message {
    trol_role role;
    char *text;      /* never NULL */
    int32_t *tokens; /* [n_tokens] of a generated answer; NULL: use the text */
    size_t n_tokens;
    size_t n_images; /* images that its text places */
} conversation_message;

typedef struct conversation {
    conversation_message *messages; /* [n_messages] */
    size_t n_messages;
    conversation_image *images; /* [n_images], those of all messages in order */
    size_t n_images;
} conversation;

/* Appends a message. Text and tokens (NULL: none) are copied; the n_images images are taken over, also on failure. */
trol_status conversation_add(conversation *c, trol_role role, const char *text, const int32_t *tokens, size_t n_tokens,
                             conversation_image *images, size_t n_images, trol_error *error);
/* Removes n messages from message `first` on, with their images. */
void conversation_remove(conversation *c, size_t first, size_t n);
void conversation_free(conversation *c);

void conversation_image_free(conversation_image *image);

/* The messages in the library's form, and the images' features. Both arrays are from malloc, for the caller to free;
 * the conversation owns what they point to. */
trol_status conversation_view(const conversation *c, trol_message **messages, trol_features ***features,
                              trol_error *error);

/* How many images a user's text places: each "<image>" that is not escaped by a backslash. */
size_t conversation_count_places(const char *text);

/* The file appears whole or not at all. */
trol_status conversation_save(const conversation *c, const char *path, trol_error *error);

/* Encodes an image file's bytes to features. */
typedef trol_status (*conversation_encoder)(void *user, const char *bytes, size_t n_bytes, trol_features **features,
                                            trol_error *error);
/* Reads a file written by conversation_save, or another of the same form; *c is empty on failure. */
trol_status conversation_load(const char *path, conversation_encoder encode, void *user, conversation *c,
                              trol_error *error);

#endif
