/* test-torch-pickle.c - the reference gates, archives and pickles made here, and everything that must be refused. */
#include "format/torch_pickle.h"

#include "files.h"
#include "test.h"

/* ---- making archives ------------------------------------------------------------------------- */

typedef struct buffer {
    unsigned char bytes[1 << 16];
    size_t n;
} buffer;

static void put(buffer *b, const void *bytes, size_t n) {
    if (n)
        memcpy(b->bytes + b->n, bytes, n);
    b->n += n;
}

static void put_integer(buffer *b, uint64_t value, int n) {
    for (int i = 0; i < n; i++)
        b->bytes[b->n++] = (unsigned char)(i < 8 ? value >> 8 * i : 0);
}

/* How an archive differs from the plain one that PyTorch writes. */
typedef struct oddity {
    int method, flags; /* of every entry */
    int zip64;         /* 64-bit fields throughout */
    int stored_sizes_differ;
    int local_names_differ;
    const char *comment;    /* after the end record */
    uint64_t offset_shift;  /* added to each entry's offset */
    uint64_t entries_shift; /* added to the number of entries */
} oddity;

typedef struct part {
    const char *name;
    const void *data;
    size_t n_bytes;
} part;

static void put_archive(buffer *zip, const part *parts, size_t n_parts, const oddity *odd) {
    size_t offsets[16];
    zip->n = 0;
    for (size_t i = 0; i < n_parts; i++) {
        offsets[i] = zip->n;
        put(zip, "PK\3\4\24\0\0\0\0\0\0\0\0\0\0\0\0\0",
            18); /* sizes are in the directory, as with a streaming writer */
        put_integer(zip, 0, 8);
        put_integer(zip, strlen(parts[i].name), 2);
        put_integer(zip, 5 + i, 2);
        put(zip, parts[i].name, strlen(parts[i].name));
        if (odd->local_names_differ)
            zip->bytes[zip->n - 1] ^= 1;
        put(zip, "FB\0\0ZZZZZZZZZZ", 5 + i); /* padding */
        put(zip, parts[i].data, parts[i].n_bytes);
    }
    size_t directory = zip->n;
    for (size_t i = 0; i < n_parts; i++) {
        uint64_t offset = offsets[i] + odd->offset_shift;
        put(zip, "PK\1\2\24\0\24\0", 8);
        put_integer(zip, (uint64_t)odd->flags, 2);
        put_integer(zip, (uint64_t)odd->method, 2);
        put_integer(zip, 0, 8);
        put_integer(zip, odd->zip64 ? 0xffffffff : parts[i].n_bytes + (uint64_t)odd->stored_sizes_differ, 4);
        put_integer(zip, odd->zip64 ? 0xffffffff : parts[i].n_bytes, 4);
        put_integer(zip, strlen(parts[i].name), 2);
        put_integer(zip, odd->zip64 ? 4 + 3 + 4 + 24 : 0, 2);
        put_integer(zip, 0, 10);
        put_integer(zip, odd->zip64 ? 0xffffffff : offset, 4);
        put(zip, parts[i].name, strlen(parts[i].name));
        if (odd->zip64) {
            put(zip, "xx\3\0abc\1\0\30\0", 11); /* an extra field of another kind, then the 64-bit one */
            put_integer(zip, parts[i].n_bytes, 8);
            put_integer(zip, parts[i].n_bytes, 8);
            put_integer(zip, offset, 8);
        }
    }
    size_t end = zip->n;
    if (odd->zip64) {
        put(zip, "PK\6\6\54\0\0\0\0\0\0\0\55\0\55\0\0\0\0\0\0\0\0\0", 24);
        put_integer(zip, n_parts, 8);
        put_integer(zip, n_parts, 8);
        put_integer(zip, end - directory, 8);
        put_integer(zip, directory, 8);
        put(zip, "PK\6\7\0\0\0\0", 8);
        put_integer(zip, end, 8);
        put_integer(zip, 1, 4);
    }
    put(zip, "PK\5\6\0\0\0\0", 8);
    put_integer(zip, odd->zip64 ? 0xffff : n_parts + odd->entries_shift, 2);
    put_integer(zip, odd->zip64 ? 0xffff : n_parts + odd->entries_shift, 2);
    put_integer(zip, odd->zip64 ? 0xffffffff : end - directory, 4);
    put_integer(zip, odd->zip64 ? 0xffffffff : directory, 4);
    put_integer(zip, odd->comment ? strlen(odd->comment) : 0, 2);
    if (odd->comment)
        put(zip, odd->comment, strlen(odd->comment));
}

