#ifndef DATA_JSON_NUMBER_H
#define DATA_JSON_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Internal to the JSON codec: numbers of any length and form. The reader has its own fast path for the usual ones. */
typedef struct json_number {
    bool is_double;
    bool negative;            /* of an integer */
    uint64_t magnitude;       /* of an integer; at most 2^63 when negative */
    double value;             /* of a double, sign included */
} json_number_t;

/* Reads the JSON number at p, not beyond end. Returns where it ends; NULL: *reason is what is wrong (static text), *at where. */
const char *json_number_read(const char *p, const char *end, json_number_t *number, const char **reason, const char **at);

/* digits * 10^-decimals, correctly rounded, for at most 19 digits; they are those (and a point) from p to end. */
double json_scaled_double(const char *p, const char *end, uint64_t digits, int decimals);

/* 10^0 to 10^22: the powers that a double holds exactly. */
extern const double json_exact_powers[23];
extern const uint64_t json_integer_powers[16];

#endif
