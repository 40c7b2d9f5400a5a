/* test-safetensors.c - the reference checkpoints, files written here with every kind of defect, shards and index. */
#include "format/safetensors.h"

#include "base/clock.h"
#include "base/float16.h"
#include "files.h"
#include "test.h"

/* Writes a file of the format: header text, then data. */
static void write_file(const char *name, const char *header, const void *data, size_t data_bytes) {
    size_t length = strlen(header);
    unsigned char *bytes = malloc(8 + length + data_bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    if (data_bytes)
        memcpy(bytes + 8 + length, data, data_bytes);
    test_write(name, bytes, 8 + length + data_bytes);
    free(bytes);
}

static void check_refused(const char *what, const char *part) {
    trol_error error = {0};
    tensor_source *source = (tensor_source *)1;
    trol_status status = tensor_source_open(test_folder, NULL, &source, &error);
    CHECK(status != TROL_OK && error.status == status && source == NULL, "%s: status %d", what, (int)status);
    CHECK(strstr(error.message, part), "%s: \"%s\" lacks \"%s\"", what, error.message, part);
    if (status == TROL_OK)
        tensor_source_close(source);
}

/* ---- the reference checkpoints --------------------------------------------------------------- */

static void test_reference(const char *name, size_t n_tensors, const char *one, element_type type, int n_dims,
                           int64_t rows, int64_t columns) {
    char folder[1024], shape[64];
    trol_error error = {0};
    tensor_source *source;
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    CHECK_OK(tensor_source_open(folder, NULL, &source, &error), error);
    if (!source)
        return;
    CHECK(tensor_source_count(source) == n_tensors, "%s: %zu tensors", name, tensor_source_count(source));
    for (size_t i = 0; i < tensor_source_count(source); i++) {
        const tensor *t = tensor_source_at(source, i);
        CHECK(tensor_source_find(source, t->name) == t, "%s is found", t->name);
        CHECK(i == 0 || strcmp(tensor_source_at(source, i - 1)->name, t->name) < 0, "%s is in order", t->name);
        CHECK(strncmp(t->file, "model", 5) == 0 && t->n_bytes > 0, "%s: %s", t->name, t->file);
    }
    const tensor *t = tensor_source_find(source, one);
    CHECK(t && t->type == type && t->n_dims == n_dims && t->shape[0] == rows && t->shape[n_dims - 1] == columns,
          "%s: %s %s", one, t ? t->dtype_name : "absent",
          t ? tensor_shape_text(t->shape, t->n_dims, shape, sizeof shape) : "");
    CHECK(tensor_source_find(source, "") == NULL && tensor_source_find(source, "zzz") == NULL,
          "names that are not there");
    CHECK(tensor_source_at(source, n_tensors) == NULL, "past the end");
    const char *format = tensor_source_metadata(source, "format");
    CHECK(format && strcmp(format, "pt") == 0, "__metadata__ has format pt");
    CHECK(tensor_source_metadata(source, "absent") == NULL, "no such metadata");
    tensor_source_close(source);
}

/* A case's reference.safetensors agrees with its own description: floats in order, none NaN. */
static void test_open_file(void) {
    trol_error error = {0};
    tensor_source *source;
    CHECK_OK(tensor_source_open_file(TEST_REFERENCE "/internlm2-clip/reference.safetensors", NULL, &source, &error),
             error);
    const tensor *t = source ? tensor_source_find(source, "pixel_values") : NULL;
    CHECK(t && t->type == ELEMENT_F32 && t->n_dims == 4 && t->shape[1] == 3, "pixel_values");
    for (size_t i = 0; t && i < t->n_bytes / 4; i += 97) {
        float value;
        memcpy(&value, (const char *)t->data + 4 * i, 4);
        CHECK(value > -3 && value < 3, "pixel %zu is %g", i, (double)value);
    }
    tensor_source_close(source);
    CHECK(tensor_source_open_file(TEST_REFERENCE "/internlm2-clip/config.json", NULL, &source, &error) ==
                  TROL_ERROR_FORMAT &&
              strstr(error.message, "config.json"),
          "%s", error.message);
    CHECK(tensor_source_open_file(TEST_REFERENCE, NULL, &source, &error) == TROL_ERROR_IO &&
              strstr(error.message, "is a folder"),
          "%s", error.message);
}

/* ---- one file -------------------------------------------------------------------------------- */

typedef struct heard {
    int n;
    char last[200];
} heard;

static void hear(void *user, trol_log_level level, const char *message) {
    heard *h = user;
    h->n += level == TROL_LOG_WARNING;
    snprintf(h->last, sizeof h->last, "%s", message);
}

/* Odd offsets, no dimension, a dimension of 0, holes, unsupported dtypes, unknown members, padding. */
static void test_odd_file(void) {
    static const char header[] =
        "{\"odd\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[3,7],\"more\":{\"x\":[1]}},"
        "\"bytes\":{\"shape\":[1,3],\"dtype\":\"U8\",\"data_offsets\":[0,3]},"
        "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[9,13]},"
        "\"empty\":{\"dtype\":\"BF16\",\"shape\":[0,9007199254740991,4096],\"data_offsets\":[13,13]},"
        "\"empty in between\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[5,5]},"
        "\"new\":{\"dtype\":\"F13_E9M3\",\"shape\":[3,5],\"data_offsets\":[13,14]},"
        "\"nibbles\":{\"dtype\":\"F4\",\"shape\":[2,1],\"data_offsets\":[14,15]},"
        "\"\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[15,16]},"
        "\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\u00e9\",\"format2\":\"\"}}  ";
    unsigned char data[17] = {1, 2, 3, 0x00, 0x3c, 0x00, 0xc0, 0xff, 0xff, 0, 0, 0x80, 0x3f, 9, 0x21, 1, 0xff};
    trol_error error = {0};
    heard h = {0};
    logger log = {hear, &h};
    tensor_source *source;
    uint16_t halves[2];
    float value;
    write_file("model.safetensors", header, data, sizeof data);
    CHECK_OK(tensor_source_open(test_folder, &log, &source, &error), error);
    if (!source)
        return;
    CHECK(tensor_source_count(source) == 8, "%zu tensors", tensor_source_count(source));
    CHECK(h.n == 1 && strcmp(h.last, "model.safetensors: 3 bytes of its data belong to no tensor") == 0, "%d: %s", h.n,
          h.last);
    const tensor *t = tensor_source_find(source, "odd");
    memcpy(halves, t->data, 4);
    CHECK((uintptr_t)t->data % 2 == 1, "the test's own offset is odd");
    CHECK(f16_to_float(halves[0]) == 1.0f && f16_to_float(halves[1]) == -2.0f, "%x %x", halves[0], halves[1]);
    CHECK(t->type == ELEMENT_F16 && strcmp(t->file, "model.safetensors") == 0, "type %d", (int)t->type);
    t = tensor_source_find(source, "scalar");
    memcpy(&value, t->data, 4);
    CHECK(t->n_dims == 0 && value == 1.0f, "%d %g", t->n_dims, (double)value);
    t = tensor_source_find(source, "empty");
    CHECK(t->n_dims == 3 && t->shape[1] == 9007199254740991 && t->n_bytes == 0, "%zu bytes", t->n_bytes);
    t = tensor_source_find(source, "new");
    CHECK(t->type == ELEMENT_OTHER && t->n_bytes == 1 && strcmp(t->dtype_name, "F13_E9M3") == 0, "%s", t->dtype_name);
    CHECK(strcmp(tensor_source_metadata(source, "note"), "\xc3\xa9") == 0, "metadata is UTF-8");
    CHECK(tensor_source_find(source, "") && tensor_source_find(source, "")->n_bytes == 1, "a name may be empty");
    tensor_source_close(source);
}

#define ONE(description) "{\"a\":{" description "}}"

static const struct {
    const char *header, *part;
} broken_headers[] = {
    {"[]", "does not begin with {"},
    {" {}", "does not begin with {"},
    {"", "does not begin with {"},
    {"{\"a\":", "not valid JSON"},
    {"{}{}", "not valid JSON"},
    {"{\"a\":{},\"a\":{}}", "the key \"a\" twice"},
    {"{\"a\":1}", "tensor a is not described by an object"},
    {"{\"__metadata__\":[]}", "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"n\":1}}", "n in __metadata__ is not a string"},
    {ONE("\"shape\":[4],\"data_offsets\":[0,8]"), "has no dtype"},
    {ONE("\"dtype\":16,\"shape\":[4],\"data_offsets\":[0,8]"), "has no dtype"},
    {ONE("\"dtype\":\"F16\",\"data_offsets\":[0,8]"), "no valid shape"},
    {ONE("\"dtype\":\"F16\",\"shape\":4,\"data_offsets\":[0,8]"), "no valid shape"},
    {ONE("\"dtype\":\"F16\",\"shape\":[-4],\"data_offsets\":[0,8]"), "no valid shape"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4.5],\"data_offsets\":[0,9]"), "no valid shape"},
    {ONE("\"dtype\":\"F16\",\"shape\":[\"4\"],\"data_offsets\":[0,8]"), "no valid shape"},
    {ONE("\"dtype\":\"F16\",\"shape\":[1e300],\"data_offsets\":[0,8]"), "no valid shape"},
    {ONE("\"dtype\":\"F16\",\"shape\":[9007199254740992],\"data_offsets\":[0,8]"), "no valid shape"},
    {ONE("\"dtype\":\"F16\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,8]"), "at most 8"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4]"), "no valid data_offsets"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0]"), "no valid data_offsets"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,8,8]"), "no valid data_offsets"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[8,0]"), "no valid data_offsets"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[-8,0]"), "no valid data_offsets"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0.5,8.5]"), "no valid data_offsets"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,18446744073709551624]"), "no valid data_offsets"},
    {ONE("\"dtype\":\"F16\",\"shape\":[9],\"data_offsets\":[0,18]"),
     "ends at byte 18 of the data, but the file holds 16"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[9007199254740983,9007199254740991]"), "the file holds 16"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,7]"),
     "has 7 bytes of data, expected 8 for F16 of shape [4]"},
    {ONE("\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,4]"), "expected 2 for F16 of shape []"},
    {ONE("\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,2]"), "expected 0"},
    {ONE("\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,0]"), "expected 2"},
    {ONE("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), "has 1 bytes of data"},
    {ONE("\"dtype\":\"F16\",\"shape\":[4294967296,2147483648],\"data_offsets\":[0,0]"), "larger than any memory"},
    {ONE("\"dtype\":\"F64\",\"shape\":[4503599627370496,64,64,2],\"data_offsets\":[0,0]"), "larger than any memory"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"U8\",\"shape\":[9],\"data_"
     "offsets\":[7,16]}}",
     "the data of tensors a and b overlap"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
     "offsets\":[8,9]}}",
     "the data of tensors a and b overlap"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"F16\",\"shape\":[8],\"data_"
     "offsets\":[0,16]}}",
     "overlap"},
};

static void test_broken_headers(void) {
    unsigned char data[16] = {0};
    for (size_t i = 0; i < sizeof broken_headers / sizeof *broken_headers; i++) {
        write_file("model.safetensors", broken_headers[i].header, data, sizeof data);
        check_refused(broken_headers[i].header, broken_headers[i].part);
    }
}

/* Wrong header lengths, and files too short to have one. */
static void test_lengths(void) {
    static const struct {
        uint64_t length;
        const char *part;
    } lengths[] = {{3, "but the file has only 10"},
                   {1000, "cut short"},
                   {100000000, "cut short"},
                   {100000001, "at most 100000000"},
                   {UINT64_MAX, "18446744073709551615 bytes long according to the file, expected at most"},
                   {(uint64_t)INT64_MAX, "at most"},
                   {0, "does not begin"}};
    unsigned char bytes[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int k = 0; k < 8; k++)
            bytes[k] = (unsigned char)(lengths[i].length >> 8 * k);
        test_write("model.safetensors", bytes, sizeof bytes);
        check_refused("length", lengths[i].part);
    }
    for (size_t n = 0; n < 8; n++) {
        test_write("model.safetensors", bytes, n);
        check_refused("short", "too short for a safetensors file");
    }
}

