/* tokenizer_encode.c - text to tokens. Three steps, each on what the previous one left:
 *
 *  1. Added tokens are cut out of the text, the longest at each position, and swallow white space next to them as their
 *     flags say. The text between two of them is a run.
 *  2. In a run, spaces become U+2581 (with one more at the start if the family has a dummy prefix), and user-defined
 *     pieces are cut out, again the longest at each position. They are symbols that merge with nothing.
 *  3. The rest starts as one symbol per character. Of all neighbours whose concatenation is a piece, those with the
 *     best score merge, the leftmost on a tie, until none are left; symbols that are not a piece become bytes.
 *
 * Step 3 takes pairs from a heap, so a run of n characters takes O(n log n) time and O(n) memory.
 *
 * Each byte of text that must stay plain is marked: a special token matches only where none of its bytes is marked, so
 * plain text is cut as if the model had no such token, even next to text that is not plain.
 */
#include "base/memory.h"
#include "base/utf8.h"
#include "format/tokenizer_tables.h"

/* Positions in a run, where a space takes three bytes, have 32 bits. */
#define MAX_TEXT_BYTES ((size_t)1 << 30)

typedef struct symbol {
    uint32_t offset, n_bytes; /* in the run; n_bytes 0: merged into its left neighbour */
    int32_t previous, next;   /* neighbours; -1: none */
    int32_t id;               /* of its piece; -1: not a piece */
    bool frozen;              /* a user-defined piece: merges with nothing */
    bool plain;               /* at least one of its bytes must stay plain */
} symbol;

/* Two neighbours that could become one piece. Outdated once their total size has changed. */
typedef struct merge {
    uint64_t order; /* rank of the piece, then the left symbol's index: the smallest merges first */
    uint32_t n_bytes;
    int32_t id;
} merge;

/* Heap entry i has its children at 4i + 1 to 4i + 4: a long text's heap is larger than the caches, and four children
 * share a cache line or two. */
enum { HEAP_CHILDREN = 4 };

typedef struct encoder {
    const tokenizer *t;
    const char *text;     /* [n_text], all pieces of the call */
    const uint8_t *plain; /* [n_text], 1: must stay plain */
    size_t n_text;
    char *run;          /* [run_capacity], with U+2581 for spaces */
    uint8_t *run_plain; /* [plain_capacity] */
    symbol *symbols;    /* [symbol_capacity] */
    merge *heap;        /* [heap_capacity], n_heap used: each is no later than its children */
    size_t run_capacity, plain_capacity, symbol_capacity, heap_capacity, n_heap;
    int32_t **ids; /* the caller's array */
    size_t *n_ids, *ids_capacity;
    trol_error *error;
} encoder;

/* ---- the result ------------------------------------------------------------------------------ */

static trol_status push_id(encoder *e, int32_t id) {
    void *array = *e->ids;
    TRY(memory_grow(&array, e->ids_capacity, *e->n_ids + 1, sizeof(int32_t), "tokens", e->error));
    *e->ids = array;
    (*e->ids)[(*e->n_ids)++] = id;
    return TROL_OK;
}

static trol_status push_symbol(encoder *e, const symbol *s) {
    if (s->id >= 0)
        return push_id(e, s->id);
    for (uint32_t i = 0; i < s->n_bytes; i++)
        TRY(push_id(e, e->t->byte_ids[(uint8_t)e->run[s->offset + i]]));
    return TROL_OK;
}

/* ---- step 3: merging ------------------------------------------------------------------------- */

/* The piece with this text; -1 if there is none. */
static int32_t find_piece(const tokenizer *t, const char *text, size_t n_bytes, bool plain) {
    int32_t id = spelling_find(t, text, n_bytes);
    if (id < 0 || !(t->tokens[id].flags & TOKEN_MATCHES) || (plain && (t->tokens[id].flags & TOKEN_SPECIAL)))
        return -1;
    return id;
}

