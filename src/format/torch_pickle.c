/* torch_pickle.c - a machine for the few pickle opcodes that torch.save emits for a state dict.
 *
 * A pickle is a program for a stack machine. This one builds only tensors and dicts of them: it cannot name, let alone
 * call, anything but the globals listed below. Its memory is bounded by the pickle's length and the limits below.
 *
 * The archive has one folder of any name with the entries data.pkl (the pickle), data/KEY (a storage: little-endian
 * numbers) and byteorder ("little" or "big"; absent in older files, which are little). Other entries (version,
 * .data/serialization_id, ...) are not needed.
 *
 * Sources: Python's pickletools.py for the opcodes, torch/serialization.py (_save) for the archive. */
#include "format/torch_pickle.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/float16.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "format/json.h"
#include "base/download.h"
#include "format/zip.h"
#include "kernels/types.h"

enum {
    MAX_FILE_BYTES = 32 << 20,
    MAX_VALUES = 1 << 24, /* of all tensors together, shared ones counted once */
    MAX_TENSORS = 4096,
    MAX_DIMS = 8,
    MAX_MEMO = 1 << 20,
    MAX_STACK = 1 << 20,
    MAX_LINE_BYTES = 256 /* of a global's module or name */
};

struct torch_file {
    torch_tensor *tensors;
    size_t n_tensors;
    void *arrays; /* float *[n_arrays]: the values that tensors point to */
    size_t n_arrays, array_capacity;
};

/* ---- opcodes --------------------------------------------------------------------------------- */

enum opcode {
    OP_MARK = '(',
    OP_EMPTY_TUPLE = ')',
    OP_STOP = '.',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINUNICODE = 'X',
    OP_EMPTY_DICT = '}',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89
};

/* The name of an unsupported opcode, for messages; NULL if pickle has none of that number. */
static const char *refused_name(unsigned char opcode) {
    static const struct {
        unsigned char opcode;
        const char *name;
    } letters[] = {
        {'0', "POP"},
        {'1', "POP_MARK"},
        {'2', "DUP"},
        {'B', "BINBYTES"},
        {'C', "SHORT_BINBYTES"},
        {'F', "FLOAT"},
        {'G', "BINFLOAT"},
        {'I', "INT"},
        {'L', "LONG"},
        {'P', "PERSID"},
        {'S', "STRING"},
        {'T', "BINSTRING"},
        {'U', "SHORT_BINSTRING"},
        {'V', "UNICODE"},
        {']', "EMPTY_LIST"},
        {'a', "APPEND"},
        {'d', "DICT"},
        {'e', "APPENDS"},
        {'g', "GET"},
        {'i', "INST"},
        {'l', "LIST"},
        {'o', "OBJ"},
        {'p', "PUT"},
    };
    static const char *const numbers[] = {
        /* from 0x80 */
        "PROTO",     "NEWOBJ",     "EXT1",        "EXT2",           "EXT4",      "TUPLE1",           "TUPLE2",
        "TUPLE3",    "NEWTRUE",    "NEWFALSE",    "LONG1",          "LONG4",     "SHORT_BINUNICODE", "BINUNICODE8",
        "BINBYTES8", "EMPTY_SET",  "ADDITEMS",    "FROZENSET",      "NEWOBJ_EX", "STACK_GLOBAL",     "MEMOIZE",
        "FRAME",     "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"};
    if (opcode >= 0x80)
        return opcode - 0x80u < sizeof numbers / sizeof *numbers ? numbers[opcode - 0x80] : NULL;
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
        if (letters[i].opcode == opcode)
            return letters[i].name;
    return NULL;
}

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum global {
    GLOBAL_ORDERED_DICT,
    GLOBAL_REBUILD_TENSOR,
    GLOBAL_FLOAT_STORAGE,
    GLOBAL_HALF_STORAGE,
    GLOBAL_BFLOAT16_STORAGE,
    GLOBALS
} global;

