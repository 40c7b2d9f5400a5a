/* test-prompt.c - questions through template and tokenizer: the authors' pipeline's ids for the end-to-end cases and
 * (where TROL_TOKENIZERS names the folder that holds internlm2/ and phi3/) for the published tokenizers, and the rules
 * of a conversation. */
#include "engine/prompt.h"

#include "base/memory.h"
#include "format/json.h"
#include "test.h"

static trol_error error;

typedef struct family {
    const char *name;
    bool dummy_prefix;
    int32_t tokens_per_tile; /* in the end-to-end case */
} family;

static const family families[] = {{"internlm2", false, 49}, {"phi3", true, 256}};

/* The rows of model/family.c have the same order. */
static const prompt_template *template_of(const family *f) { return &family_at((size_t)(f - families))->prompt; }

typedef struct rendered {
    int32_t *ids;
    size_t n;
} rendered;

static bool equal_ids(const rendered *result, const cJSON *expected) {
    size_t i = 0;
    const cJSON *id;
    cJSON_ArrayForEach(id, expected) {
        if (i >= result->n || result->ids[i] != id->valueint)
            return false;
        i++;
    }
    return i == result->n;
}

static trol_status render(const family *f, const tokenizer *t, const trol_message *messages, size_t n_messages,
                          const int32_t *counts, size_t n_images, int32_t flags, rendered *result) {
    trol_status status =
        prompt_render(template_of(f), t, messages, n_messages, n_images, flags, &result->ids, &result->n, &error);
    if (status != TROL_OK)
        return status;
    const int32_t token = tokenizer_id(t, template_of(f)->image_token);
    return prompt_expand(token, counts, n_images, &result->ids, &result->n, &error);
}

static rendered ask(const family *f, const tokenizer *t, const char *question, size_t n_images, int32_t n_tokens,
                    bool special) {
    int32_t counts[8];
    for (size_t i = 0; i < n_images; i++)
        counts[i] = n_tokens;
    trol_message message = {.role = TROL_ROLE_USER, .text = question};
    rendered result;
    CHECK_OK(render(f, t, &message, 1, counts, n_images, special ? TROL_RENDER_SPECIAL : 0, &result), error);
    return result;
}

/* ---- the authors' ids ------------------------------------------------------------------------ */

/* {"question", "image", "tiles", "input_ids"} of the end-to-end cases, {"question", "pictures", "tokens_per_picture",
 * "ids"} of the published tokenizers. */
static void check_line(const family *f, const tokenizer *t, const cJSON *line, const char *path, int number) {
    const char *question = cJSON_GetObjectItem(line, "question")->valuestring;
    const cJSON *images = cJSON_GetObjectItem(line, "pictures"), *ids = cJSON_GetObjectItem(line, "ids");
    size_t n_images;
    int32_t n_tokens;
    if (images) {
        n_images = (size_t)images->valueint;
        n_tokens = cJSON_GetObjectItem(line, "tokens_per_picture")->valueint;
    } else {
        int tiles = cJSON_GetObjectItem(line, "tiles")->valueint;
        n_images = cJSON_IsString(cJSON_GetObjectItem(line, "image")) ? 1 : 0;
        n_tokens = f->tokens_per_tile * (tiles > 0 ? tiles : 1);
        ids = cJSON_GetObjectItem(line, "input_ids");
    }
    for (int special = 0; special < 2; special++) { /* no question spells a special token */
        rendered result = ask(f, t, question, n_images, n_tokens, special != 0);
        CHECK(equal_ids(&result, ids), "%s line %d, special %d: \"%s\"", path, number, special, question);
        memory_free(result.ids);
    }
}

