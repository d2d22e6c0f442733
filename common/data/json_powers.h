#ifndef DATA_JSON_POWERS_H
#define DATA_JSON_POWERS_H

#include <stdint.h>

/* 10^q is about (high * 2^64 + low) * 2^json_power_exponent (q), with high's top bit set: exact for q from 0 to 55, rounded
 * down above, rounded up below 0. */
#define JSON_POWER_MIN (-342)
#define JSON_POWER_MAX 324

typedef struct json_power {
    uint64_t high, low;
} json_power_t;

extern const json_power_t json_powers[JSON_POWER_MAX - JSON_POWER_MIN + 1];

/* floor (log2 (10^q)) - 127; 217706 / 2^16 is log2 (10), near enough for |q| below 1650. */
static inline int json_power_exponent(int q) {
    return (q * 217706 >> 16) - 127;
}

#endif