static const struct {
    const char *module, *name;
} global_names[GLOBALS] = {
    [GLOBAL_ORDERED_DICT] = {"collections", "OrderedDict"},
    [GLOBAL_REBUILD_TENSOR] = {"torch._utils", "_rebuild_tensor_v2"},
    [GLOBAL_FLOAT_STORAGE] = {"torch", "FloatStorage"},
    [GLOBAL_HALF_STORAGE] = {"torch", "HalfStorage"},
    [GLOBAL_BFLOAT16_STORAGE] = {"torch", "BFloat16Storage"},
};

typedef enum kind {
    KIND_MARK,
    KIND_NONE,
    KIND_BOOL,
    KIND_INTEGER,
    KIND_TEXT,    /* in the pickle: begin, length */
    KIND_GLOBAL,  /* integer: a `global` */
    KIND_TUPLE,   /* in machine.items: begin, length */
    KIND_DICT,    /* integer: its number */
    KIND_STORAGE, /* begin: index in machine.storages */
    KIND_TENSOR   /* begin: index in machine.tensors */
} kind;

static const char *const kind_names[] = {"a mark",   "None",    "a truth value", "a number",  "a text",
                                         "a global", "a tuple", "a dict",        "a storage", "a tensor"};

typedef struct value {
    kind kind;
    uint32_t begin, length;
    int64_t integer;
} value;

typedef struct storage {
    element_type type;
    const unsigned char *data;
    int64_t n_values;
} storage;

/* A tensor that the pickle builds, and where its numbers are. */
typedef struct built_tensor {
    const unsigned char *data; /* of the storage */
    element_type type;
    int64_t offset, shape[MAX_DIMS], stride[MAX_DIMS]; /* in values */
    int n_dims;
    size_t n_values;
    float *values; /* an array of the torch_file */
} built_tensor;

typedef struct dict_item {
    int64_t dict; /* the dict's number */
    value key, content;
} dict_item;

typedef struct machine {
    const char *path;            /* for messages */
    const unsigned char *pickle; /* n_bytes long */
    size_t n_bytes, at, opcode_at;
    const zip_archive *archive;
    const char *prefix; /* the archive's folder with its slash, prefix_bytes long */
    size_t prefix_bytes;
    torch_file *file;
    trol_error *error;

    void *stack, *memo, *items; /* value[]; a memo slot that is not set is KIND_MARK */
    size_t n_stack, n_memo, n_items, stack_capacity, memo_capacity, items_capacity;
    void *storages, *tensors, *dict_items; /* storage[], built_tensor[], dict_item[] */
    size_t n_storages, n_tensors, n_dict_items, storages_capacity, tensors_capacity, dict_items_capacity;
    int64_t n_dicts;
    size_t n_values; /* of all arrays */
} machine;

static trol_status broken(machine *m, const char *what) {
    return fail(m->error, TROL_ERROR_FORMAT, "%s: its pickle is broken at byte %zu: %s", m->path, m->opcode_at, what);
}

static value *stack_of(machine *m) { return m->stack; }

static trol_status push(machine *m, value v) {
    if (m->n_stack == MAX_STACK)
        return broken(m, "its stack grows without end");
    TRY(memory_grow(&m->stack, &m->stack_capacity, m->n_stack + 1, sizeof(value), m->path, m->error));
    stack_of(m)[m->n_stack++] = v;
    return TROL_OK;
}

/* Takes the topmost value, which must be of a kind. */
static trol_status pop(machine *m, kind expected, value *v) {
    if (m->n_stack == 0)
        return broken(m, "its stack is empty");
    *v = stack_of(m)[m->n_stack - 1];
    if (v->kind != expected)
        return fail(m->error, TROL_ERROR_FORMAT, "%s: its pickle is broken at byte %zu: found %s, expected %s", m->path,
                    m->opcode_at, kind_names[v->kind], kind_names[expected]);
    m->n_stack--;
    return TROL_OK;
}

/* How many values are above the topmost mark. */
static trol_status count_to_mark(machine *m, size_t *count) {
    for (*count = 0; *count < m->n_stack; ++*count)
        if (stack_of(m)[m->n_stack - 1 - *count].kind == KIND_MARK)
            return TROL_OK;
    return broken(m, "no mark is on its stack");
}

