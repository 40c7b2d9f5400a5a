/* test-base.c - the base that everything else uses: 16-bit floats, UTF-8, sentences of errors, memory, output files,
 * hashes. */
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/float16.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/hash.h"
#include "base/output.h"
#include "base/utf8.h"
#include "files.h"
#include "test.h"

/* ---- 16-bit floats --------------------------------------------------------------------------- */

/* A format of 16 bits, by its fraction bits and its largest exponent field, as IEEE 754 defines the value. */
static double value_of(uint16_t half, int fraction_bits) {
    int exponent_bits = 15 - fraction_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = half >> fraction_bits & ((1 << exponent_bits) - 1), fraction = half & ((1 << fraction_bits) - 1);
    double sign = half & 0x8000 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

typedef struct float_type {
    const char *name;
    int fraction_bits;
    float (*to_float)(uint16_t);
    uint16_t (*from_float)(float);
} float_type;

static const float_type float_types[] = {{"f16", 10, f16_to_float, f16_from_float},
                                         {"bf16", 7, bf16_to_float, bf16_from_float}};

/* All 65536 values, there and back. */
static void test_every_half(const float_type *type) {
    int wrong_values = 0, wrong_trips = 0, wrong_nans = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i;
        double expected = value_of(half, type->fraction_bits);
        float value = type->to_float(half);
        uint16_t back = type->from_float(value);
        if (isnan(expected)) {
            wrong_nans += !isnan(value) || !isnan(value_of(back, type->fraction_bits)) || ((back ^ half) & 0x8000);
            continue;
        }
        wrong_values += (double)value != expected || !!signbit(value) != half >> 15;
        wrong_trips += back != half;
    }
    CHECK(wrong_values == 0 && wrong_trips == 0 && wrong_nans == 0, "%s: %d values, %d round trips, %d NaNs",
          type->name, wrong_values, wrong_trips, wrong_nans);
}

/* Between each two neighbours: the middle goes to the even one, what is a little off the middle to the nearer one. */
static void test_rounding(const float_type *type) {
    int wrong = 0;
    uint16_t infinity = (uint16_t)(0x7fff >> type->fraction_bits << type->fraction_bits);
    for (uint16_t low = 0; low < infinity; low++) {
        uint16_t high = (uint16_t)(low + 1), even = low & 1 ? high : low;
        double below = value_of(low, type->fraction_bits),
               step = below - value_of((uint16_t)(low - 1), type->fraction_bits);
        double above =
            high == infinity ? below + step : value_of(high, type->fraction_bits); /* as if the format continued */
        float middle = (float)((below + above) / 2);
        if ((double)middle != (below + above) / 2) /* bfloat16's smallest steps are finer than float32's */
            continue;
        wrong += type->from_float(middle) != even || type->from_float(-middle) != (even | 0x8000);
        wrong +=
            type->from_float(nextafterf(middle, 0)) != low || type->from_float(nextafterf(middle, INFINITY)) != high;
    }
    CHECK(wrong == 0, "%s: %d roundings are wrong", type->name, wrong);
    CHECK(type->from_float(INFINITY) == infinity && type->from_float(-INFINITY) == (infinity | 0x8000), "%s",
          type->name);
    CHECK(type->from_float(3.402823466e38f) == infinity, "%s: the largest float rounds to infinity", type->name);
    CHECK(type->from_float(-0.0f) == 0x8000, "%s: the sign of zero stays", type->name);
    for (int bit = 0; bit < 23; bit++) /* NaNs whose payload does not reach the upper bits */
        CHECK(isnan(type->to_float(type->from_float(float_from_bits(0x7f800000u | 1u << bit)))), "%s: NaN, bit %d",
              type->name, bit);
}

