/* fastws_mask() writes what a loop over single bytes writes and says truly whether that is ASCII: copying and in place,
 * at any offset, whole and in pieces that the input chooses, with vectors and without.
 *
 * Input: 4 bytes of key, 1 of offset, place and vectors, 4 of lengths of pieces, then the payload.
 */
#include "wire/mask.h"

#include <stdlib.h>

#define HEAD 9

static void mask_in_pieces(uint8_t *target, const uint8_t *source, size_t length, uint32_t key, const uint8_t *pieces,
                           int *ascii)
{
    size_t done = 0;
    *ascii = 1;
    for (unsigned i = 0; done < length; i++) {
        size_t piece = pieces[i & 3];
        if (piece == 0 || piece > length - done)
            piece = length - done;
        *ascii &= fastws_is_ascii(fastws_mask(target + done, source + done, piece, fastws_mask_rotate(key, done)));
        done += piece;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    const uint8_t *key = data, *payload = data + HEAD;
    size_t length = size - HEAD, offset = data[4] & 15;
    int in_place = data[4] & 16, ascii, expected_ascii = 1;

    /* Blocks of just that size, so that the sanitizer sees one byte too many */
    uint8_t *target = malloc(offset + length + 1), *source = malloc(length + 1);
    fastws_use_vectors(!(data[4] & 32));
    memcpy(source, payload, length);
    if (in_place)
        memcpy(target + offset, payload, length);
    target = realloc(target, offset + length ? offset + length : 1);
    source = realloc(source, length ? length : 1);
    mask_in_pieces(target + offset, in_place ? target + offset : source, length, fastws_mask_load(key), data + 5, &ascii);
    for (size_t i = 0; i < length; i++) {
        uint8_t expected = payload[i] ^ key[i % 4];
        expected_ascii &= expected < 0x80;
        if (target[offset + i] != expected || (!in_place && source[i] != payload[i]))
            abort();
    }
    if (!ascii != !expected_ascii)
        abort();
    free(target);
    free(source);
    return 0;
}
