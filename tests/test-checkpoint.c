/* test-checkpoint.c - checkpoints that are not whole: Git LFS pointers, unfinished downloads, no gate, missing tensors,
 * numbers that are not finite, an image token without an embedding; the notice of a context longer than a model was
 * trained for; and where hub names are looked up. */
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "engine/locate.h"
#include "files.h"
#include "reference.h"
#include "test.h"
#include "trol.h"

#define CASE TEST_REFERENCE "/e2e-internlm2"

static const char pointer[] = "version https://git-lfs.github.com/spec/v1\n"
                              "oid sha256:0000000000000000000000000000000000000000000000000000000000000000\n"
                              "size 4900000000\n";

static const char *const files[] = {"config.json",     "model.safetensors",     "trol_gating.pt",
                                    "tokenizer.model", "tokenizer_config.json", "added_tokens.json"};
enum { N_FILES = sizeof files / sizeof *files };

/* The case's files as links, except for one that is left out. */
static void make_folder(const char *missing) {
    char target[1024];
    for (int i = 0; i < N_FILES; i++) {
        unlink(test_path(files[i]));
        snprintf(target, sizeof target, "%s/%s", CASE, files[i]);
        if (strcmp(files[i], missing) != 0 && symlink(target, test_path(files[i])) != 0)
            perror(target);
    }
}

static trol_model *load(int plain_backbone, trol_status expected, const char *words) {
    trol_error error = {0};
    trol_model_params params;
    trol_model *model = NULL;
    trol_model_params_init(&params);
    params.n_threads = 1;
    params.plain_backbone = plain_backbone;
    const trol_status status = trol_model_load(test_folder, &params, &model, &error);
    CHECK(status == expected && (!words || strstr(error.message, words)), "%d \"%s\", expected \"%s\"", (int)status,
          error.message, words ? words : "");
    return model;
}

static void check_pointers(void) {
    static const char *const instead[] = {"config.json", "model.safetensors", "trol_gating.pt", "tokenizer.model",
                                          "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof instead / sizeof *instead; i++) {
        char words[256];
        make_folder(instead[i]);
        test_write(instead[i], pointer, sizeof pointer - 1);
        snprintf(words, sizeof words, "%s is a Git LFS pointer, the file itself was not downloaded: run git lfs pull",
                 instead[i]);
        load(0, TROL_ERROR_FORMAT, words);
    }
    static const char page[] = "<!DOCTYPE html><html><head><title>model.safetensors</title></head></html>";
    make_folder("model.safetensors");
    test_write("model.safetensors", page, sizeof page - 1);
    load(0, TROL_ERROR_FORMAT, "model.safetensors is a web page, not the file itself");
    static const char index[] = "{\"weight_map\":{\"model.norm.weight\":\"model-00001-of-00001.safetensors\"}}";
    unlink(test_path("model.safetensors"));
    test_write("model.safetensors.index.json", index, sizeof index - 1);
    test_write("model-00001-of-00001.safetensors", pointer, sizeof pointer - 1);
    load(0, TROL_ERROR_FORMAT, "model-00001-of-00001.safetensors is a Git LFS pointer");
    unlink(test_path("model.safetensors.index.json"));
    unlink(test_path("model-00001-of-00001.safetensors"));
}

static void check_unfinished(void) {
    static const char *const missing[] = {"config.json", "model.safetensors", "trol_gating.pt"};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        char words[256];
        make_folder(missing[i]);
        test_write("abc.incomplete", "x", 1);
        load(0, TROL_ERROR_IO, "a download was not finished: abc.incomplete is there");
        unlink(test_path("abc.incomplete"));
        if (symlink("nowhere", test_path(missing[i])) != 0)
            perror(missing[i]);
        snprintf(words, sizeof words, "%s is a link to a file that is not there: was the download finished?",
                 missing[i]);
        load(1, TROL_ERROR_IO, words);
    }
    make_folder("model.safetensors");
    load(0, TROL_ERROR_IO, "has neither model.safetensors nor model.safetensors.index.json");
}

/* ---- no gate --------------------------------------------------------------------------------- */

static void check_plain_backbone(void) {
    make_folder("trol_gating.pt");
    load(0, TROL_ERROR_IO, "trol_gating.pt cannot be opened");
    trol_model *model = load(1, TROL_OK, NULL);
    trol_model_info info = {.size = sizeof info};
    trol_error error = {0};
    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    CHECK(info.has_gate == 0, "has_gate is %d without a gate", info.has_gate);
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++) {
        trol_session_params params;
        trol_session *session;
        trol_session_params_init(&params);
        params.traversal = (trol_traversal)mode;
        const trol_status status = trol_session_new(model, &params, &session, &error);
        if (mode != TROL_TRAVERSAL_OFF) {
            CHECK(status == TROL_ERROR_UNSUPPORTED && strstr(error.message, "the model has no gate"), "%s",
                  error.message);
            continue;
        }
        CHECK_OK(status, error);
        const int32_t tokens[] = {1, 5, 9};
        CHECK_OK(trol_session_prefill(session, tokens, 3, NULL, 0, &error), error);
        trol_session_free(session);
    }
    trol_model_free(model);
    make_folder("");
    model = load(1, TROL_OK, NULL);
    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    CHECK(info.has_gate == 1, "has_gate is %d with a gate", info.has_gate);
    trol_model_free(model);
}

