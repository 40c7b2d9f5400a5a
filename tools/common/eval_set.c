#include "common/eval_set.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

static trol_status out_of_memory(trol_error *error) {
    return fail(error, TROL_ERROR_MEMORY, "out of memory for the questions");
}

/* ---- grading --------------------------------------------------------------------------------- */

/* The words of a text with one space around each: " the red circle ". NULL: out of memory. Free with free(). */
static char *spaced_words(const char *text) {
    char *words = malloc(strlen(text) + 3), *end = words;
    if (!words)
        return NULL;
    *end++ = ' ';
    for (; *text; text++) {
        const char c = *text >= 'A' && *text <= 'Z' ? (char)(*text + 'a' - 'A') : *text;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            *end++ = c;
        else if (end[-1] != ' ')
            *end++ = ' ';
    }
    if (end[-1] != ' ')
        *end++ = ' ';
    *end = '\0';
    return words;
}

static bool contains(const char *words, const char *phrase) {
    char *wanted = spaced_words(phrase);
    const bool found = wanted && strstr(words, wanted);
    free(wanted);
    return found;
}

/* `all`: whether every phrase of the list occurs; else whether any does. */
static bool occur(const char *words, const cJSON *phrases, bool all) {
    const cJSON *phrase;
    cJSON_ArrayForEach(phrase, phrases) {
        if (contains(words, phrase->valuestring) != all)
            return !all;
    }
    return all;
}

bool eval_grade(const eval_question *question, const char *answer) {
    const cJSON *list, *accept = cJSON_GetObjectItemCaseSensitive(question->json, "accept");
    char *words = spaced_words(answer);
    bool right = false;
    if (!words)
        return false;
    cJSON_ArrayForEach(list, accept) right = right || occur(words, list, true);
    right = right && !occur(words, cJSON_GetObjectItemCaseSensitive(question->json, "reject"), false);
    free(words);
    return right;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool is_list_of_strings(const cJSON *list) {
    const cJSON *item;
    if (!cJSON_IsArray(list))
        return false;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsString(item))
            return false;
    }
    return true;
}

static bool is_accept_list(const cJSON *lists) {
    const cJSON *list;
    if (!cJSON_IsArray(lists) || cJSON_GetArraySize(lists) == 0)
        return false;
    cJSON_ArrayForEach(list, lists) {
        if (!is_list_of_strings(list))
            return false;
    }
    return true;
}

/* The index of a kind, which is added to the list if it is new; -1: out of memory. */
static int find_kind(eval_set *set, const char *kind) {
    for (int i = 0; i < set->n_kinds; i++)
        if (strcmp(set->kinds[i], kind) == 0)
            return i;
    const char **more = realloc(set->kinds, ((size_t)set->n_kinds + 1) * sizeof *more);
    if (!more)
        return -1;
    set->kinds = more;
    set->kinds[set->n_kinds] = kind;
    return set->n_kinds++;
}

/* Takes the JSON over, also on failure. */
static trol_status take_question(eval_set *set, const char *folder, cJSON *json, const char *where, trol_error *error) {
    eval_question *more = realloc(set->questions, (set->n_questions + 1) * sizeof *more);
    if (!more) {
        cJSON_Delete(json);
        return out_of_memory(error);
    }
    set->questions = more;
    eval_question *q = &set->questions[set->n_questions++];
    *q = (eval_question){.json = json};
    const cJSON *image = cJSON_GetObjectItemCaseSensitive(json, "image");
    q->question = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "question"));
    q->answer = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "answer"));
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "kind"));
    const cJSON *reject = cJSON_GetObjectItemCaseSensitive(json, "reject");
    if (!q->question || !kind)
        return fail(error, TROL_ERROR_FORMAT, "%s: \"question\" or \"kind\" is not a text", where);
    if (!is_accept_list(cJSON_GetObjectItemCaseSensitive(json, "accept")) || (reject && !is_list_of_strings(reject)))
        return fail(error, TROL_ERROR_FORMAT,
                    "%s: expected \"accept\", a list of lists of texts, and \"reject\", a list of texts", where);
    if (image && !cJSON_IsNull(image) && !cJSON_IsString(image))
        return fail(error, TROL_ERROR_FORMAT, "%s: \"image\" is not a file name", where);
    q->kind = find_kind(set, kind);
    if (q->kind < 0)
        return out_of_memory(error);
    if (!cJSON_IsString(image))
        return TROL_OK;
    const size_t bytes = strlen(folder) + strlen(image->valuestring) + 2;
    q->image = malloc(bytes);
    if (!q->image)
        return out_of_memory(error);
    snprintf(q->image, bytes, "%s/%s", folder, image->valuestring);
    return TROL_OK;
}