/* ---- making pickles -------------------------------------------------------------------------- */

static void put_text(buffer *b, const char *text) {
    put(b, "X", 1);
    put_integer(b, strlen(text), 4);
    put(b, text, strlen(text));
}

static void put_number(buffer *b, int64_t value) {
    if (value >= 0 && value < 256) {
        put(b, "K", 1);
        put_integer(b, (uint64_t)value, 1);
    } else if (value >= 0 && value < 65536) {
        put(b, "M", 1);
        put_integer(b, (uint64_t)value, 2);
    } else {
        put(b, "J", 1);
        put_integer(b, (uint64_t)value, 4);
    }
}

static void put_dims(buffer *b, const int64_t *dims, int n) {
    put(b, "(", 1);
    for (int i = 0; i < n; i++)
        put_number(b, dims[i]);
    put(b, "t", 1);
}

typedef struct tensor_spec {
    const char *type, *key; /* "FloatStorage", "0" */
    int64_t n_values, offset;
    int n_dims;
    int64_t shape[9], stride[9];
} tensor_spec;

static void put_tensor(buffer *b, const tensor_spec *t) {
    static const char rebuild[] = "ctorch._utils\n_rebuild_tensor_v2\n(";
    put(b, rebuild, sizeof rebuild - 1);
    put(b, "(", 1);
    put_text(b, "storage");
    put(b, "ctorch\n", 7);
    put(b, t->type, strlen(t->type));
    put(b, "\n", 1);
    put_text(b, t->key);
    put_text(b, "cuda:0");
    put_number(b, t->n_values);
    put(b, "tQ", 2);
    put_number(b, t->offset);
    put_dims(b, t->shape, t->n_dims);
    put_dims(b, t->stride, t->n_dims);
    put(b, "\x89", 1);
    put(b, "ccollections\nOrderedDict\n)RtR", 29);
}

/* A state dict of tensors named "a", "b", ... */
static void put_state_dict(buffer *b, const tensor_spec *tensors, size_t n) {
    char name[2] = "a";
    put(b, "\x80\2ccollections\nOrderedDict\n)Rq\0(", 32);
    for (size_t i = 0; i < n; i++, name[0]++) {
        put_text(b, name);
        put_tensor(b, &tensors[i]);
    }
    put(b, "u.", 2);
}

/* Storages of every archive made here: 0: float32 1 to 6; 1: F16 1, -2, 2^-24; 2: BF16 1, -2, 0.5. */
static const unsigned char storage_1[] = {0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00},
                           storage_2[] = {0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f};
static float storage_0[6] = {1, 2, 3, 4, 5, 6};

static void put_file(buffer *zip, const void *pickle, size_t n_bytes, const oddity *odd) {
    const part parts[] = {{"any name/data.pkl", pickle, n_bytes},
                          {"any name/byteorder", "little", 6},
                          {"any name/data/0", storage_0, 24},
                          {"any name/data/1", storage_1, 6},
                          {"any name/data/2", storage_2, 6},
                          {"any name/version", "3\n", 2},
                          {"any name/.data/serialization_id", "123", 3}};
    put_archive(zip, parts, sizeof parts / sizeof *parts, odd);
}

static const oddity plain;

/* Reads an archive from a buffer of exactly its size, so that a sanitizer sees a read past its end. */
static trol_status parse(const void *bytes, size_t n_bytes, torch_file **file, trol_error *error) {
    void *exact = malloc(n_bytes ? n_bytes : 1);
    memcpy(exact, bytes, n_bytes);
    trol_status status = torch_file_parse(exact, n_bytes, "gate.pt", file, error);
    free(exact);
    return status;
}