/* n topmost values, none a mark, become a tuple. */
static trol_status make_tuple(machine *m, size_t n) {
    if (m->n_stack < n)
        return broken(m, "its stack is empty");
    const value *from = n ? stack_of(m) + (m->n_stack - n) : NULL;
    for (size_t i = 0; i < n; i++)
        if (from[i].kind == KIND_MARK)
            return broken(m, "a mark is where a value is expected");
    if (m->n_items + n > UINT32_MAX)
        return broken(m, "its tuples are too long");
    TRY(memory_grow(&m->items, &m->items_capacity, m->n_items + n, sizeof(value), m->path, m->error));
    if (n)
        memcpy((value *)m->items + m->n_items, from, n * sizeof(value));
    value tuple = {.kind = KIND_TUPLE, .begin = (uint32_t)m->n_items, .length = (uint32_t)n};
    m->n_items += n;
    m->n_stack -= n;
    return push(m, tuple);
}

/* NULL where there are none. */
static const value *tuple_items(const machine *m, value tuple) {
    return tuple.length ? (const value *)m->items + tuple.begin : NULL;
}

static const char *text_of(const machine *m, value text) { return (const char *)m->pickle + text.begin; }

/* Cut to 200 bytes, for messages. */
static int shown(value text) { return text.length < 200 ? (int)text.length : 200; }

/* ---- reading the pickle ---------------------------------------------------------------------- */

static trol_status take_bytes(machine *m, size_t n, const unsigned char **bytes) {
    if (m->n_bytes - m->at < n)
        return fail(m->error, TROL_ERROR_FORMAT, "%s: its pickle is cut short at byte %zu", m->path, m->n_bytes);
    *bytes = m->pickle + m->at;
    m->at += n;
    return TROL_OK;
}

/* A little-endian number of 1 to 4 bytes. */
static trol_status take_unsigned(machine *m, int n, uint32_t *number) {
    const unsigned char *bytes;
    TRY(take_bytes(m, (size_t)n, &bytes));
    *number = 0;
    for (int i = n; i-- > 0;)
        *number = *number << 8 | bytes[i];
    return TROL_OK;
}

static trol_status push_integer(machine *m, int n_bytes) {
    uint32_t number;
    TRY(take_unsigned(m, n_bytes, &number));
    int64_t integer = n_bytes == 4 && number > INT32_MAX ? (int64_t)number - ((int64_t)1 << 32) : (int64_t)number;
    return push(m, (value){.kind = KIND_INTEGER, .integer = integer});
}

static trol_status push_text(machine *m) {
    uint32_t length;
    const unsigned char *bytes;
    TRY(take_unsigned(m, 4, &length));
    TRY(take_bytes(m, length, &bytes));
    if (utf8_valid_prefix((const char *)bytes, length) != length || memchr(bytes, '\0', length))
        return broken(m, "a text is not UTF-8 or holds a NUL character");
    return push(m, (value){.kind = KIND_TEXT, .begin = (uint32_t)(bytes - m->pickle), .length = length});
}

/* A line without its line break. */
static trol_status take_line(machine *m, const char **line, size_t *length) {
    const unsigned char *begin = m->pickle + m->at;
    size_t room = m->n_bytes - m->at < MAX_LINE_BYTES ? m->n_bytes - m->at : MAX_LINE_BYTES;
    const unsigned char *end = memchr(begin, '\n', room);
    if (!end)
        return broken(m, "a global's name has no end");
    *line = (const char *)begin;
    *length = (size_t)(end - begin);
    m->at += *length + 1;
    return TROL_OK;
}

static bool same_text(const char *text, size_t length, const char *other) {
    return length == strlen(other) && memcmp(text, other, length) == 0;
}

static trol_status push_global(machine *m) {
    const char *module, *name;
    size_t module_bytes, name_bytes;
    TRY(take_line(m, &module, &module_bytes));
    TRY(take_line(m, &name, &name_bytes));
    for (int g = 0; g < GLOBALS; g++)
        if (same_text(module, module_bytes, global_names[g].module) &&
            same_text(name, name_bytes, global_names[g].name))
            return push(m, (value){.kind = KIND_GLOBAL, .integer = g});
    return fail(m->error, TROL_ERROR_UNSUPPORTED,
                "%s: its pickle names the global %.*s.%.*s, which a dict of F32, F16 and BF16 tensors does not need; "
                "it is refused",
                m->path, (int)module_bytes, module, (int)name_bytes, name);
}