static void sink(merge *heap, size_t n, size_t at) {
    merge moved = heap[at];
    for (;;) {
        size_t first = HEAP_CHILDREN * at + 1, last = first + HEAP_CHILDREN < n ? first + HEAP_CHILDREN : n;
        if (first >= n)
            break;
        size_t least = first;
        for (size_t child = first + 1; child < last; child++)
            least = heap[child].order < heap[least].order ? child : least;
        if (heap[least].order >= moved.order)
            break;
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = moved;
}

static merge take_best(encoder *e) {
    merge best = e->heap[0];
    e->heap[0] = e->heap[--e->n_heap];
    if (e->n_heap)
        sink(e->heap, e->n_heap, 0);
    return best;
}

static void rise(merge *heap, size_t at) {
    merge moved = heap[at];
    while (at > 0 && moved.order < heap[(at - 1) / HEAP_CHILDREN].order) {
        heap[at] = heap[(at - 1) / HEAP_CHILDREN];
        at = (at - 1) / HEAP_CHILDREN;
    }
    heap[at] = moved;
}

/* Appends a symbol and its right neighbour to the heap if they can merge. */
static trol_status add_merge(encoder *e, int32_t left, bool *added) {
    *added = false;
    if (left < 0 || e->symbols[left].next < 0)
        return TROL_OK;
    const symbol *a = &e->symbols[left], *b = &e->symbols[a->next];
    if (a->frozen || b->frozen)
        return TROL_OK;
    int32_t id = find_piece(e->t, e->run + a->offset, a->n_bytes + b->n_bytes, a->plain || b->plain);
    if (id < 0)
        return TROL_OK;
    void *array = e->heap;
    TRY(memory_grow(&array, &e->heap_capacity, e->n_heap + 1, sizeof *e->heap, "tokens", e->error));
    e->heap = array;
    e->heap[e->n_heap++] = (merge){(uint64_t)e->t->tokens[id].rank << 32 | (uint32_t)left, a->n_bytes + b->n_bytes, id};
    *added = true;
    return TROL_OK;
}

static trol_status offer_merge(encoder *e, int32_t left) {
    bool added;
    TRY(add_merge(e, left, &added));
    if (added)
        rise(e->heap, e->n_heap - 1);
    return TROL_OK;
}

static trol_status merge_symbols(encoder *e, int32_t n_symbols) {
    bool added;
    e->n_heap = 0;
    for (int32_t i = 0; i + 1 < n_symbols; i++)
        TRY(add_merge(e, i, &added));
    for (size_t i = (e->n_heap + HEAP_CHILDREN - 2) / HEAP_CHILDREN; i-- > 0;)
        sink(e->heap, e->n_heap, i);
    while (e->n_heap) {
        merge best = take_best(e);
        int32_t left = (int32_t)(uint32_t)best.order;
        symbol *a = &e->symbols[left];
        if (a->n_bytes == 0 || a->next < 0 || a->n_bytes + e->symbols[a->next].n_bytes != best.n_bytes)
            continue;
        symbol *b = &e->symbols[a->next];
        a->n_bytes = best.n_bytes;
        a->id = best.id;
        a->plain |= b->plain;
        a->next = b->next;
        if (b->next >= 0)
            e->symbols[b->next].previous = left;
        b->n_bytes = 0;
        TRY(offer_merge(e, a->previous));
        TRY(offer_merge(e, left));
    }
    return TROL_OK;
}

/* ---- step 2: the symbols of a run ------------------------------------------------------------ */

static trol_status reserve_run(encoder *e, size_t n_bytes) {
    void *run = e->run, *plain = e->run_plain;
    trol_status status = memory_grow(&run, &e->run_capacity, n_bytes, 1, "a text", e->error);
    e->run = run;
    TRY(status);
    status = memory_grow(&plain, &e->plain_capacity, n_bytes, 1, "a text", e->error);
    e->run_plain = plain;
    return status;
}

/* Copies text[begin .. end-1] to the run. */
static trol_status escape_run(encoder *e, size_t begin, size_t end, size_t *n_run) {
    size_t n = 0, n_bytes = end - begin + (e->t->dummy_prefix ? SPACE_SYMBOL_BYTES : 0);
    for (size_t i = begin; i < end; i++)
        n_bytes += e->text[i] == ' ' ? SPACE_SYMBOL_BYTES - 1 : 0;
    TRY(reserve_run(e, n_bytes));
    if (e->t->dummy_prefix) {
        memcpy(e->run, SPACE_SYMBOL, SPACE_SYMBOL_BYTES);
        memset(e->run_plain, 0, SPACE_SYMBOL_BYTES);
        n = SPACE_SYMBOL_BYTES;
    }
    for (size_t i = begin; i < end; i++) {
        size_t width = e->text[i] == ' ' ? SPACE_SYMBOL_BYTES : 1;
        memcpy(e->run + n, width > 1 ? SPACE_SYMBOL : e->text + i, width);
        memset(e->run_plain + n, e->plain[i], width);
        n += width;
    }
    *n_run = n;
    return TROL_OK;
}

/* The longest text of a trie at text[0 .. n_bytes-1] that may match there; *n_matched is 0 if none does. */
static int32_t match_longest(const tokenizer *t, const byte_trie *trie, const char *text, const uint8_t *plain,
                             size_t n_bytes, size_t *n_matched) {
    int32_t id = -1;
    bool plain_so_far = false;
    uint32_t node = BYTE_TRIE_ROOT;
    *n_matched = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        node = byte_trie_step(trie, node, (uint8_t)text[i]);
        if (!node)
            break;
        plain_so_far |= plain[i];
        int32_t found = trie->nodes[node].id;
        if (found >= 0 && !(plain_so_far && (t->tokens[found].flags & TOKEN_SPECIAL))) {
            id = found;
            *n_matched = i + 1;
        }
    }
    return id;
}