/* Random float32 values of all magnitudes against the definition: no other 16-bit value is nearer. */
static void test_nearest(const float_type *type) {
    uint64_t random = 3;
    int wrong = 0;
    for (int i = 0; i < 300000; i++) {
        float value = float_from_bits((uint32_t)test_random(&random));
        uint16_t half = type->from_float(value),
                 infinity = (uint16_t)(0x7fff >> type->fraction_bits << type->fraction_bits);
        if (isnan(value) || (half & 0x7fff) >= infinity)
            continue; /* what rounds to infinity is tested above */
        double error = fabs((double)value - value_of(half, type->fraction_bits));
        for (int step = -1; step <= 1; step += 2) {
            uint16_t other = (uint16_t)(half + step);
            if (((other ^ half) & 0x8000) == 0 && (other & 0x7fff) < infinity)
                wrong += fabs((double)value - value_of(other, type->fraction_bits)) < error;
        }
        wrong += !!signbit(value) != half >> 15;
    }
    CHECK(wrong == 0, "%s: %d values have a nearer neighbour", type->name, wrong);
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

static void test_code_points(void) {
    int wrong = 0;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char bytes[4];
        uint32_t back = 0xffffffff;
        size_t n = utf8_encode(c, bytes);
        bool surrogate = c >= 0xd800 && c < 0xe000;
        size_t expected = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        wrong += n != expected;
        if (surrogate) {
            wrong += utf8_decode(bytes, n, &back) != 0;
            continue;
        }
        wrong += utf8_decode(bytes, n, &back) != n || back != c || utf8_valid_prefix(bytes, n) != n;
        for (size_t cut = 1; cut < n; cut++)
            wrong += utf8_decode(bytes, cut, &back) != 0 || utf8_unfinished_bytes(bytes, cut) != cut;
        wrong += utf8_unfinished_bytes(bytes, n) != 0;
    }
    CHECK(wrong == 0, "%d code points", wrong);
}

static void test_invalid_utf8(void) {
    static const struct {
        const char *text;
        size_t valid, unfinished;
    } texts[] = {
        {"", 0, 0},
        {"abc", 3, 0},
        {"a\xff", 1, 0},
        {"\x80", 0, 0},
        {"\xc0\x80", 0, 0}, /* overlong */
        {"\xc1", 0, 0},     /* begins no character */
        {"\xe0\x80", 0, 0}, /* overlong */
        {"\xe0\xa0", 0, 2},
        {"\xed\x9f", 0, 2},
        {"\xed\xa0", 0, 0}, /* a surrogate */
        {"\xf0\x8f", 0, 0}, /* overlong */
        {"\xf0\x90", 0, 2},
        {"\xf4\x8f\xbf", 0, 3},
        {"\xf4\x90", 0, 0}, /* past U+10FFFF */
        {"\xf5", 0, 0},
        {"ab\xe2\x96", 2, 2},
        {"ab\xe2\x96\x81", 5, 0},
        {"ab\xe2\x96\x81\xf0\x9f\x98", 5, 3},
        {"\xc3\xa9\xc3", 2, 1},
        {"\xf0\x9f\x98\x80\x80", 4, 0},
        {"\x80\x80\x80\x80", 0, 0},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t n = strlen(texts[i].text), valid = utf8_valid_prefix(texts[i].text, n);
        size_t unfinished = utf8_unfinished_bytes(texts[i].text, n);
        CHECK(valid == texts[i].valid && unfinished == texts[i].unfinished, "text %zu: %zu, %zu", i, valid, unfinished);
    }
    CHECK(utf8_valid_prefix("a\0b", 3) == 3, "a NUL is a character");
    int spaces = 0;
    for (uint32_t c = 0; c <= 0x10ffff; c++)
        spaces += utf8_is_space(c);
    CHECK(spaces == 25, "Unicode has 25 characters of white space, found %d", spaces);
}

/* However a text is cut into pieces, its repair is that of the whole. */
static void test_repair(void) {
    static const char alphabet[] = "a\x80\xbf\xc3\xa9\xe2\x96\x81\xf0\x9f\x98\xed\xa0\xe0\xff";
    uint64_t random = 9;
    for (int round = 0; round < 5000; round++) {
        char text[12], whole[UTF8_REPAIRED_BYTES(12)], pieces[UTF8_REPAIRED_BYTES(12) + 64];
        size_t n = test_random(&random) % 12 + 1, used, n_whole, n_pieces = 0, begin = 0;
        for (size_t i = 0; i < n; i++)
            text[i] = alphabet[test_random(&random) % (sizeof alphabet - 1)];
        n_whole = utf8_repair(text, n, true, whole, &used);
        CHECK(used == n && n_whole <= UTF8_REPAIRED_BYTES(n) && utf8_valid_prefix(whole, n_whole) == n_whole,
              "%zu of %zu", used, n);
        for (size_t end = 1; end <= n; end++) {
            n_pieces += utf8_repair(text + begin, end - begin, end == n, pieces + n_pieces, &used);
            begin += used;
        }
        CHECK(begin == n && n_pieces == n_whole && memcmp(pieces, whole, n_whole) == 0, "%zu bytes, expected %zu",
              n_pieces, n_whole);
    }
}

/* ---- sentences ------------------------------------------------------------------------------- */

static void hear(void *user, trol_log_level level, const char *message) {
    snprintf(user, 2000, "%d:%s", (int)level, message);
}