static void check_refused(const buffer *zip, const char *what, const char *expected) {
    trol_error error = {0};
    torch_file *file = (torch_file *)1;
    trol_status status = parse(zip->bytes, zip->n, &file, &error);
    CHECK((status == TROL_ERROR_FORMAT || status == TROL_ERROR_UNSUPPORTED) && file == NULL, "%s: status %d", what,
          (int)status);
    CHECK(strstr(error.message, expected) && strstr(error.message, "gate.pt"), "%s: \"%s\" lacks \"%s\"", what,
          error.message, expected);
    if (status == TROL_OK)
        torch_file_free(file);
}

/* ---- the reference gates --------------------------------------------------------------------- */

/* From Python's zipfile and struct: values of the weight, first, last and sum; of the bias. */
static const struct {
    const char *name;
    size_t n_tensors, hidden;
    float first, last, bias;
    double sum;
} gates[] = {
    {"e2e-internlm2", 6, 64, -0.217773438f, 0.0334472656f, 0, 0.2795257568359375},
    {"e2e-phi3", 6, 64, 0.241210938f, 0.172851562f, 0, 0.26312255859375},
    {"internlm2-clip-bias", 6, 96, -0.0857543945f, -0.0452575684f, 0, -1.1058224439620972},
    {"internlm2-clip-text", 6, 64, 0.0546875f, 0.109863281f, 0, 0.774932861328125},
    {"internlm2-clip-two-images", 6, 64, -0.0427246094f, -0.189453125f, 0, -0.4029998779296875},
    {"internlm2-clip", 6, 64, -0.0164794922f, -0.0625f, 0, -1.5203094482421875},
    {"phi3-internvit-border", 6, 64, 0.154296875f, 0.0981445312f, 0, 0.09990692138671875},
    {"phi3-internvit-longrope", 6, 64, -0.192382812f, -0.0260009766f, 0, 0.2167816162109375},
    {"phi3-internvit-rms", 6, 64, 0.0109649878f, 0.0309436414f, 0, 1.768518399388995},
    {"phi3-internvit-text", 6, 64, -0.112792969f, 0.0869140625f, 0, 0.00421142578125},
    {"phi3-internvit", 6, 64, 0.0490722656f, 0.143554688f, 0, 0.018253326416015625},
};

static void test_reference(void) {
    for (size_t g = 0; g < sizeof gates / sizeof *gates; g++) {
        char path[1024], name[32];
        trol_error error = {0};
        torch_file *file;
        snprintf(path, sizeof path, "%s/%s/trol_gating.pt", TEST_REFERENCE, gates[g].name);
        CHECK_OK(torch_file_read(path, &file, &error), error);
        if (!file)
            continue;
        CHECK(torch_file_count(file) == gates[g].n_tensors, "%s: %zu tensors", gates[g].name, torch_file_count(file));
        const torch_tensor *first = torch_file_find(file, "0.weight");
        for (size_t i = 0; i < gates[g].n_tensors / 2; i++) {
            snprintf(name, sizeof name, "%zu.weight", i);
            const torch_tensor *w = torch_file_find(file, name);
            snprintf(name, sizeof name, "%zu.bias", i);
            const torch_tensor *b = torch_file_find(file, name);
            CHECK(w && b && w == torch_file_at(file, 2 * i) && b == torch_file_at(file, 2 * i + 1), "%s: layer %zu",
                  gates[g].name, i);
            if (!w || !b)
                continue;
            double sum = 0;
            for (size_t k = 0; k < w->n_values; k++)
                sum += w->values[k];
            CHECK(w->n_dims == 2 && w->shape[0] == 1 && w->shape[1] == (int64_t)gates[g].hidden, "%s", gates[g].name);
            CHECK(b->n_dims == 1 && b->shape[0] == 1 && b->n_values == 1, "%s", gates[g].name);
            CHECK(w->values[0] == gates[g].first && w->values[w->n_values - 1] == gates[g].last &&
                      fabs(sum - gates[g].sum) < 1e-9 && b->values[0] == gates[g].bias,
                  "%s: %.9g %.9g %.17g %g", gates[g].name, (double)w->values[0], (double)w->values[w->n_values - 1],
                  sum, (double)b->values[0]);
            CHECK(w->values == first->values, "%s: layers share their values", gates[g].name);
        }
        CHECK(!torch_file_find(file, "3.weight") && !torch_file_at(file, 6), "no more tensors");
        torch_file_free(file);
    }
    torch_file_free(NULL);
}

