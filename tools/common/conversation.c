#include "common/conversation.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/fail.h"
#include "common/input_file.h"
#include "common/output_file.h"
#include "base/utf8.h"

enum { MAX_FILE_BYTES = 1 << 30, MAX_MESSAGE_IMAGES = 64 };

static const char *const role_names[] = {"system", "user", "assistant"}; /* in the order of trol_role */

static trol_status no_memory(trol_error *error) {
    return fail(error, TROL_ERROR_MEMORY, "there is no memory for the conversation");
}

/* ---- in memory ------------------------------------------------------------------------------- */

void conversation_image_free(conversation_image *image) {
    free(image->bytes);
    trol_features_free(image->features);
    *image = (conversation_image){0};
}

static void free_message(conversation_message *m) {
    free(m->text);
    free(m->tokens);
}

trol_status conversation_add(conversation *c, trol_role role, const char *text, const int32_t *tokens, size_t n_tokens,
                             conversation_image *images, size_t n_images, trol_error *error) {
    conversation_message m = {.role = role, .text = strdup(text), .n_tokens = n_tokens, .n_images = n_images};
    m.tokens = tokens ? malloc((n_tokens + 1) * sizeof *tokens) : NULL;
    conversation_message *messages = realloc(c->messages, (c->n_messages + 1) * sizeof *messages);
    if (messages)
        c->messages = messages;
    conversation_image *all = realloc(c->images, (c->n_images + n_images + 1) * sizeof *all);
    if (all)
        c->images = all;
    if (!m.text || (tokens && !m.tokens) || !messages || !all) {
        free_message(&m);
        for (size_t i = 0; i < n_images; i++)
            conversation_image_free(&images[i]);
        return no_memory(error);
    }
    if (n_tokens > 0 && tokens)
        memcpy(m.tokens, tokens, n_tokens * sizeof *tokens);
    if (n_images > 0)
        memcpy(c->images + c->n_images, images, n_images * sizeof *images);
    c->messages[c->n_messages++] = m;
    c->n_images += n_images;
    return TROL_OK;
}

void conversation_remove(conversation *c, size_t first, size_t n) {
    size_t first_image = 0, n_images = 0;
    for (size_t i = 0; i < first + n; i++) {
        *(i < first ? &first_image : &n_images) += c->messages[i].n_images;
        if (i >= first)
            free_message(&c->messages[i]);
    }
    for (size_t i = 0; i < n_images; i++)
        conversation_image_free(&c->images[first_image + i]);
    c->n_messages -= n;
    c->n_images -= n_images;
    memmove(c->messages + first, c->messages + first + n, (c->n_messages - first) * sizeof *c->messages);
    memmove(c->images + first_image, c->images + first_image + n_images,
            (c->n_images - first_image) * sizeof *c->images);
}

void conversation_free(conversation *c) {
    if (c->n_messages > 0)
        conversation_remove(c, 0, c->n_messages);
    free(c->messages);
    free(c->images);
    *c = (conversation){0};
}

trol_status conversation_view(const conversation *c, trol_message **messages, trol_features ***features,
                              trol_error *error) {
    *messages = calloc(c->n_messages + 1, sizeof **messages);
    *features = calloc(c->n_images + 1, sizeof **features);
    if (!*messages || !*features) {
        free(*messages);
        free(*features);
        return no_memory(error);
    }
    for (size_t i = 0; i < c->n_messages; i++) {
        const conversation_message *m = &c->messages[i];
        (*messages)[i] = m->tokens ? (trol_message){.role = m->role, .tokens = m->tokens, .n_tokens = m->n_tokens}
                                   : (trol_message){.role = m->role, .text = m->text};
    }
    for (size_t i = 0; i < c->n_images; i++)
        (*features)[i] = c->images[i].features;
    return TROL_OK;
}

size_t conversation_count_places(const char *text) {
    static const char marker[] = "<image>";
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, marker)); at += sizeof marker - 1) {
        size_t backslashes = 0;
        while (at - backslashes > text && at[-1 - (ptrdiff_t)backslashes] == '\\')
            backslashes++;
        n += backslashes % 2 == 0;
    }
    return n;
}

/* ---- to a file ------------------------------------------------------------------------------- */

static const char data_url_start[] = "data:application/octet-stream;base64,";

