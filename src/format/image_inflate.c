/* image_inflate.c - zlib's format (RFC 1950 and 1951), unpacked bit by bit: for PNGs with a damaged end, where it must
 * be known how much data there is and whether the checksum is right. Whole PNGs are unpacked by stb_image. */
#include "format/image_formats.h"

enum { MAX_BITS = 15, MAX_LITERALS = 288, MAX_DISTANCES = 32, END_OF_BLOCK = 256 };

typedef struct inflater {
    byte_reader in;
    uint32_t bits;
    int n_bits;
    uint8_t *out;
    size_t n_out, room;
    bool overflows; /* more data than `room` */
} inflater;

/* A canonical Huffman code: the number of codes of each length, and the symbols in the order of their codes. */
typedef struct huffman {
    uint16_t count[MAX_BITS + 1], symbol[MAX_LITERALS];
} huffman;

/* The next n bits, first bit lowest; 0 past the end. */
static uint32_t take_bits(inflater *f, int n) {
    while (f->n_bits < n) {
        f->bits |= (uint32_t)read_u8(&f->in) << f->n_bits;
        f->n_bits += 8;
    }
    uint32_t taken = f->bits & ((1u << n) - 1);
    f->bits >>= n;
    f->n_bits -= n;
    return taken;
}

/* False if the lengths give more codes than there can be. */
static bool build_code(huffman *code, const uint8_t *lengths, int n) {
    uint16_t offset[MAX_BITS + 2] = {0};
    memset(code, 0, sizeof *code);
    for (int i = 0; i < n; i++)
        code->count[lengths[i]]++;
    code->count[0] = 0;
    int left = 1;
    for (int length = 1; length <= MAX_BITS; length++) {
        left = 2 * left - code->count[length];
        if (left < 0)
            return false;
        offset[length + 1] = (uint16_t)(offset[length] + code->count[length]);
    }
    for (int i = 0; i < n; i++)
        if (lengths[i])
            code->symbol[offset[lengths[i]]++] = (uint16_t)i;
    return true;
}

/* The symbol of the next code; -1: not a code. */
static int take_symbol(inflater *f, const huffman *code) {
    int value = 0, first = 0, index = 0;
    for (int length = 1; length <= MAX_BITS; length++) {
        value |= (int)take_bits(f, 1);
        int count = code->count[length];
        if (value - first < count)
            return code->symbol[index + value - first];
        index += count;
        first = (first + count) * 2;
        value *= 2;
    }
    return -1;
}

static void put_byte(inflater *f, uint8_t byte) {
    if (f->n_out < f->room)
        f->out[f->n_out++] = byte;
    else
        f->overflows = true;
}

/* Repeats `length` bytes from `distance` bytes back. */
static bool repeat(inflater *f, size_t length, size_t distance) {
    if (distance > f->n_out)
        return false;
    while (length-- > 0 && !f->overflows)
        put_byte(f, f->out[f->n_out - distance]);
    return true;
}

static bool inflate_coded(inflater *f, const huffman *literals, const huffman *distances) {
    static const uint16_t length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                             31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t length_bits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                            2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t distance_base[30] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                               33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                               1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    while (!f->in.past_end && !f->overflows) {
        int symbol = take_symbol(f, literals);
        if (f->in.past_end || symbol == END_OF_BLOCK)
            return true;
        if (symbol < 0 || symbol > END_OF_BLOCK + 29)
            return false;
        if (symbol < END_OF_BLOCK) {
            put_byte(f, (uint8_t)symbol);
            continue;
        }
        symbol -= END_OF_BLOCK + 1;
        size_t length = length_base[symbol] + take_bits(f, length_bits[symbol]);
        int far = take_symbol(f, distances);
        if (far < 0 || far > 29)
            return f->in.past_end;
        size_t distance = distance_base[far] + take_bits(f, far < 4 ? 0 : far / 2 - 1);
        if (!f->in.past_end && !repeat(f, length, distance))
            return false;
    }
    return true;
}

static bool inflate_stored(inflater *f) {
    f->bits = 0;
    f->n_bits = 0;
    unsigned length = read_u16_little(&f->in), check = read_u16_little(&f->in);
    if (!f->in.past_end && length != (~check & 0xffff))
        return false;
    for (unsigned i = 0; i < length && bytes_left(&f->in) && !f->overflows; i++)
        put_byte(f, read_u8(&f->in));
    f->in.past_end = f->in.past_end || (bytes_left(&f->in) == 0 && f->n_out < f->room);
    return true;
}

static bool inflate_fixed(inflater *f) {
    uint8_t lengths[MAX_LITERALS];
    huffman literals, distances;
    for (int i = 0; i < MAX_LITERALS; i++)
        lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    build_code(&literals, lengths, MAX_LITERALS);
    memset(lengths, 5, 30);
    build_code(&distances, lengths, 30);
    return inflate_coded(f, &literals, &distances);
}

static bool inflate_dynamic(inflater *f) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[MAX_LITERALS + MAX_DISTANCES] = {0};
    huffman code, distances;
    int n_literals = (int)take_bits(f, 5) + 257, n_distances = (int)take_bits(f, 5) + 1, n = (int)take_bits(f, 4) + 4;
    for (int i = 0; i < n; i++)
        lengths[order[i]] = (uint8_t)take_bits(f, 3);
    if (n_literals > 286 || n_distances > 30 || !build_code(&code, lengths, 19))
        return f->in.past_end;
    memset(lengths, 0, sizeof lengths);
    for (int i = 0; i < n_literals + n_distances;) {
        int symbol = take_symbol(f, &code), count = 1;
        uint8_t length = (uint8_t)symbol;
        if (symbol < 0 || f->in.past_end || (symbol == 16 && i == 0))
            return f->in.past_end;
        if (symbol >= 16) {
            length = symbol == 16 ? lengths[i - 1] : 0;
            count = symbol == 16   ? 3 + (int)take_bits(f, 2)
                    : symbol == 17 ? 3 + (int)take_bits(f, 3)
                                   : 11 + (int)take_bits(f, 7);
        }
        if (count > n_literals + n_distances - i)
            return f->in.past_end;
        memset(lengths + i, length, (size_t)count);
        i += count;
    }
    if (!build_code(&distances, lengths + n_literals, n_distances) || !build_code(&code, lengths, n_literals))
        return false;
    return inflate_coded(f, &code, &distances);
}

static uint32_t adler_32(const uint8_t *bytes, size_t n_bytes) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        a = (a + bytes[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

size_t inflate_zlib(const uint8_t *bytes, size_t n_bytes, uint8_t *out, size_t room, bool *checksum_right) {
    inflater f = {.in = {bytes, n_bytes, 0, false}, .out = out, .room = room};
    *checksum_right = false;
    unsigned method = read_u8(&f.in), flags = read_u8(&f.in);
    if (f.in.past_end || (method & 15) != 8 || (method << 8 | flags) % 31 || flags & 0x20)
        return 0;
    bool last = false, sound = true;
    while (!last && sound && !f.in.past_end && !f.overflows) {
        last = take_bits(&f, 1);
        uint32_t kind = take_bits(&f, 2);
        sound = kind == 0 ? inflate_stored(&f) : kind == 1 ? inflate_fixed(&f) : kind == 2 && inflate_dynamic(&f);
    }
    if (last && sound && !f.in.past_end && !f.overflows) {
        uint32_t sum = read_u32_big(&f.in); /* from the next whole byte on: at most 7 bits are left over */
        *checksum_right = !f.in.past_end && sum == adler_32(out, f.n_out);
    }
    return f.n_out;
}
