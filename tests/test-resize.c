/* test-resize.c - both resizes, the grids and the tiles, to the byte, against pictures that torch and Pillow made and
 * the reference cases' tensors; and extreme shapes. */
#include "base/memory.h"
#include "format/image.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "test.h"

static trol_image *load(const char *folder, const char *name) {
    char path[1024];
    trol_error error = {0};
    trol_image *image = NULL;
    snprintf(path, sizeof path, "%s/%s/%s", TEST_REFERENCE, folder, name);
    CHECK_OK(trol_image_load_file(path, NULL, &image, &error), error);
    return image;
}

static cJSON *read_json(const char *name) {
    char path[1024];
    trol_error error = {0};
    cJSON *json = NULL;
    snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, name);
    CHECK_OK(json_read_file(path, 1 << 20, &json, &error), error);
    return json;
}

/* Where a and b differ first; n if nowhere. */
static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t n) {
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static void test_resizes(void) {
    cJSON *pairs = read_json("resize/resizes.json");
    const cJSON *pair;
    int n = 0;
    cJSON_ArrayForEach(pair, pairs) {
        const char *input = cJSON_GetObjectItem(pair, "input")->valuestring;
        bool torch = strcmp(cJSON_GetObjectItem(pair, "kind")->valuestring, "torch") == 0;
        trol_image *in = load("resize", input);
        trol_image *expected = load("resize", cJSON_GetObjectItem(pair, "output")->valuestring);
        if (in && expected) {
            size_t n_bytes = 3 * (size_t)expected->width * (size_t)expected->height;
            uint8_t *out = malloc(n_bytes);
            trol_error error = {0};
            CHECK_OK(
                (torch ? image_resize_torch : image_resize_pillow)(in, expected->width, expected->height, out, &error),
                error);
            size_t where = first_difference(out, expected->pixels, n_bytes);
            CHECK(where == n_bytes, "%s: byte %zu of %zu differs", input, where, n_bytes);
            free(out);
        }
        trol_image_free(in);
        trol_image_free(expected);
        n++;
    }
    CHECK(n >= 20, "only %d resizes", n);
    cJSON_Delete(pairs);
}

static void test_grids(void) {
    cJSON *grids = read_json("grid/grids.json");
    const cJSON *line;
    int n = 0;
    cJSON_ArrayForEach(line, grids) {
        int v[4];
        int32_t columns, rows;
        for (int i = 0; i < 4; i++)
            v[i] = cJSON_GetArrayItem(line, i)->valueint;
        image_choose_grid(v[0], v[1], 448, 6, &columns, &rows);
        CHECK(columns == v[2] && rows == v[3], "%d x %d: grid %d x %d, not %d x %d", v[0], v[1], columns, rows, v[2],
              v[3]);
        n++;
    }
    CHECK(n >= 300, "only %d grids", n);
    cJSON_Delete(grids);
}

/* The number of tiles of each question's picture. */
static void test_question_tiles(void) {
    FILE *file = fopen(TEST_REFERENCE "/e2e-phi3/questions.jsonl", "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    CHECK(file != NULL, "questions.jsonl is missing");
    while (file && getline(&line, &room, file) > 0) {
        cJSON *question = cJSON_Parse(line);
        const cJSON *name = cJSON_GetObjectItem(question, "image");
        trol_image *image = cJSON_IsString(name) ? load("e2e-phi3/pictures", name->valuestring) : NULL;
        if (image) {
            uint8_t *tiles;
            int32_t n_tiles = 0;
            trol_error error = {0};
            CHECK_OK(image_make_tiles(image, 448, 6, 1, &tiles, &n_tiles, &error), error);
            int expected = cJSON_GetObjectItem(question, "tiles")->valueint;
            CHECK(n_tiles == expected, "%s: %d tiles, not %d", name->valuestring, n_tiles, expected);
            memory_free(tiles);
            n++;
        }
        trol_image_free(image);
        cJSON_Delete(question);
    }
    CHECK(n >= 15, "only %d pictures", n);
    free(line);
    if (file)
        fclose(file);
}

/* found and expected [n] float32: a relative error of 2^-22 at most. */
static void check_close(const char *name, const float *found, const float *expected, size_t n) {
    size_t i = 0;
    while (i < n && fabsf(found[i] - expected[i]) <= 0x1p-22f * (fabsf(expected[i]) + 0.01f))
        i++;
    CHECK(i == n, "%s: pixel value %zu is %.9g, not %.9g", name, i, i < n ? (double)found[i] : 0,
          i < n ? (double)expected[i] : 0);
}

/* The resized picture or the tiles of a case, and what they are when normalized. */
static void test_case(const char *name, bool tiled) {
    char path[1024];
    trol_error error = {0};
    tensor_source *source = NULL;
    snprintf(path, sizeof path, "%s/%s/reference.safetensors", TEST_REFERENCE, name);
    CHECK_OK(tensor_source_open_file(path, NULL, &source, &error), error);
    trol_image *image = load(name, "image.png");
    const tensor *bytes = source ? tensor_source_find(source, tiled ? "tiles" : "image_resized") : NULL;
    const tensor *values = source ? tensor_source_find(source, "pixel_values") : NULL;
    CHECK(bytes && values && image, "%s: tensors or picture are missing", name);
    if (bytes && values && image) {
        int32_t side = (int32_t)values->shape[3], n = 0;
        size_t n_bytes = 3 * (size_t)side * (size_t)side;
        uint8_t *made = NULL;
        if (tiled)
            CHECK_OK(image_make_tiles(image, side, 6, 1, &made, &n, &error), error);
        else {
            n = (int32_t)bytes->shape[0];
            CHECK_OK(memory_alloc((size_t)n, n_bytes, "test", (void **)&made, &error), error);
            CHECK_OK(image_resize_torch(image, side, side, made, &error), error);
            for (size_t i = n_bytes; i < (size_t)n * n_bytes;
                 i++) /* the second picture of the case is 255 minus the first */
                made[i] = (uint8_t)(255 - made[i - n_bytes]);
        }
        CHECK(n == bytes->shape[0], "%s: %d pictures, not %d", name, n, (int)bytes->shape[0]);
        float *planes = malloc(n_bytes * sizeof(float));
        for (int32_t k = 0; k < n && n == bytes->shape[0]; k++) {
            const uint8_t *expected = (const uint8_t *)bytes->data + (size_t)k * n_bytes,
                          *found = made + (size_t)k * n_bytes;
            size_t i = 0, area = (size_t)side * (size_t)side;
            while (i < n_bytes && found[i] == expected[tiled ? i : i % 3 * area + i / 3]) /* [3, S, S] or [S, S, 3] */
                i++;
            CHECK(i == n_bytes, "%s: byte %zu of picture %d differs", name, i, k);
            static const float clip_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
            static const float clip_std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
            static const float vit_mean[3] = {0.485f, 0.456f, 0.406f}, vit_std[3] = {0.229f, 0.224f, 0.225f};
            image_normalize(found, side, tiled ? vit_mean : clip_mean, tiled ? vit_std : clip_std, tiled, planes);
            check_close(name, planes, (const float *)values->data + (size_t)k * n_bytes, n_bytes);
        }
        free(planes);
        memory_free(made);
    }
    trol_image_free(image);
    tensor_source_close(source);
}

/* A long, thin picture, both ways: what torch and Pillow make of it is in the references, here it must only work and
 * keep a uniform colour. */
static void test_extremes(void) {
    static const int sizes[][2] = {{20000, 1}, {1, 20000}, {65500, 2}, {1, 1}};
    static uint8_t out[490 * 490 * 3];
    for (int i = 0; i < 4; i++) {
        int width = sizes[i][0], height = sizes[i][1];
        size_t n = 3 * (size_t)width * (size_t)height, wrong = 0;
        uint8_t *pixels = malloc(n);
        memset(pixels, 77, n);
        trol_image *image = NULL;
        trol_error error = {0};
        CHECK_OK(trol_image_load_rgb(pixels, width, height, 3 * (size_t)width, &image, &error), error);
        for (int kind = 0; kind < 2; kind++) {
            CHECK_OK((kind ? image_resize_torch : image_resize_pillow)(image, 490, 490, out, &error), error);
            for (size_t k = 0; k < sizeof out; k++)
                wrong += abs(out[k] - 77) > 1;
            CHECK(wrong == 0, "%d x %d, resize %d: %zu bytes are wrong", width, height, kind, wrong);
        }
        CHECK(image_resize_torch(image, 0, 1, out, &error) == TROL_ERROR_ARGUMENT, "a width of 0");
        trol_image_free(image);
        free(pixels);
    }
}

int main(void) {
    test_resizes();
    test_grids();
    test_question_tiles();
    test_case("internlm2-clip", false);
    test_case("internlm2-clip-bias", false);
    test_case("internlm2-clip-two-images", false);
    test_case("phi3-internvit", true);
    test_case("phi3-internvit-longrope", true);
    test_case("phi3-internvit-rms", true);
    test_extremes();
    return test_summary("test-resize");
}