/* ---- tensors --------------------------------------------------------------------------------- */

static const struct {
    tensor_spec tensor;
    size_t n_values;
    float values[12];
} good_tensors[] = {
    {{"FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1}}, 6, {1, 2, 3, 4, 5, 6}},
    {{"FloatStorage", "0", 6, 0, 2, {3, 2}, {1, 3}}, 6, {1, 4, 2, 5, 3, 6}}, /* transposed */
    {{"FloatStorage", "0", 6, 5, 1, {1}, {70000}}, 1, {6}},
    {{"FloatStorage", "0", 6, 1, 0, {0}, {0}}, 1, {2}},                      /* no dimension */
    {{"FloatStorage", "0", 6, 100, 2, {0, 7}, {7, 1}}, 0, {0}},              /* no values */
    {{"FloatStorage", "0", 6, 2, 2, {3, 2}, {0, 2}}, 6, {3, 5, 3, 5, 3, 5}}, /* expanded */
    {{"FloatStorage", "0", 4, 0, 3, {2, 1, 2}, {2, 9, 1}}, 4, {1, 2, 3, 4}}, /* fewer values than the entry has */
    {{"HalfStorage", "1", 3, 0, 1, {3}, {1}}, 3, {1, -2, 0x1p-24f}},
    {{"BFloat16Storage", "2", 3, 0, 1, {3}, {1}}, 3, {1, -2, 0.5f}},
    {{"HalfStorage", "2", 3, 1, 1, {1}, {1}}, 1, {-2}},
};

static void test_tensors(void) {
    static buffer pickle, zip;
    trol_error error = {0};
    torch_file *file;
    for (size_t i = 0; i < sizeof good_tensors / sizeof *good_tensors; i++) {
        pickle.n = 0;
        put_state_dict(&pickle, &good_tensors[i].tensor, 1);
        put_file(&zip, pickle.bytes, pickle.n, &plain);
        CHECK_OK(parse(zip.bytes, zip.n, &file, &error), error);
        const torch_tensor *t = file ? torch_file_find(file, "a") : NULL;
        CHECK(t && t->n_values == good_tensors[i].n_values && t->n_dims == good_tensors[i].tensor.n_dims, "tensor %zu",
              i);
        for (size_t k = 0; t && k < t->n_values; k++)
            CHECK(t->values[k] == good_tensors[i].values[k], "tensor %zu, value %zu: %g", i, k, (double)t->values[k]);
        torch_file_free(file);
    }
    /* The same place is stored once, another place or another view of it is not. */
    const tensor_spec three[] = {good_tensors[0].tensor, good_tensors[1].tensor, good_tensors[0].tensor};
    pickle.n = 0;
    put_state_dict(&pickle, three, 3);
    put_file(&zip, pickle.bytes, pickle.n, &plain);
    CHECK_OK(parse(zip.bytes, zip.n, &file, &error), error);
    if (file) {
        const float *a = torch_file_find(file, "a")->values;
        CHECK(a == torch_file_find(file, "c")->values && a != torch_file_find(file, "b")->values, "values are shared");
        torch_file_free(file);
    }
}

static const struct {
    tensor_spec tensor;
    const char *part;
} broken_tensors[] = {
    {{"FloatStorage", "0", 6, 0, 1, {7}, {1}}, "reaches past its storage of 6 values"},
    {{"FloatStorage", "0", 6, 1, 1, {6}, {1}}, "reaches past"},
    {{"FloatStorage", "0", 6, 0, 2, {2, 3}, {4, 1}}, "reaches past"},
    {{"FloatStorage", "0", 6, 6, 0, {0}, {0}}, "reaches past"},
    {{"FloatStorage", "0", 6, -1, 1, {6}, {1}}, "called with something other"},
    {{"FloatStorage", "0", 6, 0, 1, {-6}, {1}}, "called with something other"},
    {{"FloatStorage", "0", 6, 0, 1, {6}, {-1}}, "called with something other"},
    {{"FloatStorage", "0", 6, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}}, "called with something other"},
    {{"FloatStorage", "0", 6, 0, 4, {2147483647, 2147483647, 2147483647, 2147483647}, {0}}, "reaches past"},
    {{"FloatStorage", "0", 6, 0, 4, {2147483647, 2147483647, 2, 1}, {2147483647, 2147483647, 2147483647, 2147483647}},
     "reaches past"},
    {{"FloatStorage", "0", 6, 0, 2, {65536, 65536}, {0, 0}}, "has 4294967296 values, expected at most"},
    {{"FloatStorage", "0", 7, 0, 1, {6}, {1}}, "storage data/0 should hold 7 values, but has 24 bytes, expected 28"},
    {{"FloatStorage", "0", -1, 0, 1, {6}, {1}}, "is not a storage"},
    {{"FloatStorage", "1", 3, 0, 1, {3}, {1}}, "storage data/1 should hold 3 values, but has 6 bytes"},
    {{"FloatStorage", "9", 6, 0, 1, {6}, {1}}, "storage data/9 is missing"},
    {{"FloatStorage", "../version", 0, 0, 1, {0}, {1}}, "storage data/../version is missing"},
    {{"FloatStorage", "", 6, 0, 1, {6}, {1}}, "is missing"},
    {{"DoubleStorage", "0", 3, 0, 1, {3}, {1}}, "the global torch.DoubleStorage"},
};

static void test_broken_tensors(void) {
    static buffer pickle, zip;
    for (size_t i = 0; i < sizeof broken_tensors / sizeof *broken_tensors; i++) {
        char what[32];
        snprintf(what, sizeof what, "tensor %zu", i);
        pickle.n = 0;
        put_state_dict(&pickle, &broken_tensors[i].tensor, 1);
        put_file(&zip, pickle.bytes, pickle.n, &plain);
        check_refused(&zip, what, broken_tensors[i].part);
    }
    /* Many tensors that repeat one number: each is small enough, together they are not. */
    tensor_spec many[26];
    for (int i = 0; i < 26; i++)
        many[i] = (tensor_spec){"FloatStorage", "0", 6, i % 6, 2, {1000, 1000 + i}, {0, 0}};
    pickle.n = 0;
    put_state_dict(&pickle, many, 26);
    put_file(&zip, pickle.bytes, pickle.n, &plain);
    check_refused(&zip, "many", "more than 16777216 values together");
}

/* ---- pickles --------------------------------------------------------------------------------- */

#define DICT         "ccollections\nOrderedDict\n)R"
#define PICKLE(text) "\x80\2" text, sizeof("\x80\2" text) - 1

static const struct {
    const char *pickle;
    size_t n_bytes;
    const char *part;
} broken_pickles[] = {
    {"", 0, "cut short at byte 0"},
    {"\x80", 1, "cut short"},
    {"}.", 2, "does not begin with a protocol"},
    {"\x80\1}.", 4, "does not begin with a protocol"},
    {"\x80\6}.", 4, "does not begin with a protocol"},
    {PICKLE(""), "cut short"},
    {PICKLE("."), "stack is empty"},
    {PICKLE("}"), "cut short"},
    {PICKLE("}.x"), "more bytes follow its end"},
    {PICKLE("}}."), "more than one value is left"},
    {PICKLE("(}."), "more than one value is left"},
    {PICKLE("N."), "found None, expected a dict"},
    {PICKLE("(."), "found a mark, expected a dict"},
    {PICKLE(")."), "found a tuple, expected a dict"},
    {PICKLE("]."), "opcode 0x5d (EMPTY_LIST) at byte 2"},
    {PICKLE("\x81"), "opcode 0x81 (NEWOBJ)"},
    {PICKLE("\x93"), "opcode 0x93 (STACK_GLOBAL)"},
    {PICKLE("\x80\2}."), "opcode 0x80 (PROTO)"},
    {PICKLE("i"), "opcode 0x69 (INST)"},
    {PICKLE("o"), "opcode 0x6f (OBJ)"},
    {PICKLE("\x8c\1a"), "opcode 0x8c (SHORT_BINUNICODE)"},
    {PICKLE("\x82"), "opcode 0x82 (EXT1)"},
    {PICKLE("P0\n"), "opcode 0x50 (PERSID)"},
    {PICKLE("\xff"), "opcode 0xff (unknown to pickle)"},
    {PICKLE("cposix\nsystem\n(X\2\0\0\0lstR."), "the global posix.system"},
    {PICKLE("c__builtin__\neval\n"), "the global __builtin__.eval"},
    {PICKLE("ccollections\nCounter\n"), "the global collections.Counter"},
    {PICKLE("ctorch\nOrderedDict\n"), "the global torch.OrderedDict"},
    {PICKLE("cpos\033[2Jix\nsystem\n"), "the global pos?[2Jix.system"},
    {PICKLE("ccollections"), "a global's name has no end"},
    {PICKLE("ccollections\nOrderedDict"), "a global's name has no end"},
    {PICKLE("ccollections\nOrderedDict\nR"), "found a global, expected a tuple"},
    {PICKLE("N)R"), "found None, expected a global"},
    {PICKLE("ccollections\nOrderedDict\nN\x85R"), "calls collections.OrderedDict with 1 arguments"},
    {PICKLE("ctorch\nFloatStorage\n)R"), "calls torch.FloatStorage with 0 arguments"},
    {PICKLE("ctorch._utils\n_rebuild_tensor_v2\n)R"), "called with something other"},
    {PICKLE("ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR"), "called with something other"},
    {PICKLE("Q"), "stack is empty"},
    {PICKLE("NQ"), "found None, expected a tuple"},
    {PICKLE(")Q"), "is not a storage"},
    {PICKLE("(X\7\0\0\0storageccollections\nOrderedDict\nX\1\0\0\0000X\3\0\0\0cpuK\6tQ"), "is not a storage"},
    {PICKLE("(X\7\0\0\0storadectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\6tQ"), "is not a storage"},
    {PICKLE("q\0"), "there is nothing to put into the memo"},
    {PICKLE("(q\0"), "there is nothing to put into the memo"},
    {PICKLE("}r\xff\xff\xff\xff"), "memo's number is too large"},
    {PICKLE("h\0"), "never put"},
    {PICKLE("}q\5h\4"), "never put"},
    {PICKLE("j\xff\xff\xff\x7f"), "never put"},
    {PICKLE("\x85"), "stack is empty"},
    {PICKLE("N\x86"), "stack is empty"},
    {PICKLE("(N\x86"), "a mark is where a value"},
    {PICKLE("t"), "no mark is on its stack"},
    {PICKLE("NNu"), "no mark is on its stack"},
    {PICKLE("}(Nu"), "a key has no value"},
    {PICKLE("N(NNu"), "in something that is not a dict"},
    {PICKLE("(NNu"), "stack is empty"},
    {PICKLE("NNs"), "stack is empty"},
    {PICKLE("NNNs"), "in something that is not a dict"},
    {PICKLE("}(NNs"), "in something that is not a dict"},
    {PICKLE("}(Ns"), "a mark is where a value"},
    {PICKLE("}Nb"), "found None, expected a dict"},
    {PICKLE("N}b"), "attributes are set on something"},
    {PICKLE("}b"), "attributes are set on something"},
    {PICKLE("X\xff\xff\xff\xff"), "cut short"},
    {PICKLE("X\3\0\0\0ab"), "cut short"},
    {PICKLE("X\2\0\0\0\xc0\x80"), "a text is not UTF-8"},
    {PICKLE("X\3\0\0\0a\0b"), "holds a NUL character"},
    {PICKLE("J\1\2\3"), "cut short"},
    {PICKLE("M\1"), "cut short"},
    {PICKLE("K"), "cut short"},
    {PICKLE("}NK\1s."), "a key of its dict is None, expected a text"},
    {PICKLE("}X\3\0\0\0fooK\1s."), "its entry foo is a number, expected a tensor"},
    {PICKLE(DICT "X\3\0\0\0foo}s."), "its entry foo is a dict, expected a tensor"},
};

static void test_broken_pickles(void) {
    static buffer zip;
    for (size_t i = 0; i < sizeof broken_pickles / sizeof *broken_pickles; i++) {
        char what[32];
        snprintf(what, sizeof what, "pickle %zu", i);
        put_file(&zip, broken_pickles[i].pickle, broken_pickles[i].n_bytes, &plain);
        check_refused(&zip, what, broken_pickles[i].part);
    }
    static buffer pickle;
    const tensor_spec *t = &good_tensors[0].tensor;
    pickle.n = 0;
    put(&pickle, "\x80\2}(", 4);
    for (int i = 0; i < 2; i++) {
        put_text(&pickle, "same");
        put_tensor(&pickle, t);
    }
    put(&pickle, "u.", 2);
    put_file(&zip, pickle.bytes, pickle.n, &plain);
    check_refused(&zip, "twice", "holds the tensor same twice");
}

/* Dicts of no tensors: with attributes, with a memo of large numbers, with keys of any kind where none matters. */
static void test_good_pickles(void) {
    static const struct {
        const char *pickle;
        size_t n_bytes;
    } good[] = {
        {PICKLE("}.")},
        {PICKLE(DICT ".")},
        {PICKLE(DICT "(u.")},
        {PICKLE(DICT "q\1}X\x09\0\0\0_metadata" DICT "(X\0\0\0\0}X\7\0\0\0versionK\1susb.")},
        {PICKLE("}}r\1\1\0\0\x88\x89N)\x85\x86\x87J\xff\xff\xff\xffsM\1\2j\1\1\0\0sb.")},
        {"\x80\5}.", 4},
    };
    static buffer zip;
    trol_error error = {0};
    torch_file *file;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        put_file(&zip, good[i].pickle, good[i].n_bytes, &plain);
        CHECK_OK(parse(zip.bytes, zip.n, &file, &error), error);
        CHECK(file && torch_file_count(file) == 0 && torch_file_find(file, "a") == NULL, "pickle %zu", i);
        torch_file_free(file);
    }
}