/* Bytes of the character that starts with `lead`, in valid UTF-8. */
static size_t character_bytes(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4; }

static trol_status split_run(encoder *e, size_t n_run, int32_t *n_symbols) {
    int32_t n = 0;
    for (size_t at = 0; at < n_run;) {
        size_t n_bytes;
        symbol s = {.offset = (uint32_t)at, .previous = n - 1, .next = n + 1};
        s.id = match_longest(e->t, &e->t->user_defined, e->run + at, e->run_plain + at, n_run - at, &n_bytes);
        s.frozen = s.id >= 0;
        if (!s.frozen) {
            n_bytes = character_bytes((uint8_t)e->run[at]);
            s.plain = e->run_plain[at] != 0;
            s.id = find_piece(e->t, e->run + at, n_bytes, s.plain);
        }
        s.n_bytes = (uint32_t)n_bytes;
        void *array = e->symbols;
        TRY(memory_grow(&array, &e->symbol_capacity, (size_t)n + 1, sizeof s, "tokens", e->error));
        e->symbols = array;
        e->symbols[n++] = s;
        at += n_bytes;
    }
    e->symbols[n - 1].next = -1;
    *n_symbols = n;
    return TROL_OK;
}

/* Appends the tokens of text[begin .. end-1], which holds no added token. */
static trol_status encode_run(encoder *e, size_t begin, size_t end) {
    size_t n_run;
    int32_t n_symbols;
    if (begin >= end)
        return TROL_OK;
    TRY(escape_run(e, begin, end, &n_run));
    TRY(split_run(e, n_run, &n_symbols));
    TRY(merge_symbols(e, n_symbols));
    for (int32_t i = 0; i >= 0; i = e->symbols[i].next)
        TRY(push_symbol(e, &e->symbols[i]));
    return TROL_OK;
}

/* ---- step 1: added tokens -------------------------------------------------------------------- */