/* A small valid file: every beginning of it is refused, and no change of a few bits does harm. */
static void test_damage(void) {
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a.weight\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":"
        "[0,12]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}";
    unsigned char data[16] = {0}, bytes[8 + sizeof header - 1 + sizeof data], copy[sizeof bytes];
    uint64_t random = 11;
    int accepted = 0;
    trol_error error = {0};
    tensor_source *source;
    write_file("model.safetensors", header, data, sizeof data);
    FILE *file = fopen(test_path("model.safetensors"), "rb");
    CHECK(file && fread(bytes, 1, sizeof bytes, file) == sizeof bytes, "the file is read back");
    fclose(file);
    CHECK_OK(tensor_source_open(test_folder, NULL, &source, &error), error);
    tensor_source_close(source);
    for (size_t n = 0; n < sizeof bytes; n++) {
        test_write("model.safetensors", bytes, n);
        check_refused("cut short", n < 8 ? "too short" : "model.safetensors");
    }
    for (int i = 0; i < 4000; i++) {
        memcpy(copy, bytes, sizeof bytes);
        for (int flips = 1 + (int)(test_random(&random) % 3); flips > 0; flips--)
            copy[test_random(&random) % sizeof copy] ^= (unsigned char)(1 << test_random(&random) % 8);
        test_write("model.safetensors", copy, sizeof copy);
        trol_status status = tensor_source_open(test_folder, NULL, &source, &error);
        CHECK(status == TROL_OK || (status == TROL_ERROR_FORMAT && source == NULL && error.message[0]), "status %d",
              (int)status);
        if (status == TROL_OK)
            for (size_t k = 0; k < tensor_source_count(source); k++) {
                const tensor *t = tensor_source_at(source, k);
                volatile unsigned char last = t->n_bytes ? ((const unsigned char *)t->data)[t->n_bytes - 1] : 0;
                (void)last; /* reading it must not fault */
            }
        accepted += status == TROL_OK;
        tensor_source_close(source);
    }
    CHECK(accepted > 100 && accepted < 3000, "%d of 4000 damaged files open", accepted);
}

