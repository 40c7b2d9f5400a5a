/* float_mode.h - how a thread computes with floats: inside the engine subnormals are zero, both those that come in and
 * those that come out, as some units take a hundred times as long over them. Rounding is to nearest and no exception
 * traps, whatever the program around has set, so that results do not depend on it. */
#ifndef BASE_FLOAT_MODE_H
#define BASE_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef uint32_t float_mode; /* MXCSR */

static inline float_mode float_mode_current(void) { return _mm_getcsr(); }
static inline void float_mode_restore(float_mode mode) { _mm_setcsr(mode); }

/* Sets the engine's mode; returns the one before. */
static inline float_mode float_mode_enter(void) {
    const uint32_t all_masked = 0x1f80, flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
    float_mode before = float_mode_current();
    float_mode_restore(all_masked | flush_to_zero | denormals_are_zero);
    return before;
}

#elif defined(__aarch64__)

typedef uint64_t float_mode; /* FPCR */

static inline float_mode float_mode_current(void) {
    float_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static inline void float_mode_restore(float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }

static inline float_mode float_mode_enter(void) {
    const uint64_t flush_to_zero = (uint64_t)1 << 24;
    float_mode before = float_mode_current();
    float_mode_restore(flush_to_zero);
    return before;
}

#else

typedef int float_mode; /* nothing is known of this CPU */

static inline float_mode float_mode_current(void) { return 0; }
static inline void float_mode_restore(float_mode mode) { (void)mode; }
static inline float_mode float_mode_enter(void) { return 0; }

#endif

#endif
