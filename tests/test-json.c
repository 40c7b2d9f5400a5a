/* test-json.c - what json_parse accepts and refuses, members with ranges, and file_read. */
#include "format/json.h"

#include <sys/wait.h>

#include "base/clock.h"
#include "base/memory.h"
#include "files.h"
#include "test.h"

/* ---- the grammar ----------------------------------------------------------------------------- */

static const char *const valid_texts[] = {
    "{}",
    "[]",
    "0",
    "-0",
    "1.5e-3",
    "1E+9",
    "\"\"",
    "true",
    "false",
    "null",
    " \t\r\n{ \"a\" : [ 1 , 2 ] } \n",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"",
    "\"\xf0\x9f\x98\x80 \xe2\x96\x81\"",
    "{\"a\":{\"b\":1},\"c\":{\"b\":1}}",
    "{\"a\":1,\"A\":2}",
    "[[],{},[{}]]",
    "\"\x7f\"",
    "1e999",
};

/* Texts that cJSON alone would mostly take, and a part of the sentence that refuses each. */
static const struct {
    const char *text, *part;
} broken_texts[] = {
    {"", "ends where a value"},
    {"  ", "ends where a value"},
    {"{", "a key in double quotes"},
    {"{\"a\"", "a colon"},
    {"{\"a\":", "ends where a value"},
    {"{\"a\":1", "a comma or }"},
    {"{\"a\":1,}", "a key in double quotes"},
    {"{a:1}", "a key in double quotes"},
    {"{\"a\" 1}", "a colon"},
    {"[1,]", "a value is expected"},
    {"[1 2]", "a comma or ]"},
    {"[1", "a comma or ]"},
    {"[1}", "a comma or ]"},
    {"01", "more text follows"},
    {"+1", "a value is expected"},
    {".5", "a value is expected"},
    {"1.", "a digit"},
    {"1e", "a digit"},
    {"1e+", "a digit"},
    {"-", "a digit"},
    {"--1", "a digit"},
    {"NaN", "a value is expected"},
    {"Infinity", "a value is expected"},
    {"nul", "a value is expected"},
    {"truex", "more text follows"},
    {"{} {}", "more text follows"},
    {"[] // comment", "more text follows"},
    {"'a'", "a value is expected"},
    {"\"a", "not closed"},
    {"\"a\\\"", "not closed"},
    {"\"a\nb\"", "control character"},
    {"\"\\x\"", "not followed by a known escape"},
    {"\"\\u12g4\"", "four hexadecimal"},
    {"\"\\u0000\"", "NUL"},
    {"\"\\ud800\"", "high surrogate"},
    {"\"\\ud800\\u0041\"", "high surrogate"},
    {"\"\\udc00\"", "low surrogate"},
    {"\"\xff\"", "UTF-8"},
    {"\"\xc0\x80\"", "UTF-8"},
    {"\"\xed\xa0\x80\"", "UTF-8"},
    {"\xef\xbb\xbf{}", "a value is expected"},
    {"{\"a\":1,\"b\":2,\"a\":3}", "key \"a\" twice"},
    {"[{\"x\":{\"k\":1,\"\\u006b\":2}}]", "key \"k\" twice"},
    {"1234567890123456789012345678901234567890123456789012345678901", "60 characters"},
    {"[1,\n 2,\n x]", "line 3, byte 2"},
};

static void check_refused(const char *text, size_t n_bytes, const char *part) {
    trol_error error = {0};
    cJSON *json = (cJSON *)1;
    trol_status status = json_parse(text, n_bytes, "file.json", &json, &error);
    CHECK(status == TROL_ERROR_FORMAT && error.status == status && json == NULL, "%.60s: status %d", text, (int)status);
    CHECK(strstr(error.message, part) && strstr(error.message, "file.json"), "%.60s: \"%s\" lacks \"%s\"", text,
          error.message, part);
}