static void test_sentences(void) {
    trol_error error = {0};
    char text[3000], heard[2000] = "";
    CHECK(fail(&error, TROL_ERROR_IO, "%s is %d", "x", 5) == TROL_ERROR_IO && error.status == TROL_ERROR_IO, "status");
    CHECK(strcmp(error.message, "x is 5") == 0, "%s", error.message);
    CHECK(fail_prefix(&error, TROL_ERROR_FORMAT, "file") == TROL_ERROR_FORMAT, "status");
    CHECK(strcmp(error.message, "file: x is 5") == 0, "%s", error.message);
    CHECK(fail(NULL, TROL_ERROR_IO, "x") == TROL_ERROR_IO && fail_prefix(NULL, TROL_ERROR_IO, "x") == TROL_ERROR_IO,
          "NULL is allowed");
    CHECK(fail_memory(&error, 123, "a thing") == TROL_ERROR_MEMORY && strstr(error.message, "123") &&
              strstr(error.message, "a thing"),
          "%s", error.message);

    fail_sentence(&error, TROL_ERROR_IO, "%s", "a\033[31m\n\t\x7f\xc2\x85\xff\xc3\xa9\xe2\x96");
    CHECK(strcmp(error.message, "a?[31m?????\xc3\xa9??") == 0, "%s", error.message);

    /* Cut at a character's boundary, wherever the cut falls. */
    for (int shift = 0; shift < 4; shift++)
        for (int character = 0; character < 3; character++) {
            static const char *const characters[] = {"\xc3\xa9", "\xe2\x96\x81", "\xf0\x9f\x98\x80"};
            size_t width = strlen(characters[character]), used = (size_t)shift;
            memset(text, 'x', used);
            for (; used + width < sizeof text; used += width)
                memcpy(text + used, characters[character], width);
            text[used] = '\0';
            fail_sentence(&error, TROL_ERROR_IO, "%s", text);
            size_t length = strlen(error.message);
            CHECK(length > sizeof error.message - 1 - width && length < sizeof error.message &&
                      (length - (size_t)shift) % width == 0 && utf8_valid_prefix(error.message, length) == length &&
                      !strchr(error.message, '?'),
                  "%zu bytes of %zu-byte characters after %d", length, width, shift);
            fail_prefix(&error, TROL_ERROR_IO, "prefix");
            length = strlen(error.message);
            CHECK(strncmp(error.message, "prefix: ", 8) == 0 && utf8_valid_prefix(error.message, length) == length,
                  "%zu", length);
        }

    logger log = {hear, heard};
    log_message(&log, TROL_LOG_WARNING, "%s %d", "a\nb\xff", 7);
    CHECK(strcmp(heard, "2:a?b? 7") == 0, "%s", heard);
    log_message(&log, TROL_LOG_INFO, "%s", text);
    CHECK(strlen(heard) > 1000 && utf8_valid_prefix(heard, strlen(heard)) == strlen(heard), "%zu bytes", strlen(heard));
    log_message(NULL, TROL_LOG_INFO, "no callback");
    log_message(&(logger){0}, TROL_LOG_INFO, "no callback");

    for (int status = TROL_ERROR_STATE; status <= TROL_OK; status++)
        CHECK(strcmp(trol_status_text((trol_status)status), "unknown status") != 0, "status %d has a text", status);
    CHECK(strcmp(trol_status_text((trol_status)-99), "unknown status") == 0, "status -99 has none");
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", TROL_VERSION_MAJOR, TROL_VERSION_MINOR, TROL_VERSION_PATCH);
    CHECK(strcmp(trol_version(), version) == 0, "%s, the header says %s", trol_version(), version);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Sanitizers, where they are in use, answer huge requests as malloc does. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }
const char *__tsan_default_options(void) { return "allocator_may_return_null=1"; }