static void check_questions(const family *f, const tokenizer *t, const char *folder, const char *name) {
    char *path, *bytes, *next;
    size_t n_bytes;
    int number = 0;
    CHECK_OK(path_join(folder, name, &path, &error), error);
    CHECK_OK(file_read(path, (size_t)64 << 20, &bytes, &n_bytes, &error), error);
    for (char *line = strtok_r(bytes, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        cJSON *json;
        CHECK_OK(json_parse(line, strlen(line), path, &json, &error), error);
        check_line(f, t, json, path, ++number);
        cJSON_Delete(json);
    }
    CHECK(number > 20, "%s has %d lines", path, number);
    memory_free(bytes);
    memory_free(path);
}

/* ---- the rules of a conversation ------------------------------------------------------------- */

/* Appends the tokens of a text in which special tokens are recognized. */
static void put_text(rendered *result, size_t *capacity, const tokenizer *t, const char *text) {
    text_piece piece = {text, strlen(text), true};
    CHECK_OK(tokenizer_encode(t, &piece, 1, &result->ids, &result->n, capacity, &error), error);
}

static void expect_ids(const family *f, rendered found, rendered expected, const char *what) {
    CHECK(found.n == expected.n && memcmp(found.ids, expected.ids, found.n * sizeof *found.ids) == 0,
          "%s, %s: %zu tokens, expected %zu", f->name, what, found.n, expected.n);
    memory_free(found.ids);
    memory_free(expected.ids);
}

static rendered of_text(const tokenizer *t, const char *text) {
    rendered result = {0};
    size_t capacity = 0;
    put_text(&result, &capacity, t, text);
    return result;
}

static rendered of_messages(const family *f, const tokenizer *t, const trol_message *messages, size_t n) {
    rendered result;
    CHECK_OK(render(f, t, messages, n, NULL, 0, 0, &result), error);
    return result;
}

/* The text of check_turns' conversation in each family. */
static const char *const first_turns[] = {
    "<s>[UNUSED_TOKEN_146]system\nBe kind.[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]user\nOne?[UNUSED_TOKEN_145]\n"
    "[UNUSED_TOKEN_146]assistant\n",
    "<s><|system|>\nBe kind.<|end|>\n<|user|>\nOne?<|end|>\n<|assistant|>\n"};
static const char *const second_turns[] = {
    "[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]user\n Two?[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n",
    "<|end|>\n<|user|>\n Two?<|end|>\n<|assistant|>\n"};
static const char *const without_system[] = {
    "<s>[UNUSED_TOKEN_146]user\nOne?[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n",
    "<s><|user|>\nOne?<|end|>\n<|assistant|>\n"};

static void check_turns(const family *f, const tokenizer *t, int which) {
    char text[1024];
    int32_t answer[] = {300, 301, 300}; /* no tokenization of a text, perhaps */
    trol_message messages[] = {{.role = TROL_ROLE_SYSTEM, .text = "Be kind."},
                               {.role = TROL_ROLE_USER, .text = "One?"},
                               {.role = TROL_ROLE_ASSISTANT, .text = "\nYes. "},
                               {.role = TROL_ROLE_USER, .text = " Two?"}};
    expect_ids(f, of_messages(f, t, messages, 2), of_text(t, first_turns[which]), "one turn");
    snprintf(text, sizeof text, "%s\nYes. %s", first_turns[which], second_turns[which]);
    expect_ids(f, of_messages(f, t, messages, 4), of_text(t, text), "two turns");
    messages[2] = (trol_message){.role = TROL_ROLE_ASSISTANT, .tokens = answer, .n_tokens = 3};
    for (int empty = 0; empty < 2; empty++) {
        rendered expected = {0};
        size_t capacity = 0;
        put_text(&expected, &capacity, t, first_turns[which]);
        for (size_t i = 0; i < messages[2].n_tokens; i++) {
            void *ids = expected.ids;
            CHECK_OK(memory_grow(&ids, &capacity, expected.n + 1, sizeof(int32_t), "ids", &error), error);
            expected.ids = ids;
            expected.ids[expected.n++] = answer[i];
        }
        put_text(&expected, &capacity, t, second_turns[which]);
        expect_ids(f, of_messages(f, t, messages, 4), expected, "two turns, the answer as tokens");
        messages[2].n_tokens = 0;
    }
    messages[0].text = "";
    expect_ids(f, of_messages(f, t, messages, 2), of_text(t, without_system[which]), "no system part");
}

static size_t count(rendered result, int32_t id) {
    size_t n = 0;
    for (size_t i = 0; i < result.n; i++)
        n += result.ids[i] == id;
    return n;
}

static void check_images(const family *f, const tokenizer *t) {
    expect_ids(f, ask(f, t, "Compare.", 2, 3, false), ask(f, t, "<image>\n<image>\nCompare.", 2, 3, false),
               "two in front");
    int32_t counts[] = {2, 5}, token = tokenizer_id(t, template_of(f)->image_token);
    trol_message messages[] = {{.role = TROL_ROLE_SYSTEM, .text = "<image> stays text here"},
                               {.role = TROL_ROLE_USER, .text = "<image> One?"},
                               {.role = TROL_ROLE_ASSISTANT, .text = "and <image> here"},
                               {.role = TROL_ROLE_USER, .text = "And <image>?"}};
    rendered result;
    CHECK_OK(render(f, t, messages, 4, counts, 2, 0, &result), error);
    CHECK(count(result, token) == 7, "%zu image tokens, expected 7", count(result, token));
    size_t first = 0;
    while (first + 2 < result.n && result.ids[first] != token)
        first++;
    CHECK(result.ids[first + 1] == token && result.ids[first + 2] != token, "the first picture has not 2 tokens");
    memory_free(result.ids);
}

static void check_special(const family *f, const tokenizer *t) {
    const char *end = template_of(f)->end_tokens[0];
    char question[64];
    snprintf(question, sizeof question, "a %s</s> b", end);
    for (int special = 0; special < 2; special++) {
        rendered plain = ask(f, t, "a", 0, 0, false), result = ask(f, t, question, 0, 0, special != 0);
        size_t more = count(result, tokenizer_id(t, end)) - count(plain, tokenizer_id(t, end));
        CHECK(more == (size_t)special && count(result, 2) == (size_t)special, "%s: %zu more, %zu </s>", f->name, more,
              count(result, 2));
        memory_free(plain.ids);
        memory_free(result.ids);
    }
}

static void check_raw(const family *f, const tokenizer *t) {
    int32_t n_tokens = 3;
    trol_message message = {.role = TROL_ROLE_USER, .text = "<s>Once upon a time"};
    rendered result;
    CHECK_OK(render(f, t, &message, 1, NULL, 0, TROL_RENDER_RAW | TROL_RENDER_SPECIAL, &result), error);
    expect_ids(f, result, of_text(t, message.text), "raw text");
    message.text = "a <image> b";
    CHECK_OK(render(f, t, &message, 1, &n_tokens, 1, TROL_RENDER_RAW, &result), error);
    char text[256];
    const prompt_template *p = template_of(f);
    snprintf(text, sizeof text, "a %s%s%s%s%s b", p->image_open, p->image_token, p->image_token, p->image_token,
             p->image_close);
    expect_ids(f, result, of_text(t, text), "raw text with a picture");
    message.text = "";
    CHECK_OK(render(f, t, &message, 1, NULL, 0, TROL_RENDER_RAW, &result), error);
    CHECK(result.n == 0, "%zu tokens of nothing", result.n);
    memory_free(result.ids);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void check_refusals(const family *f, const tokenizer *t) {
    int32_t counts[] = {3, 0};
    const trol_role user = TROL_ROLE_USER, assistant = TROL_ROLE_ASSISTANT, system = TROL_ROLE_SYSTEM;
    char image_token[64];
    snprintf(image_token, sizeof image_token, "a %s", template_of(f)->image_token);
    struct {
        trol_message messages[3];
        size_t n_messages, n_images;
        bool special, raw;
        const char *words;
    } cases[] = {
        {{{.role = user, .text = "<image> <image>"}},
         1,
         1,
         false,
         false,
         "has 2 \"<image>\", but the number of pictures is 1"},
        {{{.role = user, .text = "<image>"}}, 1, 0, false, false, "has 1 \"<image>\", but the number of pictures is 0"},
        {{{.role = user, .text = "a"}}, 1, 1, false, true, "has 0 \"<image>\", but the number of pictures is 1"},
        {{{.role = user, .text = "a"}}, 1, 2, false, false, "picture 2 has 0 tokens"},
        {{{.text = NULL}}, 0, 0, false, false, "no message"},
        {{{.role = system, .text = "a"}}, 1, 0, false, false, "no message"},
        {{{.role = user, .text = "a"}, {.role = system, .text = "b"}},
         2,
         0,
         false,
         false,
         "message 2 is from the system, expected the assistant"},
        {{{.role = user, .text = "a"}, {.role = user, .text = "b"}},
         2,
         0,
         false,
         false,
         "message 2 is from the user, expected the assistant"},
        {{{.role = assistant, .text = "a"}}, 1, 0, false, false, "message 1 is from the assistant, expected the user"},
        {{{.role = user, .text = "a"}, {.role = assistant, .text = "b"}}, 2, 0, false, false, "the last message"},
        {{{.role = user, .text = "a\xff"}}, 1, 0, false, false, "message 1 is not valid UTF-8 from byte 1 on (0xff)"},
        {{{.role = user, .text = NULL}}, 1, 0, false, false, "message 1 has no text"},
        {{{.role = user, .text = "a"}, {.role = assistant, .text = NULL}, {.role = user, .text = "b"}},
         3,
         0,
         false,
         false,
         "message 2 has no text"},
        {{{.role = user, .text = "a"}, {.role = user, .text = "b"}}, 2, 0, false, true, "2 messages"},
        {{{.role = system, .text = "a"}}, 1, 0, false, true, "expected the user"},
        {{{.role = system, .text = image_token}, {.role = user, .text = "b"}},
         2,
         0,
         true,
         false,
         "spells the image token"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rendered result = {(int32_t *)counts, 1};
        const int32_t flags = (cases[i].raw ? TROL_RENDER_RAW : 0) | (cases[i].special ? TROL_RENDER_SPECIAL : 0);
        trol_status status =
            render(f, t, cases[i].messages, cases[i].n_messages, counts, cases[i].n_images, flags, &result);
        CHECK(status == TROL_ERROR_ARGUMENT && !result.ids && result.n == 0 && strstr(error.message, cases[i].words),
              "%s, case %zu: status %d, \"%s\", expected \"%s\"", f->name, i, status, status ? error.message : "",
              cases[i].words);
    }
    int32_t wrong[] = {-5, tokenizer_id(t, template_of(f)->image_token)};
    for (size_t i = 0; i < 2; i++) {
        trol_message turns[] = {{.role = user, .text = "a"},
                                {.role = assistant, .tokens = &wrong[i], .n_tokens = 1},
                                {.role = user, .text = "b"}};
        rendered result;
        CHECK(render(f, t, turns, 3, NULL, 0, 0, &result) == TROL_ERROR_ARGUMENT &&
                  strstr(error.message, "token 1 of message 2"),
              "token %d as an answer: %s", wrong[i], error.message);
    }
}

/* A backslash makes a marker plain text, two of them are one before a picture. */
static void check_escapes(const family *f, const tokenizer *t) {
    static const struct {
        const char *escaped, *text;
    } cases[] = {{"Is \\<image> an HTML tag?", "Is <image> an HTML tag?"},
                 {"\\\\\\<image>", "\\<image>"},
                 {"\\n and \\\\ stay", "\\n and \\\\ stay"}};
    const int32_t token = tokenizer_id(t, template_of(f)->image_token), n_tokens = 3;
    char question[128];
    rendered result, plain;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int32_t special = 0; special < 2; special++) {
            trol_message messages[] = {{.role = TROL_ROLE_SYSTEM, .text = ""},
                                       {.role = TROL_ROLE_USER, .text = cases[i].escaped}};
            CHECK_OK(render(f, t, messages, 2, NULL, 0, special ? TROL_RENDER_SPECIAL : 0, &result), error);
            CHECK(count(result, token) == 0, "%s: an escaped marker became an image token", cases[i].escaped);
            char *spelled = NULL;
            CHECK_OK(tokenizer_decode(t, result.ids, result.n, false, &spelled, &error), error);
            CHECK(spelled && strstr(spelled, cases[i].text), "%s is spelled \"%s\"", cases[i].escaped, spelled);
            memory_free(spelled);
            memory_free(result.ids);
        }
    snprintf(question, sizeof question, "a \\\\<image> b \\<image>");
    trol_message message = {.role = TROL_ROLE_USER, .text = question};
    CHECK_OK(render(f, t, &message, 1, &n_tokens, 1, TROL_RENDER_RAW, &result), error);
    CHECK(count(result, token) == 3, "%zu image tokens, expected 3", count(result, token));
    memory_free(result.ids);
    /* A picture whose text has only an escaped marker goes in front. */
    plain = ask(f, t, "<image>\nWhat is \\<image>?", 1, 3, false);
    expect_ids(f, ask(f, t, "What is \\<image>?", 1, 3, false), plain, "a picture beside an escaped marker");
    message.text = "<image>";
    CHECK(render(f, t, &message, 1, NULL, 0, 0, &result) == TROL_ERROR_ARGUMENT &&
              strstr(error.message, "\"\\<image>\" is the text itself"),
          "%s", error.message);
}

static void check_family(const family *f, const tokenizer *t, int which) {
    int32_t ends[8];
    const prompt_template *other = template_of(&families[1 - which]);
    check_turns(f, t, which);
    check_images(f, t);
    check_special(f, t);
    check_raw(f, t);
    check_escapes(f, t);
    check_refusals(f, t);
    CHECK_OK(prompt_check(template_of(f), t, &error), error);
    CHECK(prompt_check(other, t, &error) == TROL_ERROR_FORMAT && strstr(error.message, other->special_tokens[1]), "%s",
          error.message);
    CHECK(prompt_end_tokens(template_of(f), t, ends, 8) == (which ? 3 : 2), "%s", f->name);
    CHECK(prompt_end_tokens(template_of(f), t, ends, 1) == 1 &&
              ends[0] == tokenizer_id(t, template_of(f)->end_tokens[0]),
          "%s: end token %d", f->name, ends[0]);
}

int main(void) {
    const char *published = getenv("TROL_TOKENIZERS");
    for (size_t i = 0; i < 2; i++) {
        char folder[1024];
        tokenizer *t;
        tokenizer_options options = {families[i].dummy_prefix, 100000};
        snprintf(folder, sizeof folder, "%s/e2e-%s", TEST_REFERENCE, families[i].name);
        CHECK_OK(tokenizer_load(folder, &options, NULL, &t, &error), error);
        check_questions(&families[i], t, folder, "questions.jsonl");
        check_family(&families[i], t, (int)i);
        tokenizer_free(t);
        if (!published)
            continue;
        snprintf(folder, sizeof folder, "%s/%s", published, families[i].name);
        CHECK_OK(tokenizer_load(folder, &options, NULL, &t, &error), error);
        check_questions(&families[i], t, folder, "prompts.jsonl");
        tokenizer_free(t);
    }
    if (!published)
        printf("TROL_TOKENIZERS is not set: the published tokenizers are not tested\n");
    return test_summary("prompt");
}