/* 17 GB, mostly a hole in the file system: opening reads the header only. */
static void test_large_file(void) {
    static const char header[] =
        "{\"w\":{\"dtype\":\"F16\",\"shape\":[1000000,8500],\"data_offsets\":[0,17000000000]}}";
    trol_error error = {0};
    tensor_source *source;
    write_file("model.safetensors", header, NULL, 0);
    if (truncate(test_path("model.safetensors"), (off_t)(8 + strlen(header) + 17000000000)) != 0)
        return; /* a file system without sparse files */
    double begin = clock_seconds();
    CHECK_OK(tensor_source_open(test_folder, NULL, &source, &error), error);
    CHECK(clock_seconds() - begin < 0.5, "%.3f s", clock_seconds() - begin);
    const tensor *t = source ? tensor_source_find(source, "w") : NULL;
    CHECK(t && t->n_bytes == 17000000000 && ((const char *)t->data)[t->n_bytes - 1] == 0, "the last byte is there");
    tensor_source_close(source);
    if (truncate(test_path("model.safetensors"), (off_t)(8 + strlen(header) + 16999999999)) == 0)
        check_refused("one byte short", "ends at byte 17000000000 of the data, but the file holds 16999999999");
}

/* ---- folders and shards ---------------------------------------------------------------------- */