static trol_status put_memo(machine *m, uint32_t index) {
    if (m->n_stack == 0 || stack_of(m)[m->n_stack - 1].kind == KIND_MARK)
        return broken(m, "there is nothing to put into the memo");
    if (index >= MAX_MEMO)
        return broken(m, "a memo's number is too large");
    if (index >= m->n_memo) {
        TRY(memory_grow(&m->memo, &m->memo_capacity, (size_t)index + 1, sizeof(value), m->path, m->error));
        for (; m->n_memo <= index; m->n_memo++)
            ((value *)m->memo)[m->n_memo] = (value){.kind = KIND_MARK};
    }
    ((value *)m->memo)[index] = stack_of(m)[m->n_stack - 1];
    return TROL_OK;
}

static trol_status get_memo(machine *m, uint32_t index) {
    if (index >= m->n_memo || ((value *)m->memo)[index].kind == KIND_MARK)
        return broken(m, "a memo is fetched that was never put");
    return push(m, ((value *)m->memo)[index]);
}

/* ---- storages and tensors -------------------------------------------------------------------- */

/* ('storage', type, key, location, number of values) becomes a storage. */
static trol_status load_storage(machine *m) {
    value id;
    TRY(pop(m, KIND_TUPLE, &id));
    const value *item = tuple_items(m, id);
    if (id.length != 5 || item[0].kind != KIND_TEXT || !same_text(text_of(m, item[0]), item[0].length, "storage") ||
        item[1].kind != KIND_GLOBAL || item[1].integer < GLOBAL_FLOAT_STORAGE || item[2].kind != KIND_TEXT ||
        item[3].kind != KIND_TEXT || item[4].kind != KIND_INTEGER || item[4].integer < 0)
        return broken(m, "a persistent id is not a storage, expected ('storage', type, key, location, size)");
    char name[256];
    int name_bytes = snprintf(name, sizeof name, "data/%.*s", shown(item[2]), text_of(m, item[2]));
    const zip_entry *entry = zip_find(m->archive, m->prefix, m->prefix_bytes, name, (size_t)name_bytes);
    if (!entry || item[2].length > 200)
        return fail(m->error, TROL_ERROR_FORMAT, "%s: its storage %s is missing", m->path, name);
    element_type type = item[1].integer == GLOBAL_FLOAT_STORAGE  ? ELEMENT_F32
                        : item[1].integer == GLOBAL_HALF_STORAGE ? ELEMENT_F16
                                                                 : ELEMENT_BF16;
    if ((uint64_t)item[4].integer > entry->n_bytes / element_bytes(type))
        return fail(m->error, TROL_ERROR_FORMAT,
                    "%s: its storage %s should hold %lld values, but has %zu bytes, expected %lld", m->path, name,
                    (long long)item[4].integer, entry->n_bytes,
                    (long long)item[4].integer * (long long)element_bytes(type));
    TRY(memory_grow(&m->storages, &m->storages_capacity, m->n_storages + 1, sizeof(storage), m->path, m->error));
    ((storage *)m->storages)[m->n_storages] = (storage){type, entry->data, item[4].integer};
    return push(m, (value){.kind = KIND_STORAGE, .begin = (uint32_t)m->n_storages++});
}

/* The non-negative whole numbers of a tuple of at most MAX_DIMS. */
static bool read_dims(const machine *m, value tuple, int64_t *dims) {
    if (tuple.kind != KIND_TUPLE || tuple.length > MAX_DIMS)
        return false;
    for (uint32_t i = 0; i < tuple.length; i++) {
        value item = tuple_items(m, tuple)[i];
        if (item.kind != KIND_INTEGER || item.integer < 0)
            return false;
        dims[i] = item.integer;
    }
    return true;
}

