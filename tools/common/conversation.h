/* conversation.h - messages with their pictures, as a chat grows, is cut and is kept in a file.
 *
 * The file is a JSON object {"messages": [...]} in the form of the OpenAI chat API: a picture is an image_url part with
 * the bytes of its file in a data: URL. An assistant's message has its token ids besides ("tokens"), so that a
 * conversation that is loaded goes on from exactly what was generated. */
#ifndef TOOLS_CONVERSATION_H
#define TOOLS_CONVERSATION_H

#include <stddef.h>
#include <stdint.h>

#include "trol.h"

/* A picture: its file's bytes, and its features. */
typedef struct conversation_image {
    char *bytes; /* [n_bytes], from malloc */
    size_t n_bytes;
    trol_features *features;
} conversation_image;

typedef struct conversation_message {
    trol_role role;
    char *text;      /* never NULL */
    int32_t *tokens; /* [n_tokens] of an answer as it was generated; NULL: the text counts */
    size_t n_tokens;
    size_t n_images; /* pictures that its text places */
} conversation_message;

typedef struct conversation {
    conversation_message *messages; /* [n_messages] */
    size_t n_messages;
    conversation_image *images; /* [n_images], those of all messages in order */
    size_t n_images;
} conversation;

/* Appends a message. Text and tokens (NULL: none) are copied; the n_images pictures are taken over, also on failure. */
trol_status conversation_add(conversation *c, trol_role role, const char *text, const int32_t *tokens, size_t n_tokens,
                             conversation_image *images, size_t n_images, trol_error *error);
/* Removes n messages from message `first` on, with their pictures. */
void conversation_remove(conversation *c, size_t first, size_t n);
void conversation_free(conversation *c);

void conversation_image_free(conversation_image *image);

/* The messages as the library takes them, and the pictures' features. Both arrays are from malloc, for the caller to
 * free; what they point to stays the conversation's. */
trol_status conversation_view(const conversation *c, trol_message **messages, trol_features ***features,
                              trol_error *error);

/* How many pictures a user's text places: each "<image>" that no backslash takes back. */
size_t conversation_count_places(const char *text);

/* The file appears whole or not at all. */
trol_status conversation_save(const conversation *c, const char *path, trol_error *error);

/* Makes features of a picture's bytes. */
typedef trol_status (*conversation_encoder)(void *user, const char *bytes, size_t n_bytes, trol_features **features,
                                            trol_error *error);
/* Reads a file that conversation_save wrote, or another one of the form; *c is empty on failure. */
trol_status conversation_load(const char *path, conversation_encoder encode, void *user, conversation *c,
                              trol_error *error);

#endif