static void test_folders(void) {
    static const char header[] = ONE("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]");
    trol_error error = {0};
    tensor_source *source;
    check_refused("nothing", "has neither model.safetensors nor model.safetensors.index.json");
    write_file("model.safetensors", "{}", "data", 4);
    CHECK_OK(tensor_source_open(test_folder, NULL, &source, &error),
             error); /* whether a model is complete is checked elsewhere */
    CHECK(source && tensor_source_count(source) == 0 && !tensor_source_find(source, "a"), "no tensors");
    tensor_source_close(source);
    test_clear_folder();
    CHECK(tensor_source_open(test_path("absent"), NULL, &source, &error) == TROL_ERROR_IO, "no folder");
    CHECK(symlink("../blobs/0123abcd", test_path("model.safetensors")) == 0, "a link");
    check_refused("dangling link", "is a link to a file that is not there");
    test_clear_folder();
    mkdir(test_path("model.safetensors"), 0700);
    check_refused("folder", "is a folder, expected a safetensors file");
    test_clear_folder();
    mkfifo(test_path("model.safetensors"), 0600);
    check_refused("pipe", "is a device or pipe");
    test_clear_folder();
    write_file("blob", header, "x", 1); /* as in the hub's cache */
    CHECK(symlink("blob", test_path("model.safetensors")) == 0, "a link");
    CHECK_OK(tensor_source_open(test_folder, NULL, &source, &error), error);
    CHECK(source && strcmp(tensor_source_at(source, 0)->file, "model.safetensors") == 0, "the link's name");
    tensor_source_close(source);
    test_clear_folder();
}