static bool same_image(const eval_question *a, const eval_question *b) {
    return a->image == b->image || (a->image && b->image && strcmp(a->image, b->image) == 0);
}

/* Questions about the same picture together, otherwise in the order of the file. */
static trol_status group_by_image(eval_set *set, trol_error *error) {
    const size_t n = set->n_questions;
    eval_question *grouped = malloc((n + 1) * sizeof *grouped);
    bool *taken = calloc(n + 1, sizeof *taken);
    size_t count = 0;
    for (size_t i = 0; grouped && taken && i < n; i++) {
        if (taken[i])
            continue;
        set->n_images += set->questions[i].image != NULL;
        for (size_t k = i; k < n; k++)
            if (!taken[k] && same_image(&set->questions[i], &set->questions[k])) {
                taken[k] = true;
                grouped[count++] = set->questions[k];
            }
    }
    const bool done = grouped && taken;
    if (done)
        memcpy(set->questions, grouped, n * sizeof *grouped);
    free(grouped);
    free(taken);
    return done ? TROL_OK : out_of_memory(error);
}

static trol_status read_lines(FILE *file, const char *path, const char *folder, size_t limit, eval_set *set,
                              trol_error *error) {
    char *line = NULL;
    size_t capacity = 0, number = 0;
    ssize_t length;
    trol_status status = TROL_OK;
    while (status == TROL_OK && (limit == 0 || set->n_questions < limit) &&
           (length = getline(&line, &capacity, file)) >= 0) {
        char where[600];
        number++;
        snprintf(where, sizeof where, "%.500s: line %zu", path, number);
        if (strspn(line, " \t\r\n") == (size_t)length)
            continue;
        cJSON *json = cJSON_ParseWithLengthOpts(line, (size_t)length + 1, NULL, 1);
        if (!cJSON_IsObject(json)) {
            cJSON_Delete(json);
            status = fail(error, TROL_ERROR_FORMAT, "%s: expected a JSON object", where);
        } else {
            status = take_question(set, folder, json, where, error);
        }
    }
    if (status == TROL_OK && ferror(file))
        status = fail(error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
    free(line);
    return status;
}

trol_status eval_set_read(const char *folder, size_t limit, eval_set *set, trol_error *error) {
    char path[4096];
    *set = (eval_set){0};
    snprintf(path, sizeof path, "%s/questions.jsonl", folder);
    FILE *file = fopen(path, "r");
    if (!file)
        return fail(error, TROL_ERROR_IO, "%s cannot be opened: %s", path, strerror(errno));
    trol_status status = read_lines(file, path, folder, limit, set, error);
    fclose(file);
    if (status == TROL_OK && set->n_questions == 0)
        status = fail(error, TROL_ERROR_FORMAT, "%s: there are no questions in it", path);
    if (status == TROL_OK)
        status = group_by_image(set, error);
    if (status != TROL_OK)
        eval_set_free(set);
    return status;
}

void eval_set_free(eval_set *set) {
    for (size_t i = 0; i < set->n_questions; i++) {
        free(set->questions[i].image);
        cJSON_Delete(set->questions[i].json);
    }
    free(set->questions);
    free(set->kinds);
    *set = (eval_set){0};
}