/* ---- archives -------------------------------------------------------------------------------- */

static void test_archives(void) {
    static const struct {
        oddity odd;
        const char *part; /* NULL: it is read */
    } archives[] = {
        {{.comment = "a comment PK\5\6 with a signature, and room for a whole record behind it"}, NULL},
        {{.zip64 = 1}, NULL},
        {{.zip64 = 1, .comment = "c"}, NULL},
        {{.flags = 0x808}, NULL},
        {{.method = 8}, "compressed (method 8, deflate), expected stored"},
        {{.method = 93}, "compressed (method 93)"},
        {{.flags = 1}, "is encrypted"},
        {{.stored_sizes_differ = 1}, "a stored entry has two sizes"},
        {{.local_names_differ = 1}, "an entry has two names"},
        {{.offset_shift = 1}, "header is not where the directory says"},
        {{.offset_shift = 1 << 20}, "header is not where the directory says"},
        {{.zip64 = 1, .offset_shift = (uint64_t)-40}, "header is not where the directory says"},
        {{.entries_shift = 1}, "its directory is broken"},
        {{.entries_shift = 1000}, "no room for its entries"},
        {{.entries_shift = (uint64_t)-7}, "has no entries"},
    };
    static buffer pickle, zip;
    trol_error error = {0};
    torch_file *file;
    put_state_dict(&pickle, &good_tensors[0].tensor, 1);
    for (size_t i = 0; i < sizeof archives / sizeof *archives; i++) {
        char what[32];
        snprintf(what, sizeof what, "archive %zu", i);
        put_file(&zip, pickle.bytes, pickle.n, &archives[i].odd);
        if (archives[i].part) {
            check_refused(&zip, what, archives[i].part);
            continue;
        }
        CHECK_OK(parse(zip.bytes, zip.n, &file, &error), error);
        CHECK(file && torch_file_count(file) == 1, "%s", what);
        torch_file_free(file);
    }

    const part other_folder[] = {{"x/data.pkl", pickle.bytes, pickle.n}, {"y/data/0", storage_0, 24}};
    put_archive(&zip, other_folder, 2, &plain);
    check_refused(&zip, "other folder", "storage data/0 is missing");
    const part two_pickles[] = {{"x/data.pkl", pickle.bytes, pickle.n}, {"y/data.pkl", pickle.bytes, pickle.n}};
    put_archive(&zip, two_pickles, 2, &plain);
    check_refused(&zip, "two pickles", "holds two data.pkl");
    const part same_names[] = {{"x/data.pkl", pickle.bytes, pickle.n}, {"x/data.pkl", pickle.bytes, pickle.n}};
    put_archive(&zip, same_names, 2, &plain);
    check_refused(&zip, "same names", "two entries have the same name");
    const part no_pickle[] = {
        {"x/y/data.pkl", pickle.bytes, pickle.n}, {"data.pkl", pickle.bytes, pickle.n}, {"x/mydata.pkl", "", 0}};
    put_archive(&zip, no_pickle, 3, &plain);
    check_refused(&zip, "no pickle", "holds no data.pkl");
    const part big[] = {{"x/data.pkl", pickle.bytes, pickle.n}, {"x/byteorder", "big", 3}, {"x/data/0", storage_0, 24}};
    put_archive(&zip, big, 3, &plain);
    check_refused(&zip, "big", "byteorder is \"big\", expected \"little\"");
    zip.n = 0;
    check_refused(&zip, "nothing", "not a valid zip archive");
    put(&zip, "\x80\2\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15); /* how torch.save began before 1.6 */
    check_refused(&zip, "old file", "not a valid zip archive");
}

/* Every beginning of a file is refused, and no change of a few bits does harm. */
static void test_damage(void) {
    static buffer pickle, zip, copy;
    const tensor_spec tensors[] = {good_tensors[0].tensor, good_tensors[1].tensor, good_tensors[7].tensor};
    trol_error error = {0};
    torch_file *file;
    uint64_t random = 5;
    int accepted = 0;
    put_state_dict(&pickle, tensors, 3);
    put_file(&zip, pickle.bytes, pickle.n, &plain);
    for (copy = zip, copy.n = 0; copy.n < zip.n; copy.n++)
        check_refused(&copy, "cut short", "not a valid zip archive");
    for (int i = 0; i < 20000; i++) {
        copy = zip;
        for (int flips = 1 + (int)(test_random(&random) % 3); flips > 0; flips--)
            copy.bytes[test_random(&random) % copy.n] ^= (unsigned char)(1 << test_random(&random) % 8);
        trol_status status = parse(copy.bytes, copy.n, &file, &error);
        CHECK(status == TROL_OK ? file != NULL : error.message[0] && file == NULL, "status %d", (int)status);
        accepted += status == TROL_OK;
        torch_file_free(file);
    }
    CHECK(accepted > 1000 && accepted < 15000, "%d of 20000 damaged files are read", accepted);
}

static void test_files(void) {
    trol_error error = {0};
    torch_file *file;
    test_make_folder();
    CHECK(torch_file_read(test_path("absent.pt"), &file, &error) == TROL_ERROR_IO && strstr(error.message, "absent.pt"),
          "%s", error.message);
    CHECK(torch_file_read(test_folder, &file, &error) == TROL_ERROR_IO && strstr(error.message, "is a folder"), "%s",
          error.message);
    test_write("large.pt", "PK", 2);
    CHECK(truncate(test_path("large.pt"), (off_t)33 << 20) == 0 &&
              torch_file_read(test_path("large.pt"), &file, &error) == TROL_ERROR_FORMAT &&
              strstr(error.message, "at most 33554432"),
          "%s", error.message);
    test_remove_folder();
}

int main(void) {
    test_reference();
    test_tensors();
    test_broken_tensors();
    test_good_pickles();
    test_broken_pickles();
    test_archives();
    test_damage();
    test_files();
    return test_summary("test-torch-pickle");
}