static bool add_image(cJSON *parts, const conversation_image *image) {
    cJSON *part = cJSON_CreateObject(), *url = cJSON_CreateObject();
    char *base64 = base64_encode(image->bytes, image->n_bytes), *text = NULL;
    bool fine = part && url && base64 && cJSON_AddStringToObject(part, "type", "image_url") != NULL;
    if (fine)
        text = malloc(sizeof data_url_start + strlen(base64));
    if (text) {
        strcpy(text, data_url_start);
        strcat(text, base64);
    }
    fine = fine && text && cJSON_AddStringToObject(url, "url", text) && cJSON_AddItemToObject(part, "image_url", url);
    if (!fine)
        cJSON_Delete(url);
    fine = fine && cJSON_AddItemToArray(parts, part);
    if (!fine)
        cJSON_Delete(part);
    free(base64);
    free(text);
    return fine;
}

/* The text places its images with "<image>": parts hold them in order, before the text. */
static bool add_message(cJSON *list, const conversation_message *m, const conversation_image *images) {
    cJSON *object = cJSON_CreateObject(), *parts = NULL;
    bool fine =
        object && cJSON_AddItemToArray(list, object) && cJSON_AddStringToObject(object, "role", role_names[m->role]);
    if (fine && m->n_images > 0) {
        parts = cJSON_AddArrayToObject(object, "content");
        fine = parts != NULL;
        for (size_t i = 0; fine && i < m->n_images; i++)
            fine = add_image(parts, &images[i]);
        cJSON *part = fine ? cJSON_CreateObject() : NULL;
        fine = part && cJSON_AddItemToArray(parts, part) && cJSON_AddStringToObject(part, "type", "text") &&
               cJSON_AddStringToObject(part, "text", m->text);
    } else if (fine)
        fine = cJSON_AddStringToObject(object, "content", m->text) != NULL;
    if (fine && m->tokens) {
        cJSON *tokens = cJSON_CreateIntArray(m->tokens, (int)m->n_tokens);
        fine = tokens && cJSON_AddItemToObject(object, "tokens", tokens);
    }
    return fine;
}

trol_status conversation_save(const conversation *c, const char *path, trol_error *error) {
    cJSON *root = cJSON_CreateObject(), *list = root ? cJSON_AddArrayToObject(root, "messages") : NULL;
    const conversation_image *images = c->images;
    bool fine = list != NULL;
    for (size_t i = 0; fine && i < c->n_messages; images += c->messages[i++].n_images)
        fine = add_message(list, &c->messages[i], images);
    char *text = fine ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!text)
        return no_memory(error);
    output_file file;
    trol_status status = output_file_open(path, &file, error);
    if (status == TROL_OK) {
        if (fputs(text, file.stream) < 0 || fputs("\n", file.stream) < 0)
            status = output_file_failed(&file, error);
        const trol_status closed = output_file_close(&file, status == TROL_OK, status == TROL_OK ? error : NULL);
        status = status == TROL_OK ? closed : status;
    }
    free(text);
    return status;
}

/* ---- from a file ----------------------------------------------------------------------------- */

/* Where in the file an error is. */
typedef struct place {
    const char *path;
    size_t message; /* counted from 1 */
    trol_error *error;
} place;

static trol_status wrong(const place *at, const char *what) {
    return fail(at->error, TROL_ERROR_FORMAT, "%s: message %zu %s", at->path, at->message, what);
}

static trol_status read_image(const place *at, const cJSON *part, conversation_encoder encode, void *user,
                              conversation_image *image) {
    const cJSON *url = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(part, "image_url"), "url");
    const char *text = cJSON_GetStringValue(url), *comma = text ? strstr(text, ";base64,") : NULL;
    if (!text || strncmp(text, "data:", 5) != 0 || !comma)
        return wrong(at, "has an image that is not a data: URL in base64");
    comma += strlen(";base64,");
    const size_t n_text = strlen(comma);
    image->bytes = malloc(n_text + 1);
    if (!image->bytes)
        return no_memory(at->error);
    if (!base64_decode(comma, n_text, (uint8_t *)image->bytes, &image->n_bytes))
        return wrong(at, "has an image whose data: URL is not valid base64");
    return encode(user, image->bytes, image->n_bytes, &image->features, at->error);
}

/* The texts of several parts are concatenated; an image goes where the text has "<image>", or else before the text. */
static trol_status read_parts(const place *at, const cJSON *parts, conversation_encoder encode, void *user, char **text,
                              conversation_image *images, size_t *n_images) {
    size_t room = 1;
    const cJSON *part;
    cJSON_ArrayForEach(part, parts) {
        const char *t = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "text"));
        room += t ? strlen(t) : strlen("<image>\n");
    }
    char *all = calloc(room, 1);
    if (!all)
        return no_memory(at->error);
    *text = all;
    bool places = false;
    cJSON_ArrayForEach(part, parts) {
        const char *t = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "text"));
        places = places || (t && conversation_count_places(t) > 0);
    }
    cJSON_ArrayForEach(part, parts) {
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "type"));
        const char *t = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "text"));
        if (type && strcmp(type, "text") == 0 && t) {
            strcat(all, t);
            continue;
        }
        if (!type || strcmp(type, "image_url") != 0)
            return wrong(at, "has a part that is neither text nor image_url");
        if (*n_images == MAX_MESSAGE_IMAGES)
            return wrong(at, "has more than 64 images");
        trol_status status = read_image(at, part, encode, user, &images[(*n_images)++]);
        if (status != TROL_OK)
            return status;
        if (!places)
            strcat(all, "<image>\n");
    }
    return TROL_OK;
}