/* ---- what is missing or damaged --------------------------------------------------------------- */

/* The messages name the file that should have it. */
static void check_missing_tensor(void) {
    static const char header[] = "\x48\0\0\0\0\0\0\0{\"other.weight\":{\"dtype\":\"F32\",\"shape\":[1],"
                                 "\"data_offsets\":[0,4]}}       1234";
    static const char index[] = "{\"weight_map\":{\"other.weight\":\"part.safetensors\"}}";
    make_folder("model.safetensors");
    test_write("part.safetensors", header, sizeof header - 1);
    test_write("model.safetensors.index.json", index, sizeof index - 1);
    load(0, TROL_ERROR_FORMAT, "model.safetensors.index.json: tensor model.tok_embeddings.weight is missing");
    unlink(test_path("model.safetensors.index.json"));
    test_write("model.safetensors", header, sizeof header - 1);
    load(0, TROL_ERROR_FORMAT, ": model.safetensors: tensor model.tok_embeddings.weight is missing");
    unlink(test_path("part.safetensors"));
}

/* The image token of config.json, which counts where there is no tokenizer, must have an embedding. */
static void check_image_token(void) {
    char *text;
    size_t n_bytes;
    trol_error error = {0};
    make_folder("config.json");
    unlink(test_path("tokenizer.model"));
    CHECK_OK(file_read(CASE "/config.json", 1 << 20, &text, &n_bytes, &error), error);
    char *changed = malloc(n_bytes + 64);
    const int length = sprintf(changed, "{\"image_token_index\": 641,%.*s", (int)n_bytes - 1, text + 1);
    test_write("config.json", changed, (size_t)length);
    free(changed);
    memory_free(text);
    load(0, TROL_ERROR_FORMAT, "config.json: the image token is 641, expected less than the embedding's 641 rows");
}

/* Writes the case's weights with F16 number `place` of a tensor as `bits`. */
static void write_damaged(const char *name, size_t place, uint16_t bits) {
    char *bytes, quoted[200];
    size_t n_bytes;
    uint64_t header_bytes;
    trol_error error = {0};
    CHECK_OK(file_read(CASE "/model.safetensors", 1 << 24, &bytes, &n_bytes, &error), error);
    memcpy(&header_bytes, bytes, 8);
    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    const char *offsets = strstr(strstr(bytes + 8, quoted), "\"data_offsets\"");
    const size_t offset = strtoul(strchr(offsets, '[') + 1, NULL, 10);
    memcpy(bytes + 8 + header_bytes + offset + 2 * place, &bits, 2);
    test_write("model.safetensors", bytes, n_bytes);
    memory_free(bytes);
}

/* An answer and a search both name the tensor. */
static void check_not_finite(void) {
    static const struct {
        const char *name;
        size_t place;
        uint16_t bits;                                                               /* F16 */
    } damage[] = {{"model.layers.0.attention.wqkv.ffn.weight", 33 * 64 + 5, 0x7e00}, /* of a key */
                  {"model.layers.1.attention.wqkv.ffn.weight", 77, 0x7e00},
                  {"model.layers.2.ffn_norm.weight", 63, 0x7c00},
                  {"model.norm.weight", 0, 0xfc00}};
    const int32_t tokens[] = {1, 5, 9};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        char words[256];
        trol_session *session;
        trol_beam_list *list;
        trol_error error = {0};
        make_folder("model.safetensors");
        write_damaged(damage[i].name, damage[i].place, damage[i].bits);
        snprintf(words, sizeof words,
                 "logits are not finite: model.safetensors: tensor %s is infinite or not a number at place %zu",
                 damage[i].name, damage[i].place);
        trol_model *model = load(0, TROL_OK, NULL);
        CHECK_OK(trol_session_new(model, NULL, &session, &error), error);
        CHECK_OK(trol_session_prefill(session, tokens, 3, NULL, 0, &error), error);
        CHECK(trol_generate(session, NULL, NULL, NULL, NULL, &error) == TROL_ERROR_FORMAT &&
                  strstr(error.message, words),
              "\"%s\", expected \"%s\"", error.message, words);
        error = (trol_error){0};
        CHECK(trol_beams(session, NULL, &list, &error) == TROL_ERROR_FORMAT && strstr(error.message, words),
              "\"%s\", expected \"%s\"", error.message, words);
        trol_session_free(session);
        trol_model_free(model);
    }
}

/* ---- long contexts --------------------------------------------------------------------------- */

static void count_notices(void *user, trol_log_level level, const char *message) {
    if (level == TROL_LOG_WARNING && strstr(message, "the context passes 16 tokens"))
        ++*(int *)user;
}