/* Counts the tensor's values and checks that all of them are within the storage. */
static trol_status measure(machine *m, built_tensor *t, int64_t storage_values) {
    int64_t count = 1, last = t->offset;
    for (int i = 0; i < t->n_dims; i++)
        if (t->shape[i] == 0)
            return TROL_OK; /* no values: wherever it starts, nothing is read */
    bool overflow = false;
    for (int i = 0; i < t->n_dims; i++) {
        int64_t reach = 0;
        overflow |= __builtin_mul_overflow(count, t->shape[i], &count);
        overflow |= __builtin_mul_overflow(t->shape[i] - 1, t->stride[i], &reach);
        overflow |= __builtin_add_overflow(last, reach, &last);
    }
    if (overflow || last >= storage_values)
        return fail(m->error, TROL_ERROR_FORMAT,
                    "%s: a tensor in its pickle (byte %zu) reaches past its storage of %lld values", m->path,
                    m->opcode_at, (long long)storage_values);
    if (count > MAX_VALUES)
        return fail(m->error, TROL_ERROR_FORMAT,
                    "%s: a tensor in its pickle (byte %zu) has %lld values, expected at most %d", m->path, m->opcode_at,
                    (long long)count, MAX_VALUES);
    t->n_values = (size_t)count;
    return TROL_OK;
}

static float read_value(element_type type, const unsigned char *data) {
    uint32_t bits = (uint32_t)data[0] | (uint32_t)data[1] << 8;
    if (type == ELEMENT_F16)
        return f16_to_float((uint16_t)bits);
    if (type == ELEMENT_BF16)
        return bf16_to_float((uint16_t)bits);
    return float_from_bits(bits | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24);
}

/* Writes a tensor's values in the order of its shape. */
static void gather(const built_tensor *t, float *out) {
    int64_t place[MAX_DIMS] = {0}, at = t->offset;
    size_t bytes = element_bytes(t->type);
    for (size_t i = 0; i < t->n_values; i++) {
        out[i] = read_value(t->type, t->data + (size_t)at * bytes);
        for (int d = t->n_dims; d-- > 0;) {
            at += t->stride[d];
            if (++place[d] < t->shape[d])
                break;
            at -= t->stride[d] * t->shape[d];
            place[d] = 0;
        }
    }
}

static bool same_place(const built_tensor *a, const built_tensor *b) {
    return a->data == b->data && a->type == b->type && a->offset == b->offset && a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, sizeof a->shape) == 0 && memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

/* Gives the tensor its values: those of an earlier tensor at the same place, or new ones. */
static trol_status give_values(machine *m, built_tensor *t) {
    const built_tensor *earlier = m->tensors;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (same_place(&earlier[i], t)) {
            t->values = earlier[i].values;
            return TROL_OK;
        }
    if (t->n_values > MAX_VALUES - m->n_values)
        return fail(m->error, TROL_ERROR_FORMAT, "%s: its tensors have more than %d values together", m->path,
                    MAX_VALUES);
    void *values;
    torch_file *file = m->file;
    TRY(memory_grow(&file->arrays, &file->array_capacity, file->n_arrays + 1, sizeof(float *), m->path, m->error));
    TRY(memory_alloc(t->n_values, sizeof(float), m->path, &values, m->error));
    ((float **)file->arrays)[file->n_arrays++] = values;
    t->values = values;
    m->n_values += t->n_values;
    gather(t, values);
    return TROL_OK;
}

/* (storage, offset, size, stride, requires_grad, backward_hooks[, metadata]) becomes a tensor. */
static trol_status rebuild_tensor(machine *m, value arguments) {
    const value *item = tuple_items(m, arguments);
    built_tensor t = {0};
    if (arguments.length < 6 || arguments.length > 7 || item[0].kind != KIND_STORAGE || item[1].kind != KIND_INTEGER ||
        item[1].integer < 0 || !read_dims(m, item[2], t.shape) || !read_dims(m, item[3], t.stride) ||
        item[2].length != item[3].length || item[4].kind != KIND_BOOL ||
        (item[5].kind != KIND_DICT && item[5].kind != KIND_NONE))
        return broken(m, "_rebuild_tensor_v2 is called with something other than (storage, offset, size, stride, "
                         "requires_grad, hooks)");
    if (m->n_tensors == MAX_TENSORS)
        return fail(m->error, TROL_ERROR_FORMAT, "%s holds more than %d tensors", m->path, MAX_TENSORS);
    const storage *source = (const storage *)m->storages + item[0].begin;
    t.data = source->data;
    t.type = source->type;
    t.offset = item[1].integer;
    t.n_dims = (int)item[2].length;
    TRY(measure(m, &t, source->n_values));
    TRY(give_values(m, &t));
    TRY(memory_grow(&m->tensors, &m->tensors_capacity, m->n_tensors + 1, sizeof t, m->path, m->error));
    ((built_tensor *)m->tensors)[m->n_tensors] = t;
    return push(m, (value){.kind = KIND_TENSOR, .begin = (uint32_t)m->n_tensors++});
}

