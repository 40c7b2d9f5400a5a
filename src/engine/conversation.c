/* conversation.c - text in: tokenizing, and prompts made of messages and images. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/params.h"
#include "engine/session.h"

static trol_status require_tokenizer(const trol_model *model, const char *call, trol_error *error) {
    if (!model)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: the model is NULL", call);
    if (!model->tokenizer)
        return fail(error, TROL_ERROR_STATE,
                    "%s: the checkpoint has no tokenizer.model, only raw token ids can be used", call);
    return TROL_OK;
}

void trol_free(void *memory) { memory_free(memory); }

trol_status trol_tokenize(const trol_model *model, const char *text, size_t text_bytes, int special, int32_t **tokens,
                          size_t *n_tokens, trol_error *error) {
    if (!tokens || !n_tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_tokenize: an out-pointer is NULL");
    *tokens = NULL;
    *n_tokens = 0;
    TRY(require_tokenizer(model, "trol_tokenize", error));
    if (text_bytes > 0 && !text)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_tokenize: the text is NULL");
    const text_piece piece = {text, text_bytes, special != 0};
    size_t capacity = 0;
    trol_status status = tokenizer_encode(model->tokenizer, &piece, 1, tokens, n_tokens, &capacity, error);
    if (status != TROL_OK) {
        memory_free(*tokens);
        *tokens = NULL;
        *n_tokens = 0;
    }
    return status;
}

trol_status trol_detokenize(const trol_model *model, const int32_t *tokens, size_t n_tokens, int special, char **text,
                            trol_error *error) {
    TRY_OUT(text, "trol_detokenize", error);
    TRY(require_tokenizer(model, "trol_detokenize", error));
    if (n_tokens > 0 && !tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_detokenize: the tokens are NULL");
    for (size_t i = 0; i < n_tokens; i++)
        TRY(model_check_token(model, tokens[i], error));
    return tokenizer_decode(model->tokenizer, tokens, n_tokens, special != 0, text, error);
}

trol_status trol_token_bytes(const trol_model *model, int32_t token, char **bytes, size_t *n_bytes, trol_error *error) {
    if (!bytes || !n_bytes)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_token_bytes: an out-pointer is NULL");
    *bytes = NULL;
    *n_bytes = 0;
    TRY(require_tokenizer(model, "trol_token_bytes", error));
    TRY(model_check_token(model, token, error));
    const tokenizer *t = model->tokenizer;
    const char *spelling = tokenizer_spelling(t, token);
    char *text = NULL;
    size_t n = 0, capacity = 0;
    trol_status status = TROL_OK;
    if (spelling && tokenizer_is_special(t, token)) {
        n = strlen(spelling);
        TRY(memory_copy_text(spelling, n, &text, error));
    } else {
        if (spelling)
            status = tokenizer_append_bytes(t, token, false, &text, &n, &capacity, error);
        if (status == TROL_OK)
            status = memory_grow((void **)&text, &capacity, n + 1, 1, "a token's bytes", error);
        if (status != TROL_OK) {
            memory_free(text);
            return status;
        }
        text[n] = '\0';
    }
    *bytes = text;
    *n_bytes = n;
    return TROL_OK;
}

static trol_status check_messages(const trol_message *messages, size_t n, trol_error *error) {
    if (n == 0 || !messages)
        return fail(error, TROL_ERROR_ARGUMENT, "the prompt has no messages, expected at least one of the user");
    for (size_t i = 0; i < n; i++)
        if (!messages[i].text && !(messages[i].role == TROL_ROLE_ASSISTANT && messages[i].tokens))
            return fail(error, TROL_ERROR_ARGUMENT, "the text of message %zu is NULL", i + 1);
    return TROL_OK;
}

trol_status trol_render_prompt(const trol_model *model, const trol_message *messages, size_t n_messages,
                               const int32_t *image_tokens, size_t n_images, int32_t flags, int32_t **tokens,
                               size_t *n_tokens, trol_error *error) {
    if (!tokens || !n_tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_render_prompt: an out-pointer is NULL");
    *tokens = NULL;
    *n_tokens = 0;
    TRY(require_tokenizer(model, "trol_render_prompt", error));
    TRY(check_messages(messages, n_messages, error));
    if (n_images > 0 && !image_tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_render_prompt: the numbers of image tokens are NULL");
    if (flags & ~(TROL_RENDER_RAW | TROL_RENDER_SPECIAL))
        return fail(error, TROL_ERROR_ARGUMENT, "flags is %d, expected a sum of TROL_RENDER_*", flags);
    TRY(prompt_render(model->prompt_template, model->tokenizer, messages, n_messages, n_images, flags, tokens, n_tokens,
                      error));
    return prompt_expand(model->image_token, image_tokens, n_images, tokens, n_tokens, error);
}

/* Before a text is tokenized, which cannot be cancelled: does it have more bytes than this many tokens can stand
 * for? */
static trol_status check_length(const trol_session *s, const trol_message *messages, size_t n, trol_error *error) {
    static const char white_space[] = " \t\n\v\f\r"; /* at its ends a token of the template may swallow it */
    const size_t longest = tokenizer_longest(s->model->tokenizer), room = (size_t)s->params.context_size;
    size_t n_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (!messages[i].text)
            continue;
        const char *text = messages[i].text + strspn(messages[i].text, white_space);
        size_t length = strlen(text);
        while (length > 0 && strchr(white_space, text[length - 1]))
            length--;
        n_bytes += length;
    }
    if (n_bytes / longest > room)
        return fail(error, TROL_ERROR_CONTEXT,
                    "the prompt has %zu bytes of text, at least %zu tokens, and does not fit the context, which has "
                    "room for %zu",
                    n_bytes, n_bytes / longest, room);
    return TROL_OK;
}

