/* chat_request.h - what POST /v1/chat/completions asks for, read from its JSON with every field checked. */
#ifndef SERVER_CHAT_REQUEST_H
#define SERVER_CHAT_REQUEST_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "server/api_error.h"
#include "trol.h"

enum { CHAT_MOST_CHOICES = 64, CHAT_MOST_STOPS = 16, CHAT_MOST_IMAGES = 64, CHAT_MOST_TOP_LOGPROBS = 20 };

/* A picture as it came: the bytes of a file. */
typedef struct chat_image {
    uint8_t *bytes; /* [n_bytes]; taken over by the image store */
    size_t n_bytes;
} chat_image;

typedef enum chat_format { CHAT_FORMAT_TEXT, CHAT_FORMAT_JSON, CHAT_FORMAT_SCHEMA, CHAT_FORMAT_GRAMMAR } chat_format;

typedef struct chat_request {
    trol_message *messages; /* [n_messages]; their texts are allocated */
    size_t n_messages;
    chat_image *images; /* [n_images], those of all messages in order */
    size_t n_images;
    int32_t max_tokens; /* 0: as many as the context holds */
    int32_t n;          /* choices */
    bool stream, include_usage;
    bool logprobs;
    int32_t top_logprobs;
    char *stops[CHAT_MOST_STOPS];
    size_t n_stops;
    trol_sampler_params sampler; /* its bias is `bias` */
    trol_logit_bias *bias;
    bool has_seed;
    trol_traversal traversal;
    float traversal_skip;
    bool gates, cache_prompt;
    int32_t n_beams; /* 0: none */
    chat_format format;
    const char *format_param; /* the field that asks for it; static */
    char *format_text;        /* the JSON Schema or the grammar */
} chat_request;

/* Reads the request for a model that is known as model_id. false with the error; *request is empty then. */
bool chat_request_read(const cJSON *root, const char *model_id, chat_request *request, api_error *error);
void chat_request_free(chat_request *request);

#endif
