#include "cli/batch_line.h"

#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/choices.h"
#include "common/input_file.h"
#include "server/data_url.h"
#include "server/json_body.h"

static const char model_id[] = "trol"; /* a line's "model" is ignored */

/* ---- pictures -------------------------------------------------------------------------------- */

static bool is_url(const char *text) { return strstr(text, "://") != NULL || strncmp(text, "data:", 5) == 0; }

/* The bytes of a picture that is named by its path or given as a data: URL. */
static bool read_image(const char *source, const char *param, chat_image *image, api_error *error) {
    trol_image_params limits;
    trol_error cause;
    char *bytes;
    if (strncmp(source, "data:", 5) == 0)
        return data_url_read(source, param, &image->bytes, &image->n_bytes, error);
    if (is_url(source))
        return api_fail(error, 400, param, NULL, "%s is \"%.100s\", expected a path or a data: URL: nothing is fetched",
                        param, source);
    trol_image_params_init(&limits);
    if (!*source || strcmp(source, "-") == 0)
        return api_fail(error, 400, param, NULL, "%s is \"%s\", expected a path or a data: URL", param, source);
    if (input_file_read(source, (size_t)limits.max_bytes, &bytes, &image->n_bytes, &cause) != TROL_OK)
        return api_fail(error, 400, param, NULL, "%s", cause.message);
    image->bytes = (uint8_t *)bytes;
    return true;
}

/* "image" and "images" of the line, after those that the request has. */
static bool add_images(const cJSON *value, const char *param, chat_request *request, api_error *error) {
    const bool list = cJSON_IsArray(value);
    for (const cJSON *item = list ? value->child : value; item; item = list ? item->next : NULL) {
        const char *source;
        if (!json_read_string(item, param, &source, error))
            return false;
        if (request->n_images == CHAT_MOST_IMAGES)
            return api_fail(error, 400, param, NULL, "the line has more than %d pictures", CHAT_MOST_IMAGES);
        if (!read_image(source, param, &request->images[request->n_images], error))
            return false;
        request->n_images++;
    }
    return true;
}

/* Paths among the messages' pictures become data: URLs. */
static bool read_paths(cJSON *messages, api_error *error) {
    cJSON *message, *part;
    cJSON_ArrayForEach(message, messages) {
        cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
        if (!cJSON_IsArray(content))
            continue;
        cJSON_ArrayForEach(part, content) {
            static const char start[] = "data:application/octet-stream;base64,";
            cJSON *source = cJSON_GetObjectItemCaseSensitive(part, "image_url");
            cJSON *url = cJSON_GetObjectItemCaseSensitive(source, "url");
            const char *path = cJSON_GetStringValue(url);
            chat_image image = {0};
            if (!path || strncmp(path, "data:", 5) == 0)
                continue;
            if (!read_image(path, "image_url.url", &image, error))
                return false;
            char *base64 = base64_encode(image.bytes, image.n_bytes);
            char *text = base64 ? malloc(sizeof start + strlen(base64)) : NULL;
            free(image.bytes);
            if (text) {
                strcpy(text, start);
                strcat(text, base64);
            }
            cJSON *replacement = text ? cJSON_CreateString(text) : NULL;
            free(base64);
            free(text);
            if (!replacement || !cJSON_ReplaceItemInObjectCaseSensitive(source, "url", replacement)) {
                cJSON_Delete(replacement);
                return api_fail_memory(error);
            }
        }
    }
    return true;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* The library places the pictures, as with -p: at the markers, or in front. */
static bool make_messages(const char *prompt, const char *system, chat_request *request, api_error *error) {
    request->messages = calloc(2, sizeof *request->messages);
    request->images = calloc(CHAT_MOST_IMAGES, sizeof *request->images);
    if (!request->messages || !request->images)
        return api_fail_memory(error);
    for (int i = system ? 0 : 1; i < 2; i++) {
        char *text = strdup(i == 0 ? system : prompt);
        if (!text)
            return api_fail_memory(error);
        request->messages[request->n_messages++] =
            (trol_message){.role = i == 0 ? TROL_ROLE_SYSTEM : TROL_ROLE_USER, .text = text};
    }
    return true;
}

/* --json-schema, --json or --grammar, unless the line has a format of its own; {"type": "text"} is one, too. */
static bool add_constraint(const run *r, cJSON *line) {
    static const char *const own[] = {"response_format", "json_schema", "grammar"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (cJSON_HasObjectItem(line, own[i]))
            return true;
    if (r->chosen->json) {
        cJSON *format = cJSON_AddObjectToObject(line, "response_format");
        return format && cJSON_AddStringToObject(format, "type", "json_object");
    }
    if (r->chosen->grammar)
        return cJSON_AddStringToObject(line, "grammar", r->constraint_text) != NULL;
    if (!r->chosen->json_schema)
        return true;
    cJSON *schema = cJSON_ParseWithLength(r->constraint_text, r->n_constraint_bytes);
    return schema && cJSON_AddItemToObject(line, "json_schema", schema);
}

/* The options' values for fields that the line leaves out. */
static bool add_defaults(const run *r, cJSON *line, api_error *error) {
    const options *o = r->chosen;
    static const char *const modes[] = {TRAVERSAL_MODES};
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"temperature", (double)o->sampling.temperature},
        {"top_k", o->sampling.top_k},
        {"top_p", (double)o->sampling.top_p},
        {"min_p", (double)o->sampling.min_p},
        {"repeat_penalty", (double)o->sampling.repeat_penalty},
        {"repeat_last_n", o->sampling.repeat_last_n},
        {"presence_penalty", (double)o->sampling.presence_penalty},
        {"frequency_penalty", (double)o->sampling.frequency_penalty},
        {"seed", (double)o->sampling.seed},
        {"traversal_skip", (double)o->traversal_skip},
    };
    bool fine = true;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!cJSON_HasObjectItem(line, numbers[i].name))
            fine = fine && cJSON_AddNumberToObject(line, numbers[i].name, numbers[i].value);
    if (!cJSON_HasObjectItem(line, "max_tokens") && !cJSON_HasObjectItem(line, "max_completion_tokens"))
        fine = fine && cJSON_AddNumberToObject(line, "max_tokens", o->n_predict);
    if (!cJSON_HasObjectItem(line, "traversal"))
        fine = fine && cJSON_AddStringToObject(line, "traversal", modes[o->traversal]);
    if (!cJSON_HasObjectItem(line, "stop") && o->stops.count > 0) {
        cJSON *stops = cJSON_CreateStringArray(o->stops.items, (int)o->stops.count);
        fine = fine && stops && cJSON_AddItemToObject(line, "stop", stops);
    }
    fine = fine && add_constraint(r, line);
    return fine || api_fail_memory(error);
}