/* The prompt's tokens, for now one per image. Before seconds are spent on images: does their number match the messages,
 * and do they fit with one token each? */
static trol_status render(const trol_session *s, const trol_message *messages, size_t n_messages, size_t n_images,
                          int32_t **ids, size_t *n_ids, trol_error *error) {
    *ids = NULL;
    TRY(check_length(s, messages, n_messages, error));
    TRY(prompt_render(s->model->prompt_template, s->model->tokenizer, messages, n_messages, n_images, 0, ids, n_ids,
                      error));
    if (*n_ids <= (size_t)s->params.context_size)
        return TROL_OK;
    return fail(error, TROL_ERROR_CONTEXT,
                "the prompt has at least %zu tokens and does not fit the context, which has room for %d", *n_ids,
                s->params.context_size);
}

/* Expands the images in a rendered prompt to their tokens and processes it. */
static trol_status prefill_rendered(trol_session *s, int32_t **ids, size_t *n_ids, trol_features *const *features,
                                    size_t n_features, trol_error *error) {
    int32_t *image_tokens = calloc(n_features + 1, sizeof *image_tokens);
    if (!image_tokens)
        return fail_memory(error, n_features * sizeof *image_tokens, "a prompt");
    for (size_t i = 0; i < n_features; i++)
        image_tokens[i] = features[i]->embeds->n_tokens;
    trol_status status = prompt_expand(s->model->image_token, image_tokens, n_features, ids, n_ids, error);
    free(image_tokens);
    return status == TROL_OK ? trol_session_prefill(s, *ids, *n_ids, features, n_features, error) : status;
}

static trol_status encode(trol_session *s, const trol_image *const *images, size_t n_images, trol_features **features,
                          trol_error *error) {
    const double start = clock_seconds();
    size_t n_encoded;
    s->is_busy = true;
    trol_status status = model_encode_images(s->model, images, n_images, s->params.progress, s->params.progress_user,
                                             &s->cancel, features, &n_encoded, error);
    s->is_busy = false;
    s->stats.images_encoded += (int64_t)n_encoded;
    s->stats.images_from_cache += status == TROL_OK ? (int64_t)(n_images - n_encoded) : 0;
    s->stats.image_seconds += clock_seconds() - start;
    if (status == TROL_ERROR_CANCELLED)
        atomic_store(&s->cancel, 0);
    return status;
}

/* Processes a conversation with the features [n_images] of its images, which are encoded first if `images` is given. */
static trol_status set_prompt(trol_session *s, const char *call, const trol_message *messages, size_t n_messages,
                              const trol_image *const *images, trol_features **features, size_t n_images,
                              trol_error *error) {
    int32_t *ids = NULL;
    size_t n_ids;
    trol_status status;
    TRY_GOTO(require_tokenizer(s->model, call, error), done);
    TRY_GOTO(check_messages(messages, n_messages, error), done);
    for (size_t i = 0; i < n_images; i++)
        if (images ? !images[i] : !features || !features[i]) {
            status = fail(error, TROL_ERROR_ARGUMENT, "picture %zu of the prompt is NULL", i + 1);
            goto done;
        }
    TRY_GOTO(render(s, messages, n_messages, n_images, &ids, &n_ids, error), done);
    if (images)
        TRY_GOTO(encode(s, images, n_images, features, error), done);
    status = prefill_rendered(s, &ids, &n_ids, features, n_images, error);
done:
    memory_free(ids);
    if (status != TROL_OK)
        session_fail_prompt(s);
    return status;
}

trol_status trol_session_set_prompt_features(trol_session *s, const trol_message *messages, size_t n_messages,
                                             trol_features *const *features, size_t n_features, trol_error *error) {
    static const char call[] = "trol_session_set_prompt_features";
    TRY(session_check(s, call, error));
    trol_features **given = (trol_features **)features; /* only read: nothing is encoded */
    return set_prompt(s, call, messages, n_messages, NULL, given, n_features, error);
}

trol_status trol_session_set_prompt(trol_session *s, const trol_message *messages, size_t n_messages,
                                    const trol_image *const *images, size_t n_images, trol_error *error) {
    static const char call[] = "trol_session_set_prompt";
    TRY(session_check(s, call, error));
    trol_features **features = calloc(n_images + 1, sizeof *features);
    if (!features) {
        session_fail_prompt(s);
        return fail_memory(error, n_images * sizeof *features, "a prompt's pictures");
    }
    const trol_status status = set_prompt(s, call, messages, n_messages, images, features, n_images, error);
    for (size_t i = 0; i < n_images; i++)
        trol_features_free(features[i]);
    free(features);
    return status;
}

trol_status trol_session_ask(trol_session *s, const char *question, const trol_image *const *images, size_t n_images,
                             trol_error *error) {
    const trol_message message = {.role = TROL_ROLE_USER, .text = question};
    return trol_session_set_prompt(s, &message, 1, images, n_images, error);
}