static void test_grammar(void) {
    trol_error error = {0};
    cJSON *json;
    for (size_t i = 0; i < sizeof valid_texts / sizeof *valid_texts; i++) {
        CHECK_OK(json_parse(valid_texts[i], strlen(valid_texts[i]), "file.json", &json, &error), error);
        cJSON_Delete(json);
    }
    for (size_t i = 0; i < sizeof broken_texts / sizeof *broken_texts; i++)
        check_refused(broken_texts[i].text, strlen(broken_texts[i].text), broken_texts[i].part);
    check_refused("{}\0", 3, "more text follows");
    check_refused("\"a\0b\"", 5, "control character");
    check_refused("[1,2]", 3, "ends where a value");
    CHECK(json_parse("x", 1, "file.json", &json, NULL) == TROL_ERROR_FORMAT, "without an error to fill");

    CHECK_OK(json_parse("\"\\uD83D\\uDE00\\u00e9\"", 20, "file.json", &json, &error), error);
    CHECK(json && strcmp(json->valuestring, "\xf0\x9f\x98\x80\xc3\xa9") == 0, "escapes give UTF-8");
    cJSON_Delete(json);
}

static void test_depth(void) {
    char text[200];
    trol_error error = {0};
    cJSON *json;
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    CHECK_OK(json_parse(text, 128, "file.json", &json, &error), error);
    cJSON_Delete(json);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    check_refused(text, 130, "64 deep");
    char *deep = malloc(1000000);
    memset(deep, '[', 1000000);
    check_refused(deep, 1000000, "64 deep");
    free(deep);
}

/* Every beginning of a text is refused, and no changed byte does harm. */
static void test_damage(void) {
    static const char text[] =
        "{\"hidden_size\": 2048, \"rope\": {\"type\": \"dynamic\", \"factor\": 2.0}, \"list\": [1, -2.5e3, true, "
        "null, \"\\u00e9\\ud83d\\ude00\"], \"name\": \"\xe2\x96\x81\"}";
    const size_t length = sizeof text - 1;
    char copy[sizeof text];
    uint64_t random = 7;
    cJSON *json;
    for (size_t n = 0; n < length; n++) {
        char *exact = malloc(n ? n : 1); /* so that a sanitizer sees a read past the end */
        memcpy(exact, text, n);
        CHECK(json_parse(exact, n, "cut", &json, NULL) == TROL_ERROR_FORMAT, "%zu of %zu bytes", n, length);
        free(exact);
    }
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, text, length);
        for (int flips = 1 + (int)(test_random(&random) % 3); flips > 0; flips--)
            copy[test_random(&random) % length] ^= (char)(1 << test_random(&random) % 8);
        trol_error error = {0};
        trol_status status = json_parse(copy, length, "flipped", &json, &error);
        CHECK(status == TROL_OK ? json != NULL : status == TROL_ERROR_FORMAT && error.message[0], "status %d",
              (int)status);
        accepted += status == TROL_OK;
        cJSON_Delete(json);
    }
    CHECK(accepted > 100 && accepted < 19000, "%d of 20000 damaged texts are still JSON", accepted);
}

/* An object with as many keys as a vocabulary does not take quadratic time, and a duplicate key is found. */
static void test_many_keys(void) {
    enum { KEYS = 200000 };
    char *text = malloc(KEYS * 20 + 100);
    size_t used = 0;
    trol_error error = {0};
    cJSON *json;
    for (int twice = 0; twice < 2; twice++) {
        used = (size_t)sprintf(text, "{");
        for (int i = 0; i < KEYS; i++)
            used += (size_t)sprintf(text + used, "\"k%d\":%d,", (i * 7919 + 13) % KEYS, i);
        used += (size_t)sprintf(text + used, "\"%s\":0}", twice ? "k4711" : "last");
        double begin = clock_seconds();
        trol_status status = json_parse(text, used, "vocabulary", &json, &error);
        CHECK(clock_seconds() - begin < 5, "%.1f s", clock_seconds() - begin);
        CHECK(status == (twice ? TROL_ERROR_FORMAT : TROL_OK), "status %d: %s", (int)status, error.message);
        cJSON_Delete(json);
    }
    CHECK(strstr(error.message, "\"k4711\" twice"), "%s", error.message);
    free(text);

    size_t values = ((size_t)4 << 20) + 1;
    text = malloc(2 * values + 2);
    for (size_t i = 0; i < values; i++)
        memcpy(text + 2 * i, i ? ",1" : "[1", 2);
    text[2 * values] = ']';
    check_refused(text, 2 * values + 1, "more than 4194304 values");
    free(text);
}

/* ---- members --------------------------------------------------------------------------------- */

static const char config[] = "{\"n\": 24, \"big\": 9007199254740993, \"limit\": 9007199254740991, \"half\": 0.5, "
                             "\"text\": \"abc\", \"yes\": true, \"none\": null,"
                             " \"object\": {\"a\": 1}, \"array\": [1], \"huge\": 1e999, \"negative\": -3, \"N\": 25}";