/* ---- the line -------------------------------------------------------------------------------- */

static const char *const own_fields[] = {"id", "prompt", "system", "image", "images", "model", NULL};
static const char *const server_fields[] = {"n", "stream", "stream_options", "gates", NULL};

static bool read_fields(const run *r, cJSON *line, chat_request *request, char **id, api_error *error) {
    cJSON *own[6] = {NULL};
    const char *prompt = NULL, *system = r->chosen->system;
    for (int i = 0; own_fields[i]; i++)
        own[i] = cJSON_DetachItemFromObjectCaseSensitive(line, own_fields[i]);
    cJSON *messages = cJSON_GetObjectItemCaseSensitive(line, "messages");
    bool fine = true;
    if (own[0]) {
        *id = cJSON_PrintUnformatted(own[0]);
        fine = cJSON_IsString(own[0]) || cJSON_IsNumber(own[0]) ||
               json_fail_type(own[0], "id", "a string or a number", error);
    }
    for (int i = 0; server_fields[i] && fine; i++)
        if (cJSON_HasObjectItem(line, server_fields[i]))
            fine = api_fail(error, 400, server_fields[i], NULL, "%s is not supported in a line of --batch",
                            server_fields[i]);
    if (fine && !own[1] == !messages)
        fine = api_fail(error, 400, NULL, NULL, "the line has %s, expected \"prompt\" or \"messages\"",
                        messages ? "both a prompt and messages" : "neither a prompt nor messages");
    if (fine && messages && own[2])
        fine =
            api_fail(error, 400, "system", NULL, "system cannot be combined with messages, which may begin with one");
    if (fine && own[1])
        fine = json_read_string(own[1], "prompt", &prompt, error);
    if (fine && own[2])
        fine = json_read_string(own[2], "system", &system, error);
    if (fine && prompt) { /* read as an empty conversation, and filled after */
        cJSON *list = cJSON_AddArrayToObject(line, "messages"), *message = list ? cJSON_CreateObject() : NULL;
        fine = (message && cJSON_AddItemToArray(list, message) && cJSON_AddStringToObject(message, "role", "user") &&
                cJSON_AddStringToObject(message, "content", "")) ||
               api_fail_memory(error);
    } else if (fine)
        fine = read_paths(messages, error);
    if (fine && (fine = add_defaults(r, line, error)))
        fine = chat_request_read(line, model_id, request, error);
    if (fine && prompt) {
        free((char *)request->messages[0].text);
        free(request->messages);
        free(request->images);
        request->messages = NULL;
        request->images = NULL;
        request->n_messages = 0;
        fine = make_messages(prompt, system, request, error);
    }
    for (int i = 3; i <= 4 && fine; i++)
        if (own[i])
            fine = add_images(own[i], own_fields[i], request, error);
    for (int i = 0; i < 6; i++)
        cJSON_Delete(own[i]);
    return fine;
}

bool batch_line_read(const run *r, const char *line, size_t n_bytes, chat_request *request, char **id,
                     api_error *error) {
    *request = (chat_request){0};
    *id = NULL;
    *error = (api_error){0};
    cJSON *root = json_body_parse(line, n_bytes, error);
    if (!root)
        return false;
    const bool fine = read_fields(r, root, request, id, error);
    cJSON_Delete(root);
    if (!fine)
        chat_request_free(request);
    return fine;
}