/* ---- calls and dicts ------------------------------------------------------------------------- */

static trol_status push_dict(machine *m) { return push(m, (value){.kind = KIND_DICT, .integer = m->n_dicts++}); }

static trol_status reduce(machine *m) {
    value arguments, callee;
    TRY(pop(m, KIND_TUPLE, &arguments));
    TRY(pop(m, KIND_GLOBAL, &callee));
    if (callee.integer == GLOBAL_REBUILD_TENSOR)
        return rebuild_tensor(m, arguments);
    if (callee.integer == GLOBAL_ORDERED_DICT && arguments.length == 0)
        return push_dict(m);
    return fail(m->error, TROL_ERROR_UNSUPPORTED,
                "%s: its pickle calls %s.%s with %u arguments, which a dict of tensors does not need", m->path,
                global_names[callee.integer].module, global_names[callee.integer].name, arguments.length);
}

/* The n topmost values are keys and values of the dict below them, or (SETITEMS) below the mark below them. */
static trol_status set_items(machine *m, size_t n, bool marked) {
    size_t all = n + marked + 1;
    if (n % 2 != 0)
        return broken(m, "a key has no value");
    if (m->n_stack < all)
        return broken(m, "its stack is empty");
    const value *dict = stack_of(m) + (m->n_stack - all), *item = dict + 1 + marked;
    if (dict->kind != KIND_DICT)
        return broken(m, "items are set in something that is not a dict");
    for (size_t i = 0; i < n; i++)
        if (item[i].kind == KIND_MARK)
            return broken(m, "a mark is where a value is expected");
    TRY(memory_grow(&m->dict_items, &m->dict_items_capacity, m->n_dict_items + n / 2, sizeof(dict_item), m->path,
                    m->error));
    for (size_t i = 0; i < n; i += 2)
        ((dict_item *)m->dict_items)[m->n_dict_items++] = (dict_item){dict->integer, item[i], item[i + 1]};
    m->n_stack -= all - 1;
    return TROL_OK;
}

static trol_status set_items_to_mark(machine *m) {
    size_t n;
    TRY(count_to_mark(m, &n));
    return set_items(m, n, true);
}

/* A dict's attributes (_metadata, version numbers of modules) are checked for their form and not kept. */
static trol_status build(machine *m) {
    value state;
    TRY(pop(m, KIND_DICT, &state));
    if (m->n_stack == 0 || stack_of(m)[m->n_stack - 1].kind != KIND_DICT)
        return broken(m, "attributes are set on something that is not a dict");
    return TROL_OK;
}

static trol_status tuple_to_mark(machine *m) {
    size_t n;
    TRY(count_to_mark(m, &n));
    TRY(make_tuple(m, n));
    stack_of(m)[m->n_stack - 2] = stack_of(m)[m->n_stack - 1]; /* in the mark's place */
    m->n_stack--;
    return TROL_OK;
}

/* ---- running --------------------------------------------------------------------------------- */

static trol_status refuse(machine *m, unsigned char opcode) {
    const char *name = refused_name(opcode);
    return fail(
        m->error, name ? TROL_ERROR_UNSUPPORTED : TROL_ERROR_FORMAT,
        "%s: its pickle has the opcode 0x%02x (%s) at byte %zu, which a dict of tensors does not need; it is refused",
        m->path, opcode, name ? name : "unknown to pickle", m->opcode_at);
}