#define U8(name, begin, end) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" #begin "," #end "]}"

static void write_index(const char *weight_map) {
    char text[2000];
    snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":3},\"weight_map\":%s}", weight_map);
    test_write("model.safetensors.index.json", text, strlen(text));
}

static const struct {
    const char *map, *part;
} broken_maps[] = {
    {"null", "has no weight_map"},
    {"[]", "expected an object"},
    {"{}", "weight_map is empty"},
    {"{\"x\":1}", "does not give a file name for tensor x"},
    {"{\"x\":\"1.st\",\"y\":\"2.st\",\"x\":\"2.st\"}", "key \"x\" twice"},
    {"{\"x\":\"1.st\",\"y\":\"1.st\"}", "lists tensor y in 1.st, which does not hold it"},
    {"{\"x\":\"2.st\",\"y\":\"1.st\",\"z\":\"2.st\"}", "lists tensor x in 2.st, but it is in 1.st"},
    {"{\"x\":\"1.st\",\"y\":\"2.st\",\"z\":\"2.st\",\"w\":\"2.st\"}", "lists tensor w in 2.st, which does not hold it"},
    {"{\"x\":\"1.st\",\"y\":\"2.st\",\"z\":\"3.st\"}", "3.st cannot be opened"},
    {"{\"x\":\"1.st\",\"y\":\"2.st\",\"z\":\"2.st\",\"t\":\"twin.st\"}", "tensor x is in two files"},
    {"{\"x\":\"../1.st\",\"y\":\"2.st\",\"z\":\"2.st\"}",
     "in \"../1.st\", expected the plain name of a file beside it"},
    {"{\"x\":\"/etc/passwd\",\"y\":\"2.st\",\"z\":\"2.st\"}", "\"/etc/passwd\""},
    {"{\"x\":\"a/1.st\"}", "plain name"},
    {"{\"x\":\"..\"}", "plain name"},
    {"{\"x\":\".\"}", "plain name"},
    {"{\"x\":\"\"}", "plain name"},
};

static void note_skipped(void *user, trol_log_level level, const char *message) {
    char *logged = user;
    CHECK(level == TROL_LOG_WARNING, "%s", message);
    snprintf(logged, 200, "%s", message);
}

/* Tensors that the index does not list are skipped, which is logged. */
static void check_unlisted(void) {
    trol_error error = {0};
    tensor_source *source;
    char logged[200] = "";
    write_index("{\"x\":\"1.st\",\"y\":\"2.st\"}");
    CHECK_OK(tensor_source_open(test_folder, &(logger){note_skipped, logged}, &source, &error), error);
    CHECK(source && tensor_source_count(source) == 2 && tensor_source_find(source, "y") &&
              !tensor_source_find(source, "z"),
          "a shard's tensor that the index does not list");
    CHECK(strcmp(logged, "2.st: tensor z is not listed in model.safetensors.index.json: skipped") == 0, "%s", logged);
    tensor_source_close(source);
}

