/* exponential.h - exp(x) by additions and multiplications alone: the same bits on every machine, which the C library's
 * exp does not promise. */
#ifndef BASE_EXPONENTIAL_H
#define BASE_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

enum { EXPONENTIAL_LOWEST = -700 };

/* e^x for EXPONENTIAL_LOWEST <= x <= 0, to a part in 1e14. */
static inline double exponential(double x) {
    static const double log2_e = 1.4426950408889634074, ln2_high = 0x1.62e42fefa0000p-1,
                        ln2_low = 0x1.cf79abc9e3b3ap-40;
    static const double round = 0x1.8p52; /* adding it leaves a whole number in the lowest bits */
    const double shifted = x * log2_e + round, k = shifted - round;
    const double r = (x - k * ln2_high) - k * ln2_low; /* |r| <= ln(2) / 2 */
    const double r2 = r * r, r4 = r2 * r2;
    /* 1 + r + r^2 / 2! + ... + r^11 / 11!, in pairs */
    const double low = (1.0 + r) + (0.5 + r * (1.0 / 6)) * r2;
    const double middle = (1.0 / 24 + r * (1.0 / 120)) + (1.0 / 720 + r * (1.0 / 5040)) * r2;
    const double high = (1.0 / 40320 + r * (1.0 / 362880)) + (1.0 / 3628800 + r * (1.0 / 39916800)) * r2;
    const double sum = low + (middle + high * r4) * r4;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52; /* 2^k */
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

#endif
