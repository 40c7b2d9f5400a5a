/* prompt.c - a family's template and the rules of a conversation, before the tokenizer.
 *
 * A prompt is collected as a list of text pieces, template and messages alike, which the tokenizer takes as one text.
 * Only an answer given as tokens interrupts it: the list so far is encoded, the tokens are appended, and a new list
 * begins. */
#include "engine/prompt.h"

#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

const char prompt_default_system[] =
    "You are AI model created by Byung-Kwan Lee, Ph.D. candidate, KAIST EE, of which AI model name is TroL (Traversal "
    "of "
    "Layers). You must give helpful, detailed, and polite answers to the user's questions";

/* The marker in a user's text for an image, in all families. */
static const char placeholder[] = "<image>";
enum { PLACEHOLDER_BYTES = sizeof placeholder - 1 };

/* The next "<image>" of a text, with the backslashes before it: each pair stands for one, and an odd one makes the
 * marker plain text. */
typedef struct marker {
    const char *begin, *end; /* of backslashes and marker; NULL: there is none */
    size_t n_backslashes;    /* that are left */
    bool literal;
} marker;

static marker find_marker(const char *text) {
    const char *at = strstr(text, placeholder), *begin = at;
    if (!at)
        return (marker){0};
    while (begin > text && begin[-1] == '\\')
        begin--;
    const size_t n = (size_t)(at - begin);
    return (marker){begin, at + PLACEHOLDER_BYTES, n / 2, n % 2 == 1};
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* Whether text that spells the token, in a special piece, becomes it. */
static trol_status is_recognized(const tokenizer *t, const char *spelling, bool *recognized, trol_error *error) {
    const text_piece piece = {spelling, strlen(spelling), true};
    int32_t *ids = NULL;
    size_t n_ids = 0, capacity = 0;
    trol_status status = tokenizer_encode(t, &piece, 1, &ids, &n_ids, &capacity, error);
    *recognized = status == TROL_OK && n_ids == 1 && tokenizer_is_special(t, ids[0]);
    memory_free(ids);
    return status;
}

trol_status prompt_check(const prompt_template *family, const tokenizer *t, trol_error *error) {
    for (const char *const *token = family->special_tokens; *token; token++) {
        bool recognized;
        TRY(is_recognized(t, *token, &recognized, error));
        if (!recognized)
            return fail(error, TROL_ERROR_FORMAT,
                        "tokenizer_config.json: %s is not a special token of it or of the files beside it, but the "
                        "prompt template needs it",
                        *token);
    }
    return TROL_OK;
}

static const char *role_name(trol_role role) {
    return role == TROL_ROLE_SYSTEM      ? "the system"
           : role == TROL_ROLE_USER      ? "the user"
           : role == TROL_ROLE_ASSISTANT ? "the assistant"
                                         : "an unknown role";
}

static bool is_tokens(const trol_message *message) {
    return message->role == TROL_ROLE_ASSISTANT && !message->text && message->tokens;
}

static trol_status check_message(const trol_message *message, size_t number, trol_role expected, trol_error *error) {
    if (message->role != expected)
        return fail(error, TROL_ERROR_ARGUMENT, "message %zu is from %s, expected %s", number, role_name(message->role),
                    role_name(expected));
    if (is_tokens(message))
        return TROL_OK;
    if (!message->text)
        return fail(error, TROL_ERROR_ARGUMENT, "message %zu has no text%s", number,
                    message->role == TROL_ROLE_ASSISTANT ? " and no tokens" : "");
    size_t n_bytes = strlen(message->text), valid = utf8_valid_prefix(message->text, n_bytes);
    if (valid != n_bytes)
        return fail(error, TROL_ERROR_ARGUMENT, "message %zu is not valid UTF-8 from byte %zu on (0x%02x)", number,
                    valid, (unsigned)(uint8_t)message->text[valid]);
    return TROL_OK;
}

/* An optional system message, then user and assistant alternating, user last. */
static trol_status check_messages(const trol_message *messages, size_t n_messages, bool raw, trol_error *error) {
    size_t first = !raw && n_messages > 0 && messages[0].role == TROL_ROLE_SYSTEM ? 1 : 0;
    if (raw && n_messages != 1)
        return fail(error, TROL_ERROR_ARGUMENT, "%zu messages for a prompt without template, expected 1", n_messages);
    if (n_messages == first)
        return fail(error, TROL_ERROR_ARGUMENT, "the conversation has no message from the user");
    if (first)
        TRY(check_message(&messages[0], 1, TROL_ROLE_SYSTEM, error));
    for (size_t i = first; i < n_messages; i++)
        TRY(check_message(&messages[i], i + 1, (i - first) % 2 ? TROL_ROLE_ASSISTANT : TROL_ROLE_USER, error));
    if ((n_messages - first) % 2 == 0)
        return fail(error, TROL_ERROR_ARGUMENT, "the last message is from the assistant, expected the user");
    return TROL_OK;
}

static size_t count_placeholders(const trol_message *messages, size_t n_messages) {
    size_t count = 0;
    for (size_t i = 0; i < n_messages; i++) {
        if (messages[i].role != TROL_ROLE_USER)
            continue;
        for (marker m = find_marker(messages[i].text); m.begin; m = find_marker(m.end))
            count += !m.literal;
    }
    return count;
}

static trol_status check_images(size_t n_images, size_t n_placeholders, bool raw, trol_error *error) {
    if (n_placeholders == n_images || (n_placeholders == 0 && !raw))
        return TROL_OK;
    return fail(error, TROL_ERROR_ARGUMENT,
                "the text has %zu \"<image>\", but the number of pictures is %zu (\"\\<image>\" is the text itself)",
                n_placeholders, n_images);
}

/* ---- the prompt under construction ----------------------------------------------------------- */

typedef struct prompt {
    const prompt_template *family;
    const tokenizer *t;
    bool special;
    text_piece *pieces; /* [n_pieces], texts that are not encoded yet */
    size_t n_pieces, piece_capacity;
    size_t n_placed; /* images placed so far */
    size_t n_images; /* images among the pieces */
    int32_t *ids;    /* [n_ids] */
    size_t n_ids, id_capacity;
    trol_error *error;
} prompt;

static trol_status put_text(prompt *p, const char *text, size_t n_bytes, bool special) {
    void *pieces = p->pieces;
    TRY(memory_grow(&pieces, &p->piece_capacity, p->n_pieces + 1, sizeof *p->pieces, "a prompt", p->error));
    p->pieces = pieces;
    p->pieces[p->n_pieces++] = (text_piece){text, n_bytes, special};
    return TROL_OK;
}

static trol_status put_template(prompt *p, const char *text) { return put_text(p, text, strlen(text), true); }

static trol_status put_image(prompt *p) {
    p->n_placed++;
    p->n_images++;
    TRY(put_template(p, p->family->image_open));
    TRY(put_template(p, p->family->image_token));
    return put_template(p, p->family->image_close);
}

/* A user's text, with an image for each marker in it. */
static trol_status put_user_text(prompt *p, const char *text) {
    for (marker m = find_marker(text); m.begin; text = m.end, m = find_marker(text)) {
        TRY(put_text(p, text, (size_t)(m.begin - text) + m.n_backslashes, p->special));
        if (m.literal)
            TRY(put_text(p, placeholder, PLACEHOLDER_BYTES, false));
        else
            TRY(put_image(p));
    }
    return put_text(p, text, strlen(text), p->special);
}

/* Encodes the pieces collected so far. */
static trol_status flush(prompt *p) {
    size_t first = p->n_ids, n_images = 0;
    int32_t image_token = tokenizer_id(p->t, p->family->image_token);
    TRY(tokenizer_encode(p->t, p->pieces, p->n_pieces, &p->ids, &p->n_ids, &p->id_capacity, p->error));
    for (size_t i = first; i < p->n_ids; i++)
        n_images += p->ids[i] == image_token;
    if (n_images != p->n_images)
        return fail(p->error, TROL_ERROR_ARGUMENT,
                    "the text spells the image token %s itself, expected it only where a picture is placed",
                    p->family->image_token);
    p->n_pieces = 0;
    p->n_images = 0;
    return TROL_OK;
}

static trol_status put_tokens(prompt *p, const int32_t *tokens, size_t n_tokens, size_t message) {
    TRY(flush(p));
    const int32_t image_token = tokenizer_id(p->t, p->family->image_token);
    for (size_t i = 0; i < n_tokens; i++)
        if (tokens[i] < 0 || tokens[i] == image_token)
            return fail(p->error, TROL_ERROR_ARGUMENT,
                        "token %zu of message %zu is %" PRId32 ", expected 0 or more and no image token", i + 1,
                        message, tokens[i]);
    void *ids = p->ids;
    TRY(memory_grow(&ids, &p->id_capacity, p->n_ids + n_tokens, sizeof *p->ids, "a prompt", p->error));
    p->ids = ids;
    if (n_tokens)
        memcpy(p->ids + p->n_ids, tokens, n_tokens * sizeof *tokens);
    p->n_ids += n_tokens;
    return TROL_OK;
}

static trol_status put_system(prompt *p, const char *text) {
    if (text[0] == '\0')
        return TROL_OK;
    TRY(put_template(p, p->family->system_open));
    TRY(put_text(p, text, strlen(text), p->special));
    return put_template(p, p->family->system_close);
}

static trol_status put_answer(prompt *p, const trol_message *message, size_t number) {
    if (is_tokens(message))
        TRY(put_tokens(p, message->tokens, message->n_tokens, number));
    else
        TRY(put_text(p, message->text, strlen(message->text), p->special));
    return put_template(p, p->family->assistant_close);
}

/* in_front: images that go before the first user text. */
static trol_status put_conversation(prompt *p, const trol_message *messages, size_t n_messages, size_t in_front) {
    size_t first = messages[0].role == TROL_ROLE_SYSTEM ? 1 : 0;
    TRY(put_template(p, p->family->begin));
    TRY(put_system(p, first ? messages[0].text : prompt_default_system));
    for (size_t i = first; i < n_messages; i++) {
        if (messages[i].role == TROL_ROLE_ASSISTANT) {
            TRY(put_answer(p, &messages[i], i + 1));
            continue;
        }
        TRY(put_template(p, p->family->user_open));
        while (p->n_placed < in_front) {
            TRY(put_image(p));
            TRY(put_template(p, "\n"));
        }
        TRY(put_user_text(p, messages[i].text));
        TRY(put_template(p, p->family->user_close));
        TRY(put_template(p, p->family->assistant_open));
    }
    return TROL_OK;
}

/* ---- the calls ------------------------------------------------------------------------------- */

trol_status prompt_render(const prompt_template *family, const tokenizer *t, const trol_message *messages,
                          size_t n_messages, size_t n_images, int32_t flags, int32_t **ids, size_t *n_ids,
                          trol_error *error) {
    const bool raw = flags & TROL_RENDER_RAW;
    prompt p = {.family = family, .t = t, .special = flags & TROL_RENDER_SPECIAL, .error = error};
    trol_status status;
    *ids = NULL;
    *n_ids = 0;
    TRY(prompt_check(family, t, error));
    TRY(check_messages(messages, n_messages, raw, error));
    size_t n_placeholders = count_placeholders(messages, n_messages);
    TRY(check_images(n_images, n_placeholders, raw, error));
    if (raw)
        TRY_GOTO(put_user_text(&p, messages[0].text), done);
    else
        TRY_GOTO(put_conversation(&p, messages, n_messages, n_placeholders == 0 ? n_images : 0), done);
    TRY_GOTO(flush(&p), done);
    *ids = p.ids;
    *n_ids = p.n_ids;
    p.ids = NULL;
done:
    memory_free(p.pieces);
    memory_free(p.ids);
    return status;
}

enum { MAX_IMAGE_TOKENS = 1 << 20 }; /* of one image: far more than any encoder gives */

static trol_status expand(int32_t image_token, const int32_t *image_tokens, size_t n_images, const int32_t *ids,
                          size_t n_ids, int32_t **expanded, size_t *n_expanded, trol_error *error) {
    size_t count = n_ids - n_images, image = 0;
    for (size_t i = 0; i < n_images; i++) {
        if (image_tokens[i] < 1 || image_tokens[i] > MAX_IMAGE_TOKENS)
            return fail(error, TROL_ERROR_ARGUMENT, "picture %zu has %" PRId32 " tokens, expected 1 to %d", i + 1,
                        image_tokens[i], MAX_IMAGE_TOKENS);
        count += (size_t)image_tokens[i];
    }
    TRY(memory_alloc(count, sizeof **expanded, "a prompt", (void **)expanded, error));
    *n_expanded = 0;
    for (size_t i = 0; i < n_ids; i++) {
        int32_t copies = 1;
        if (ids[i] == image_token)
            copies = image_tokens[image++];
        for (; copies > 0; copies--)
            (*expanded)[(*n_expanded)++] = ids[i];
    }
    return TROL_OK;
}

trol_status prompt_expand(int32_t image_token, const int32_t *image_tokens, size_t n_images, int32_t **ids,
                          size_t *n_ids, trol_error *error) {
    if (n_images == 0)
        return TROL_OK;
    int32_t *expanded = NULL;
    size_t n_expanded = 0;
    trol_status status = expand(image_token, image_tokens, n_images, *ids, *n_ids, &expanded, &n_expanded, error);
    memory_free(*ids);
    *ids = expanded;
    *n_ids = n_expanded;
    return status;
}

size_t prompt_end_tokens(const prompt_template *family, const tokenizer *t, int32_t *ids, size_t capacity) {
    size_t n = 0;
    for (const char *const *token = family->end_tokens; *token && n < capacity; token++) {
        int32_t id = tokenizer_id(t, *token);
        if (id >= 0)
            ids[n++] = id;
    }
    return n;
}