static trol_status read_tokens(const place *at, const cJSON *list, int32_t **tokens, size_t *n_tokens) {
    if (!list)
        return TROL_OK;
    if (!cJSON_IsArray(list))
        return wrong(at, "has \"tokens\" that are not a list");
    *tokens = malloc(((size_t)cJSON_GetArraySize(list) + 1) * sizeof **tokens);
    if (!*tokens)
        return no_memory(at->error);
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || item->valuedouble != floor(item->valuedouble) || item->valuedouble < 0 ||
            item->valuedouble > INT32_MAX)
            return wrong(at, "has a token that is not an id");
        (*tokens)[(*n_tokens)++] = (int32_t)item->valuedouble;
    }
    return TROL_OK;
}

static trol_status read_message(const place *at, const cJSON *object, conversation_encoder encode, void *user,
                                conversation *c) {
    conversation_image images[MAX_MESSAGE_IMAGES] = {{0}};
    size_t n_images = 0, n_tokens = 0;
    int32_t *tokens = NULL;
    char *text = NULL;
    trol_role role = TROL_ROLE_SYSTEM;
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "role"));
    while (role <= TROL_ROLE_ASSISTANT && (!name || strcmp(name, role_names[role]) != 0))
        role++;
    if (role > TROL_ROLE_ASSISTANT)
        return wrong(at, "has no role of system, user or assistant");
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(object, "content");
    trol_status status = TROL_OK;
    if (cJSON_IsString(content)) {
        text = strdup(content->valuestring);
        status = text ? TROL_OK : no_memory(at->error);
    } else if (cJSON_IsArray(content) && role == TROL_ROLE_USER)
        status = read_parts(at, content, encode, user, &text, images, &n_images);
    else
        status = wrong(at, "has no content, expected a text (or a user's list of parts)");
    if (status == TROL_OK && role == TROL_ROLE_ASSISTANT)
        status = read_tokens(at, cJSON_GetObjectItemCaseSensitive(object, "tokens"), &tokens, &n_tokens);
    if (status == TROL_OK)
        status = conversation_add(c, role, text, tokens, n_tokens, images, n_images, at->error);
    else
        for (size_t i = 0; i < n_images; i++)
            conversation_image_free(&images[i]);
    free(text);
    free(tokens);
    return status;
}

trol_status conversation_load(const char *path, conversation_encoder encode, void *user, conversation *c,
                              trol_error *error) {
    char *bytes;
    size_t n_bytes;
    *c = (conversation){0};
    trol_status status = input_file_read(path, MAX_FILE_BYTES, &bytes, &n_bytes, error);
    if (status != TROL_OK)
        return status;
    place at = {.path = path, .error = error};
    cJSON *root = utf8_valid_prefix(bytes, n_bytes) == n_bytes ? cJSON_ParseWithLength(bytes, n_bytes) : NULL;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "messages"), *object;
    if (!cJSON_IsArray(list))
        status = fail(error, TROL_ERROR_FORMAT, "%s: it is not a saved conversation (a JSON object with \"messages\")",
                      path);
    if (status == TROL_OK)
        cJSON_ArrayForEach(object, list) {
            at.message++;
            if (status == TROL_OK)
                status = read_message(&at, object, encode, user, c);
        }
    /* system?, then user and assistant alternating */
    for (size_t i = 0, turn = 0; status == TROL_OK && i < c->n_messages; i++) {
        at.message = i + 1;
        if (i == 0 && c->messages[0].role == TROL_ROLE_SYSTEM)
            continue;
        if (c->messages[i].role != (turn++ % 2 == 0 ? TROL_ROLE_USER : TROL_ROLE_ASSISTANT))
            status = wrong(&at, "is out of turn, expected user and assistant alternating");
    }
    if (status == TROL_OK && c->n_messages > 0 && c->messages[c->n_messages - 1].role == TROL_ROLE_USER)
        conversation_remove(c, c->n_messages - 1, 1); /* a question that was never answered */
    cJSON_Delete(root);
    free(bytes);
    if (status != TROL_OK)
        conversation_free(c);
    return status;
}