static void test_shards(void) {
    trol_error error = {0};
    tensor_source *source;
    write_file("1.st", "{\"__metadata__\":{\"format\":\"pt\"}," U8("x", 0, 1) "}", "1", 1);
    write_file("2.st", "{" U8("z", 0, 1) "," U8("y", 1, 2) "}", "32", 2);
    write_file("twin.st", "{" U8("x", 0, 1) "," U8("t", 1, 2) "}", "45", 2);
    write_index("{\"z\":\"2.st\",\"x\":\"1.st\",\"y\":\"2.st\"}");
    CHECK_OK(tensor_source_open(test_folder, NULL, &source, &error), error);
    if (source) {
        char text[4] = "";
        for (size_t i = 0; i < 3; i++)
            text[i] = *(const char *)tensor_source_at(source, i)->data;
        CHECK(tensor_source_count(source) == 3 && strcmp(text, "123") == 0, "%s", text);
        CHECK(strcmp(tensor_source_find(source, "y")->file, "2.st") == 0, "%s", tensor_source_find(source, "y")->file);
        tensor_source_close(source);
    }
    for (size_t i = 0; i < sizeof broken_maps / sizeof *broken_maps; i++) {
        write_index(broken_maps[i].map);
        check_refused(broken_maps[i].map, broken_maps[i].part);
    }
    check_unlisted();
    test_write("model.safetensors.index.json", "{\"weight_map\":{\"x\":\"1.st\"}", 25);
    check_refused("index", "model.safetensors.index.json is not valid JSON");
    test_clear_folder();
}

/* ---- sources made by hand -------------------------------------------------------------------- */

static void test_added(void) {
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    trol_error error = {0};
    tensor_source *source;
    char name[16];
    CHECK_OK(tensor_source_new(&source, &error), error);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "t%02d", i * 37 % 100);
        tensor t = {.name = name,
                    .file = "none",
                    .dtype_name = "F32",
                    .type = ELEMENT_F32,
                    .n_dims = 2,
                    .shape = {2, 3},
                    .data = values,
                    .n_bytes = sizeof values};
        CHECK_OK(tensor_source_add(source, &t, &error), error);
        if (i % 50 == 7)
            CHECK(tensor_source_add(source, &t, &error) == TROL_ERROR_ARGUMENT && strstr(error.message, "twice"), "%s",
                  error.message);
    }
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "t%02d", i);
        const tensor *t = tensor_source_find(source, name);
        CHECK(t && t == tensor_source_at(source, (size_t)i) && t->data == values, "%s", name);
    }
    tensor wrong = {.name = "w",
                    .file = "none",
                    .dtype_name = "F32",
                    .type = ELEMENT_F32,
                    .n_dims = 1,
                    .shape = {7},
                    .data = values,
                    .n_bytes = sizeof values};
    CHECK(tensor_source_add(source, &wrong, &error) == TROL_ERROR_FORMAT && strstr(error.message, "expected 28"), "%s",
          error.message);
    wrong.shape[0] = -6;
    CHECK(tensor_source_add(source, &wrong, &error) == TROL_ERROR_ARGUMENT, "a negative dimension");
    wrong.n_dims = TENSOR_MAX_DIMS + 1;
    CHECK(tensor_source_add(source, &wrong, &error) == TROL_ERROR_ARGUMENT, "too many dimensions");
    CHECK(tensor_source_count(source) == 100, "%zu tensors", tensor_source_count(source));
    tensor_source_close(source);
    tensor_source_close(NULL);

    char text[12];
    const int64_t shape[3] = {64, -1, 9007199254740991};
    CHECK(strcmp(tensor_shape_text(shape, 2, text, sizeof text), "[64, -1]") == 0, "%s", text);
    CHECK(strcmp(tensor_shape_text(shape, 0, text, sizeof text), "[]") == 0, "%s", text);
    CHECK(strcmp(tensor_shape_text(shape, 3, text, sizeof text), "[64, -1, 90") == 0, "%s", text);
}

int main(void) {
    test_reference("internlm2-clip", 97, "model.tok_embeddings.weight", ELEMENT_F16, 2, 513, 64);
    test_reference("internlm2-clip-bias", 103, "model.layers.0.attention.wo.ffn.bias", ELEMENT_F16, 1, 96, 96);
    test_reference("internlm2-clip-two-images", 97, "model.norm.weight", ELEMENT_F32, 1, 64, 64);
    test_reference("phi3-internvit", 59, "language_model.model.norm.weight", ELEMENT_BF16, 1, 64, 64);
    test_open_file();
    test_make_folder();
    test_folders();
    test_odd_file();
    test_broken_headers();
    test_lengths();
    test_damage();
    test_large_file();
    test_clear_folder();
    test_shards();
    test_remove_folder();
    test_added();
    return test_summary("test-safetensors");
}