/* Executes one opcode other than STOP. */
static trol_status step(machine *m, unsigned char opcode) {
    uint32_t index;
    switch (opcode) {
    case OP_MARK:
        return push(m, (value){.kind = KIND_MARK});
    case OP_NONE:
        return push(m, (value){.kind = KIND_NONE});
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return push(m, (value){.kind = KIND_BOOL, .integer = opcode == OP_NEWTRUE});
    case OP_BININT:
        return push_integer(m, 4);
    case OP_BININT1:
        return push_integer(m, 1);
    case OP_BININT2:
        return push_integer(m, 2);
    case OP_BINUNICODE:
        return push_text(m);
    case OP_GLOBAL:
        return push_global(m);
    case OP_EMPTY_DICT:
        return push_dict(m);
    case OP_EMPTY_TUPLE:
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return make_tuple(m, opcode == OP_EMPTY_TUPLE ? 0 : opcode - OP_TUPLE1 + 1u);
    case OP_TUPLE:
        return tuple_to_mark(m);
    case OP_BINPUT:
    case OP_LONG_BINPUT:
        TRY(take_unsigned(m, opcode == OP_BINPUT ? 1 : 4, &index));
        return put_memo(m, index);
    case OP_BINGET:
    case OP_LONG_BINGET:
        TRY(take_unsigned(m, opcode == OP_BINGET ? 1 : 4, &index));
        return get_memo(m, index);
    case OP_BINPERSID:
        return load_storage(m);
    case OP_REDUCE:
        return reduce(m);
    case OP_SETITEM:
        return set_items(m, 2, false);
    case OP_SETITEMS:
        return set_items_to_mark(m);
    case OP_BUILD:
        return build(m);
    default:
        return refuse(m, opcode);
    }
}

/* Runs the whole pickle; *root is the dict that it leaves. */
static trol_status run_pickle(machine *m, value *root) {
    const unsigned char *bytes;
    TRY(take_bytes(m, 2, &bytes));
    if (bytes[0] != OP_PROTO || bytes[1] < 2 || bytes[1] > 5)
        return broken(m, "it does not begin with a protocol of 2 to 5");
    for (;;) {
        m->opcode_at = m->at;
        TRY(take_bytes(m, 1, &bytes));
        if (*bytes == OP_STOP)
            break;
        TRY(step(m, *bytes));
    }
    if (m->at != m->n_bytes)
        return broken(m, "more bytes follow its end");
    TRY(pop(m, KIND_DICT, root));
    return m->n_stack == 0 ? TROL_OK : broken(m, "more than one value is left at its end");
}