static void test_allocation(void) {
    trol_error error = {0};
    void *memory = &error;
    CHECK_OK(memory_alloc(100, 3, "x", &memory, &error), error);
    CHECK(memory && (uintptr_t)memory % 64 == 0, "%p", memory);
    memory_free(memory);
    CHECK_OK(memory_alloc_zero(1000, 7, "x", &memory, &error), error);
    int sum = 0;
    for (int i = 0; i < 7000; i++)
        sum += ((unsigned char *)memory)[i];
    CHECK(sum == 0, "zeroed");
    memory_free(memory);
    CHECK_OK(memory_alloc(0, 8, "x", &memory, &error), error);
    CHECK(memory == NULL, "nothing for nothing");
    const size_t counts[] = {SIZE_MAX, SIZE_MAX / 8 + 1, SIZE_MAX / 8, SIZE_MAX / 16};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        CHECK(memory_alloc(counts[i], 8, "a thing", &memory, &error) == TROL_ERROR_MEMORY && memory == NULL,
              "count %zu", counts[i]);
        CHECK(strstr(error.message, "a thing"), "%s", error.message);
    }

    void *array = NULL;
    size_t capacity = 0;
    for (size_t n = 1; n <= 1000; n++) {
        CHECK_OK(memory_grow(&array, &capacity, n, sizeof(size_t), "x", &error), error);
        ((size_t *)array)[n - 1] = n;
    }
    size_t wrong = 0;
    for (size_t n = 1; n <= 1000; n++)
        wrong += ((size_t *)array)[n - 1] != n;
    CHECK(wrong == 0 && capacity >= 1000 && capacity <= 2000, "%zu wrong, capacity %zu", wrong, capacity);
    void *before = array;
    size_t capacity_before = capacity;
    CHECK(memory_grow(&array, &capacity, SIZE_MAX, 1, "x", &error) == TROL_ERROR_MEMORY, "too many");
    CHECK(memory_grow(&array, &capacity, SIZE_MAX / 4, 8, "x", &error) == TROL_ERROR_MEMORY, "too large");
    CHECK(array == before && capacity == capacity_before && ((size_t *)array)[999] == 1000,
          "unchanged after a failure");
    memory_free(array);

    char *copy;
    CHECK_OK(memory_copy_text("abcdef", 3, &copy, &error), error);
    CHECK(strcmp(copy, "abc") == 0, "%s", copy);
    memory_free(copy);
    CHECK_OK(memory_copy_text(NULL, 0, &copy, &error), error);
    CHECK(strcmp(copy, "") == 0, "%s", copy);
    memory_free(copy);
    memory_free(NULL);
}

/* Random allocations and releases in stack order: what is live keeps its bytes. */
static void test_workspace_stack(void) {
    enum { DEPTH = 40 };
    struct {
        unsigned char *bytes;
        size_t n, mark;
    } live[DEPTH];
    trol_error error = {0};
    workspace *space;
    uint64_t random = 17;
    int n_live = 0, wrong = 0;
    CHECK_OK(workspace_new(&space, &error), error);
    for (int i = 0; i < 4000; i++) {
        if (n_live < DEPTH && test_random(&random) % 100 < 55) {
            void *memory;
            size_t n = (size_t)1 << test_random(&random) % 21, mark = workspace_mark(space);
            n += test_random(&random) % n;
            CHECK_OK(workspace_alloc(space, n, 1, &memory, &error), error);
            CHECK((uintptr_t)memory % 64 == 0, "%p", memory);
            memset(memory, n_live + 1, n);
            live[n_live].bytes = memory;
            live[n_live].n = n;
            live[n_live++].mark = mark;
        } else if (n_live > 0) {
            int keep = (int)(test_random(&random) % (uint64_t)n_live);
            for (int k = 0; k < n_live; k++)
                wrong += live[k].bytes[0] != k + 1 || live[k].bytes[live[k].n - 1] != k + 1 ||
                         live[k].bytes[live[k].n / 2] != k + 1;
            workspace_release(space, live[keep].mark);
            n_live = keep;
            if (i % 16 == 0)
                workspace_trim(space, 0);
        }
    }
    CHECK(wrong == 0, "%d allocations were overwritten", wrong);
    CHECK(workspace_peak(space) >= (1 << 20), "peak %zu", workspace_peak(space));
    workspace_free(space);
}

static void test_workspace_limits(void) {
    trol_error error = {0};
    workspace *space;
    void *memory, *again;
    CHECK_OK(workspace_new(&space, &error), error);
    CHECK(workspace_mark(space) == 0 && workspace_peak(space) == 0, "empty");
    CHECK(workspace_alloc(space, SIZE_MAX / 2, 3, &memory, &error) == TROL_ERROR_MEMORY && !memory, "overflow");
    CHECK(workspace_alloc(space, SIZE_MAX / 8, 1, &memory, &error) == TROL_ERROR_MEMORY && !memory, "too large");
    CHECK(workspace_mark(space) == 0, "a failure takes nothing");
    CHECK_OK(workspace_alloc(space, 1000, 4, &memory, &error), error);
    workspace_release(space, 0);
    CHECK_OK(workspace_alloc(space, 1000, 4, &again, &error), error);
    CHECK(memory == again, "memory is used again");
    workspace_release(space, 0);
    /* Requests that grow a little each time, as prompts of growing length make them, do not grow the workspace without
     * bound. */
    for (size_t i = 0; i < 300; i++) {
        CHECK_OK(workspace_alloc(space, ((size_t)1 << 20) + 4096 * i, 1, &memory, &error), error);
        workspace_release(space, 0);
    }
    workspace_trim(space, 0);
    CHECK_OK(workspace_alloc(space, 64, 1, &memory, &error), error);
    CHECK(memory != NULL, "it goes on after a trim");
    workspace_free(space);
    workspace_free(NULL);
}