/* Where the white space before text[end] begins, but not before `begin`. */
static size_t skip_space_back(const encoder *e, size_t begin, size_t end) {
    while (end > begin) {
        size_t start = end - 1;
        uint32_t code_point;
        while (start > begin && ((uint8_t)e->text[start] & 0xc0) == 0x80)
            start--;
        if (utf8_decode(e->text + start, end - start, &code_point) == 0 || !utf8_is_space(code_point))
            break;
        end = start;
    }
    return end;
}

/* Where the white space from text[at] on ends. */
static size_t skip_space(const encoder *e, size_t at) {
    uint32_t code_point;
    for (size_t n_bytes; at < e->n_text; at += n_bytes) {
        n_bytes = utf8_decode(e->text + at, e->n_text - at, &code_point);
        if (n_bytes == 0 || !utf8_is_space(code_point))
            break;
    }
    return at;
}

static trol_status encode_text(encoder *e) {
    size_t run_begin = 0, at = 0;
    while (at < e->n_text) {
        size_t n_matched;
        int32_t id = match_longest(e->t, &e->t->added, e->text + at, e->plain + at, e->n_text - at, &n_matched);
        if (id < 0) {
            at++;
            continue;
        }
        size_t run_end = at;
        uint8_t flags = e->t->tokens[id].flags;
        if ((flags & TOKEN_STRIPS_LEFT) && run_begin < at)
            run_end = skip_space_back(e, run_begin, at);
        TRY(encode_run(e, run_begin, run_end));
        TRY(push_id(e, id));
        at += n_matched;
        run_begin = flags & TOKEN_STRIPS_RIGHT ? skip_space(e, at) : at;
    }
    return encode_run(e, run_begin, e->n_text);
}

/* ---- the call -------------------------------------------------------------------------------- */

static trol_status count_text(const text_piece *pieces, size_t n_pieces, size_t *n_bytes, trol_error *error) {
    *n_bytes = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].n_bytes > MAX_TEXT_BYTES - *n_bytes)
            return fail(error, TROL_ERROR_ARGUMENT, "a text of more than %zu bytes cannot be tokenized",
                        MAX_TEXT_BYTES);
        *n_bytes += pieces[i].n_bytes;
        size_t valid = utf8_valid_prefix(pieces[i].text, pieces[i].n_bytes);
        if (valid != pieces[i].n_bytes)
            return fail(error, TROL_ERROR_ARGUMENT, "the text is not valid UTF-8 from byte %zu on (0x%02x)", valid,
                        (unsigned)(uint8_t)pieces[i].text[valid]);
    }
    return TROL_OK;
}

trol_status tokenizer_encode(const tokenizer *t, const text_piece *pieces, size_t n_pieces, int32_t **ids,
                             size_t *n_ids, size_t *capacity, trol_error *error) {
    encoder e = {.t = t, .ids = ids, .n_ids = n_ids, .ids_capacity = capacity, .error = error};
    char *text = NULL;
    uint8_t *plain = NULL;
    size_t at = 0, n_ids_before = *n_ids;
    trol_status status;
    TRY(count_text(pieces, n_pieces, &e.n_text, error));
    TRY_GOTO(memory_alloc(e.n_text, 1, "a text", (void **)&text, error), done);
    TRY_GOTO(memory_alloc(e.n_text, 1, "a text", (void **)&plain, error), done);
    for (size_t i = 0; i < n_pieces; at += pieces[i++].n_bytes) {
        if (pieces[i].n_bytes == 0)
            continue;
        memcpy(text + at, pieces[i].text, pieces[i].n_bytes);
        memset(plain + at, pieces[i].special ? 0 : 1, pieces[i].n_bytes);
    }
    e.text = text;
    e.plain = plain;
    status = encode_text(&e);
    if (status != TROL_OK)
        *n_ids = n_ids_before;
done:
    memory_free(text);
    memory_free(plain);
    memory_free(e.run);
    memory_free(e.run_plain);
    memory_free(e.symbols);
    memory_free(e.heap);
    return status;
}
