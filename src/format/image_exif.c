/* image_exif.c - the orientation in a file's EXIF data (a small TIFF inside a JPEG's APP1 segment, a PNG's eXIf chunk
 * or a WebP's EXIF chunk). An image with broken EXIF data is not refused: it counts as upright. */
#include "format/image_formats.h"

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3 };

static uint32_t tiff_number(const uint8_t *bytes, int n, bool big) {
    uint32_t number = 0;
    for (int i = 0; i < n; i++)
        number = number << 8 | bytes[big ? i : n - 1 - i];
    return number;
}

/* bytes: "II*\0" or "MM\0*", the offset of the first directory: a count, then entries of 12 bytes (tag, type, count,
 * value). */
int32_t exif_orientation_tiff(const uint8_t *bytes, size_t n_bytes) {
    const uint8_t *tiff = bytes;
    if (n_bytes >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        tiff += 6;
        n_bytes -= 6;
    }
    if (n_bytes < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return 1;
    bool big = tiff[0] == 'M';
    size_t directory = tiff_number(tiff + 4, 4, big);
    if (directory > n_bytes - 2)
        return 1;
    size_t n_entries = tiff_number(tiff + directory, 2, big);
    for (size_t i = 0; i < n_entries && (n_bytes - directory - 2) / 12 > i; i++) {
        const uint8_t *entry = tiff + directory + 2 + 12 * i;
        if (tiff_number(entry, 2, big) != TAG_ORIENTATION)
            continue;
        uint32_t value = tiff_number(entry + 8, 2, big);
        return tiff_number(entry + 2, 2, big) == TYPE_SHORT && value >= 1 && value <= 8 ? (int32_t)value : 1;
    }
    return 1;
}

int32_t exif_orientation_jpeg(byte_reader in) {
    skip_bytes(&in, 2);
    while (bytes_left(&in) >= 4 && read_u8(&in) == 0xff) {
        uint8_t marker = read_u8(&in);
        while (marker == 0xff && !in.past_end)
            marker = read_u8(&in);
        size_t length = read_u16_big(&in);
        if (marker == 0xda || length < 2 || length - 2 > bytes_left(&in))
            break;
        length -= 2;
        if (marker == 0xe1 && length >= 6 && starts_with(&in, "Exif\0\0", 6))
            return exif_orientation_tiff(in.bytes + in.position, length);
        skip_bytes(&in, length);
    }
    return 1;
}

int32_t exif_orientation_png(byte_reader in) {
    skip_bytes(&in, 8);
    while (bytes_left(&in) >= 12) {
        size_t length = read_u32_big(&in);
        bool exif = starts_with(&in, "eXIf", 4);
        if (length > bytes_left(&in) - 4)
            break;
        if (exif)
            return exif_orientation_tiff(in.bytes + in.position + 4, length);
        skip_bytes(&in, length + 8);
    }
    return 1;
}