/* ---- output --------------------------------------------------------------------------------------------------------
 */

static trol_status put_file(const char *path, const char *text, trol_error *error) {
    output out;
    TRY(output_open(path, &out, error));
    trol_status status = output_write(&out, text, strlen(text), error);
    if (status == TROL_OK)
        return output_commit(&out, error);
    output_discard(&out);
    return status;
}

static bool holds(const char *path, const char *text) {
    char found[64] = "";
    FILE *file = fopen(path, "r");
    const size_t n = file ? fread(found, 1, sizeof found - 1, file) : 0;
    if (file)
        fclose(file);
    return n == strlen(text) && strcmp(found, text) == 0;
}

static bool is_link(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 && S_ISLNK(info.st_mode);
}

/* Through a link, the target is replaced, never the link itself. */
static void test_output(void) {
    trol_error error = {0};
    struct stat info;
    output out;
    test_make_folder();
    CHECK_OK(put_file(test_path("file"), "one", &error), error);
    CHECK_OK(put_file(test_path("file"), "two", &error), error);
    CHECK(holds(test_path("file"), "two"), "a file");
    CHECK(symlink("file", test_path("link")) == 0 && symlink("later", test_path("dangling")) == 0 &&
              symlink("link", test_path("second")) == 0 && symlink("loop", test_path("loop")) == 0 &&
              symlink("/dev/null", test_path("null")) == 0,
          "links");
    CHECK_OK(put_file(test_path("second"), "three", &error), error);
    CHECK(is_link(test_path("second")) && is_link(test_path("link")) && holds(test_path("file"), "three"),
          "through two links");
    CHECK_OK(put_file(test_path("dangling"), "four", &error), error);
    CHECK(is_link(test_path("dangling")) && holds(test_path("later"), "four"), "through a dangling link");
    CHECK(put_file(test_path("loop"), "five", &error) == TROL_ERROR_IO &&
              strstr(error.message, "/loop cannot be written: "),
          "%s", error.message);
    CHECK_OK(put_file(test_path("null"), "six", &error), error);
    CHECK(is_link(test_path("null")) && stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode), "/dev/null");
    CHECK(put_file("/dev/full", "seven", &error) == TROL_ERROR_IO &&
              strstr(error.message, "/dev/full cannot be written"),
          "%s", error.message);
    CHECK(stat("/dev/full", &info) == 0 && S_ISCHR(info.st_mode), "/dev/full is gone");
    CHECK(put_file(test_folder, "eight", &error) == TROL_ERROR_IO && strstr(error.message, test_folder), "%s",
          error.message);
    CHECK_OK(output_open(test_path("file"), &out, &error), error);
    CHECK_OK(output_write(&out, "nine", 4, &error), error);
    output_discard(&out);
    CHECK(holds(test_path("file"), "three"), "a discarded file replaced the old one");
    test_remove_folder();
    CHECK(access(test_folder, F_OK) != 0, "files are left in %s", test_folder);
}

/* Values that files keep, and the hash of the bytes before as the start. */
static void test_hash(void) {
    CHECK(fnv_bytes(FNV_START, "", 0) == FNV_START, "FNV-1a of nothing");
    CHECK(fnv_bytes(FNV_START, "foobar", 6) == 0x85944171f73967e8u, "FNV-1a of foobar");
    CHECK(fnv_bytes(fnv_bytes(FNV_START, "foo", 3), "bar", 3) == 0x85944171f73967e8u, "FNV-1a of foo, then bar");
    size_t n_same = 0;
    for (uint64_t i = 1; i < 4096; i++)
        n_same += (hash_word(0, i << 52) & 4095) == (hash_word(0, 0) & 4095);
    CHECK(n_same < 16, "%zu of 4095 words that differ in their high bits get one slot", n_same);
}

int main(void) {
    for (int i = 0; i < 2; i++) {
        test_every_half(&float_types[i]);
        test_rounding(&float_types[i]);
        test_nearest(&float_types[i]);
    }
    test_code_points();
    test_invalid_utf8();
    test_repair();
    test_sentences();
    test_allocation();
    test_workspace_stack();
    test_workspace_limits();
    test_output();
    test_hash();
    return test_summary("test-base");
}