/* The call, which fills `error`, must fail with a sentence that has this part. */
#define CHECK_MEMBER(call, part)                                                                                       \
    do {                                                                                                               \
        error->message[0] = '\0';                                                                                      \
        CHECK((call) == TROL_ERROR_FORMAT && strstr(error->message, part), "\"%s\" lacks \"%s\"", error->message,      \
              part);                                                                                                   \
    } while (0)

static void test_members(void) {
    trol_error error_ = {0}, *error = &error_;
    cJSON *json;
    int64_t integer = 0;
    double number = 0;
    bool truth = false;
    const char *text = NULL;
    const cJSON *object = NULL;
    CHECK_OK(json_parse(config, sizeof config - 1, "c.json", &json, error), error_);

    CHECK_OK(json_integer(json, "c.json", "n", 1, 100, &integer, error), error_);
    CHECK(integer == 24, "%lld", (long long)integer);
    CHECK_OK(json_integer(json, "c.json", "limit", 0, INT64_MAX, &integer, error), error_);
    CHECK(integer == 9007199254740991, "%lld", (long long)integer);
    CHECK_OK(json_integer_or(json, "c.json", "none", 7, 1, 100, &integer, error), error_);
    CHECK(integer == 7, "%lld", (long long)integer);
    CHECK_OK(json_number(json, "c.json", "half", 0, 1, &number, error), error_);
    CHECK(number == 0.5, "%g", number);
    CHECK_OK(json_number_or(json, "c.json", "absent", 2.5, 0, 1, &number, error), error_);
    CHECK(number == 2.5, "%g", number);
    CHECK_OK(json_bool_or(json, "c.json", "yes", false, &truth, error), error_);
    CHECK(truth, "true is read");
    CHECK_OK(json_bool_or(json, "c.json", "absent", true, &truth, error), error_);
    CHECK(truth, "the default is taken");
    CHECK_OK(json_string(json, "c.json", "text", &text, error), error_);
    CHECK(text && strcmp(text, "abc") == 0, "the text is read");
    CHECK_OK(json_string_or(json, "c.json", "none", "xyz", &text, error), error_);
    CHECK(strcmp(text, "xyz") == 0, "the default is taken");
    CHECK_OK(json_object_or_null(json, "c.json", "object", &object, error), error_);
    CHECK(object && object->child, "the object is found");
    CHECK_OK(json_object_or_null(json, "c.json", "absent", &object, error), error_);
    CHECK(object == NULL, "there is no object");

    CHECK_MEMBER(json_integer(json, "c.json", "absent", 1, 9, &integer, error),
                 "c.json: \"absent\" is missing, expected a whole number from 1 to 9");
    CHECK_MEMBER(json_integer(json, "c.json", "n", 1, 23, &integer, error),
                 "\"n\" is 24, expected a whole number from 1 to 23");
    CHECK_MEMBER(json_integer(json, "c.json", "negative", 0, 23, &integer, error), "is -3");
    CHECK_MEMBER(json_integer(json, "c.json", "half", 0, 23, &integer, error), "is 0.5");
    CHECK_MEMBER(json_integer(json, "c.json", "big", 0, INT64_MAX, &integer, error), "\"big\" is");
    CHECK_MEMBER(json_integer(json, "c.json", "huge", INT64_MIN, INT64_MAX, &integer, error), "is inf");
    CHECK_MEMBER(json_integer(json, "c.json", "text", 0, 23, &integer, error), "is the string \"abc\"");
    CHECK_MEMBER(json_integer_or(json, "c.json", "yes", 1, 0, 23, &integer, error), "is true");
    CHECK_MEMBER(json_number(json, "c.json", "huge", 0, 1e300, &number, error),
                 "is inf, expected a number from 0 to 1e+300");
    CHECK_MEMBER(json_number_or(json, "c.json", "array", 1, 0, 1, &number, error), "is an array");
    CHECK_MEMBER(json_bool_or(json, "c.json", "n", false, &truth, error), "is 24, expected true or false");
    CHECK_MEMBER(json_string(json, "c.json", "none", &text, error), "\"none\" is missing, expected a string");
    CHECK_MEMBER(json_string_or(json, "c.json", "object", "", &text, error), "is an object");
    CHECK_MEMBER(json_object_or_null(json, "c.json", "array", &object, error), "is an array, expected an object");
    CHECK_MEMBER(json_integer(json->child, "c.json", "n", 0, 1, &integer, error), "is 24, expected an object");
    CHECK_MEMBER(json_integer(NULL, "c.json", "n", 0, 1, &integer, error), "is nothing, expected an object");
    cJSON_Delete(json);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void check_unreadable(const char *path, size_t max_bytes, const char *part) {
    trol_error error = {0};
    char *bytes = (char *)1;
    size_t n_bytes = 1;
    CHECK(file_read(path, max_bytes, &bytes, &n_bytes, &error) != TROL_OK && bytes == NULL && n_bytes == 0,
          "%s is read", path);
    CHECK(strstr(error.message, part) && strstr(error.message, path), "\"%s\" lacks \"%s\"", error.message, part);
}

/* A pipe gives what its writer writes, in pieces, up to the end. */
static void test_pipe(void) {
    trol_error error = {0};
    char *bytes;
    size_t n_bytes;
    mkfifo(test_path("pipe"), 0600);
    CHECK_OK(file_read(test_path("pipe"), 100, &bytes, &n_bytes, &error), error); /* it has no writer: no waiting */
    CHECK(n_bytes == 0, "%zu bytes", n_bytes);
    memory_free(bytes);

    int ends[2];
    char path[64];
    if (pipe(ends) != 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        for (int i = 0; i < 1000; i++)
            if (write(ends[1], "0123456789", 10) != 10)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    if (access(path, R_OK) == 0) {
        CHECK_OK(file_read(path, 10000, &bytes, &n_bytes, &error), error);
        CHECK(n_bytes == 10000 && bytes && bytes[n_bytes] == '\0' && memcmp(bytes + 9990, "0123456789", 10) == 0,
              "%zu bytes", n_bytes);
        memory_free(bytes);
    }
    close(ends[0]);
    waitpid(child, NULL, 0);
}

static void test_files(void) {
    trol_error error = {0};
    char *bytes, *path;
    size_t n_bytes;
    cJSON *json;
    test_make_folder();
    test_write("ten", "0123456789", 10);
    test_write("empty", "", 0);
    test_write("broken.json", "{\"a\":}", 6);
    CHECK_OK(file_read(test_path("ten"), 10, &bytes, &n_bytes, &error), error);
    CHECK(n_bytes == 10 && bytes && strcmp(bytes, "0123456789") == 0, "%zu bytes", n_bytes);
    memory_free(bytes);
    CHECK_OK(file_read(test_path("empty"), 0, &bytes, &n_bytes, &error), error);
    CHECK(n_bytes == 0 && bytes && bytes[0] == '\0', "%zu bytes", n_bytes);
    memory_free(bytes);
    /* Files of /proc have the size 0 and are not empty. */
    CHECK_OK(file_read("/proc/self/status", 100000, &bytes, &n_bytes, &error), error);
    CHECK(n_bytes > 100 && strlen(bytes) == n_bytes, "%zu bytes", n_bytes);
    memory_free(bytes);
    check_unreadable("/proc/self/status", 50, "longer than 50 bytes");
    check_unreadable(test_path("ten"), 9, "10 bytes long, expected at most 9");
    check_unreadable(test_path("absent"), 9, "cannot be opened: No such file");
    check_unreadable(test_folder, 9, "is a folder");
    check_unreadable("/dev/zero", 9, "is a device");
    test_pipe();

    CHECK(json_read_file(test_path("broken.json"), 100, &json, &error) == TROL_ERROR_FORMAT &&
              strstr(error.message, "broken.json"),
          "%s", error.message);
    test_remove_folder();

    CHECK_OK(path_join("a/b", "c", &path, &error), error);
    CHECK(strcmp(path, "a/b/c") == 0, "%s", path);
    memory_free(path);
    CHECK_OK(path_join("/", "c", &path, &error), error);
    CHECK(strcmp(path, "/c") == 0, "%s", path);
    memory_free(path);
    CHECK_OK(path_join("", "c", &path, &error), error);
    CHECK(strcmp(path, "c") == 0, "%s", path);
    memory_free(path);
    CHECK(strcmp(path_name("a/b/c.d"), "c.d") == 0 && strcmp(path_name("c"), "c") == 0,
          "the name after the last slash");
}

int main(void) {
    test_grammar();
    test_depth();
    test_damage();
    test_many_keys();
    test_members();
    test_files();
    return test_summary("test-json");
}