/* Copies the root dict's tensors, by name, to the file. */
static trol_status keep_tensors(machine *m, int64_t root) {
    const dict_item *items = m->dict_items;
    size_t n = 0;
    void *memory;
    for (size_t i = 0; i < m->n_dict_items; i++)
        n += items[i].dict == root;
    if (n > MAX_TENSORS)
        return fail(m->error, TROL_ERROR_FORMAT, "%s holds more than %d tensors", m->path, MAX_TENSORS);
    TRY(memory_alloc_zero(n, sizeof(torch_tensor), m->path, &memory, m->error));
    m->file->tensors = memory;
    for (size_t i = 0; i < m->n_dict_items; i++) {
        value key = items[i].key, content = items[i].content;
        if (items[i].dict != root)
            continue;
        if (key.kind != KIND_TEXT)
            return fail(m->error, TROL_ERROR_FORMAT, "%s: a key of its dict is %s, expected a text", m->path,
                        kind_names[key.kind]);
        if (content.kind != KIND_TENSOR)
            return fail(m->error, TROL_ERROR_FORMAT, "%s: its entry %.*s is %s, expected a tensor", m->path, shown(key),
                        text_of(m, key), kind_names[content.kind]);
        const built_tensor *from = (const built_tensor *)m->tensors + content.begin;
        torch_tensor *to = &m->file->tensors[m->file->n_tensors];
        TRY(memory_copy_text(text_of(m, key), key.length, &to->name, m->error));
        bool twice = torch_file_find(m->file, to->name) != NULL;
        m->file->n_tensors++;
        if (twice)
            return fail(m->error, TROL_ERROR_FORMAT, "%s holds the tensor %.200s twice", m->path, to->name);
        to->n_dims = from->n_dims;
        memcpy(to->shape, from->shape, sizeof to->shape);
        to->n_values = from->n_values;
        to->values = from->values;
    }
    return TROL_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The one entry NAME/data.pkl. */
static trol_status find_pickle(machine *m) {
    static const char name[] = "data.pkl";
    const size_t length = sizeof name - 1;
    const zip_entry *found = NULL;
    for (size_t i = 0; i < m->archive->n_entries; i++) {
        const zip_entry *entry = &m->archive->entries[i];
        const char *slash = memchr(entry->name, '/', entry->name_bytes);
        if (!slash || (size_t)(slash - entry->name) + 1 + length != entry->name_bytes ||
            memcmp(slash + 1, name, length) != 0)
            continue;
        if (found)
            return fail(m->error, TROL_ERROR_FORMAT, "%s holds two data.pkl", m->path);
        found = entry;
        m->prefix = entry->name;
        m->prefix_bytes = entry->name_bytes - length;
    }
    if (!found)
        return fail(m->error, TROL_ERROR_FORMAT, "%s holds no data.pkl: was it written by torch.save?", m->path);
    m->pickle = found->data;
    m->n_bytes = found->n_bytes;
    return TROL_OK;
}

static trol_status check_byte_order(machine *m) {
    static const char name[] = "byteorder", expected[] = "little";
    const zip_entry *entry = zip_find(m->archive, m->prefix, m->prefix_bytes, name, sizeof name - 1);
    if (entry && !same_text((const char *)entry->data, entry->n_bytes, expected))
        return fail(m->error, TROL_ERROR_UNSUPPORTED, "%s: its byteorder is \"%.*s\", expected \"little\"", m->path,
                    entry->n_bytes < 20 ? (int)entry->n_bytes : 20, (const char *)entry->data);
    return TROL_OK;
}

static void free_machine(machine *m) {
    memory_free(m->stack);
    memory_free(m->memo);
    memory_free(m->items);
    memory_free(m->storages);
    memory_free(m->tensors);
    memory_free(m->dict_items);
}

static trol_status read_archive(const zip_archive *archive, const char *path, torch_file *file, trol_error *error) {
    machine m = {.path = path, .archive = archive, .file = file, .error = error};
    value root;
    TRY(find_pickle(&m));
    TRY(check_byte_order(&m));
    trol_status status = run_pickle(&m, &root);
    if (status == TROL_OK)
        status = keep_tensors(&m, root.integer);
    free_machine(&m);
    return status;
}

trol_status torch_file_parse(const void *bytes, size_t n_bytes, const char *path, torch_file **file,
                             trol_error *error) {
    zip_archive archive;
    void *memory;
    *file = NULL;
    TRY(zip_open(bytes, n_bytes, path, &archive, error));
    trol_status status = memory_alloc_zero(1, sizeof(torch_file), path, &memory, error);
    if (status == TROL_OK) {
        status = read_archive(&archive, path, memory, error);
        if (status == TROL_OK)
            *file = memory;
        else
            torch_file_free(memory);
    }
    zip_close(&archive);
    return status;
}

trol_status torch_file_read(const char *path, torch_file **file, trol_error *error) {
    char *bytes;
    size_t n_bytes;
    *file = NULL;
    TRY(file_read(path, MAX_FILE_BYTES, &bytes, &n_bytes, error));
    trol_status status = download_check(path, bytes, n_bytes, error);
    if (status == TROL_OK)
        status = torch_file_parse(bytes, n_bytes, path, file, error);
    memory_free(bytes);
    return status;
}

const torch_tensor *torch_file_find(const torch_file *file, const char *name) {
    for (size_t i = 0; i < file->n_tensors; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

size_t torch_file_count(const torch_file *file) { return file->n_tensors; }

const torch_tensor *torch_file_at(const torch_file *file, size_t index) {
    return index < file->n_tensors ? &file->tensors[index] : NULL;
}

void torch_file_free(torch_file *file) {
    if (!file)
        return;
    for (size_t i = 0; i < file->n_tensors; i++)
        memory_free(file->tensors[i].name);
    for (size_t i = 0; i < file->n_arrays; i++)
        memory_free(((float **)file->arrays)[i]);
    memory_free(file->arrays);
    memory_free(file->tensors);
    memory_free(file);
}