/* The case with max_position_embeddings of 8, which its dynamic rope of factor 2 makes 16. */
static void check_long_context(void) {
    char *text, *place;
    size_t n_bytes;
    int n_notices = 0;
    trol_error error = {0};
    make_folder("config.json");
    CHECK_OK(file_read(CASE "/config.json", 1 << 20, &text, &n_bytes, &error), error);
    CHECK((place = strstr(text, "2048")) != NULL, "%s", text);
    if (!place)
        return;
    memcpy(place, "   8", 4);
    test_write("config.json", text, n_bytes);
    memory_free(text);
    trol_model_params params;
    trol_model *model;
    trol_session *session;
    trol_model_params_init(&params);
    params.n_threads = 1;
    params.log = count_notices;
    params.log_user = &n_notices;
    CHECK_OK(trol_model_load(test_folder, &params, &model, &error), error);
    CHECK_OK(trol_session_new(model, NULL, &session, &error), error);
    const int32_t tokens[32] = {1, 5, 9, 4, 7, 8, 3, 6, 5, 4, 9, 8};
    CHECK_OK(trol_session_prefill(session, tokens, 14, NULL, 0, &error), error);
    CHECK_OK(trol_session_decode(session, 7, &error), error);
    CHECK_OK(trol_session_decode(session, 7, &error), error);
    CHECK(n_notices == 0, "%d notices for 16 tokens", n_notices);
    CHECK_OK(trol_session_decode(session, 7, &error), error);
    CHECK_OK(trol_session_decode(session, 7, &error), error);
    CHECK(n_notices == 1, "%d notices for 18 tokens", n_notices);
    trol_session_free(session);
    CHECK_OK(trol_session_new(model, NULL, &session, &error), error);
    CHECK_OK(trol_session_prefill(session, tokens, 32, NULL, 0, &error), error);
    CHECK(n_notices == 1, "%d notices in a second session", n_notices);
    trol_session_free(session);
    trol_model_free(model);
    n_notices = 0;
    CHECK_OK(trol_model_load(test_folder, &params, &model, &error), error);
    CHECK_OK(trol_session_new(model, NULL, &session, &error), error);
    CHECK_OK(trol_session_prefill(session, tokens, 17, NULL, 0, &error), error);
    CHECK(n_notices == 1, "%d notices for a prompt of 17 tokens", n_notices);
    trol_session_free(session);
    trol_model_free(model);
}

/* ---- the hub's cache ------------------------------------------------------------------------- */

static void set(const char *name, const char *value) {
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

/* Checks that a name that is in no cache is looked for in `cache`. */
static void expect_cache(const char *hub_cache, const char *old_cache, const char *hf_home, const char *xdg,
                         const char *home, const char *cache) {
    trol_error error = {0};
    char *folder, words[1200];
    set("HF_HUB_CACHE", hub_cache);
    set("HUGGINGFACE_HUB_CACHE", old_cache);
    set("HF_HOME", hf_home);
    set("XDG_CACHE_HOME", xdg);
    set("HOME", home);
    snprintf(words, sizeof words, "the hub cache %s does not hold", cache);
    CHECK(locate_checkpoint("no-such/model", &folder, &error) == TROL_ERROR_IO && strstr(error.message, words),
          "\"%s\", expected \"%s\"", error.message, words);
}

static void check_hub_cache(void) {
    char own[1024], named[300], expected[1024];
    const struct passwd *user = getpwuid(getuid());
    expect_cache("/a", "/b", "/c", "/d", "/e", "/a");
    expect_cache("", "/b", "/c", "/d", "/e", "/b");
    expect_cache(NULL, NULL, "/c", "/d", "/e", "/c/hub");
    expect_cache(NULL, NULL, NULL, "/d", "/e", "/d/huggingface/hub");
    expect_cache(NULL, NULL, NULL, NULL, "/e", "/e/.cache/huggingface/hub");
    expect_cache("~/x", NULL, NULL, NULL, "/e", "/e/x");
    expect_cache(NULL, "~/y", NULL, NULL, "/e/", "/e/y");
    expect_cache(NULL, NULL, "~/z", NULL, "/e", "/e/z/hub");
    expect_cache(NULL, NULL, NULL, "~", "/e", "/e/huggingface/hub");
    set("TROL_TEST_PLACE", "/p");
    expect_cache("$TROL_TEST_PLACE/a", NULL, NULL, NULL, "/e", "/p/a");
    expect_cache(NULL, NULL, "/x/${TROL_TEST_PLACE}/$TROL_TEST_NONE/${", NULL, "/e", "/x//p/$TROL_TEST_NONE/${/hub");
    if (!user)
        return;
    snprintf(own, sizeof own, "%s/.cache/huggingface/hub", user->pw_dir);
    expect_cache(NULL, NULL, NULL, NULL, NULL, own);
    expect_cache(NULL, NULL, NULL, NULL, "", own);
    snprintf(named, sizeof named, "~%s/x", user->pw_name);
    snprintf(expected, sizeof expected, "%s/x", user->pw_dir);
    expect_cache(named, NULL, NULL, NULL, "/e", expected);
}

int main(void) {
    test_make_folder();
    check_pointers();
    check_unfinished();
    check_plain_backbone();
    check_missing_tensor();
    check_image_token();
    check_not_finite();
    check_long_context();
    check_hub_cache();
    test_remove_folder();
    return test_summary("test-checkpoint");
}
