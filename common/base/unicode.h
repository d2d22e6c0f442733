#ifndef BASE_UNICODE_H
#define BASE_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* Upper and lower case of single characters (Unicode's simple case mapping) for the alphabets that have one in everyday use: Latin with its
 * accents, modern Greek, Cyrillic, Armenian, and the full-width letters. Any other character is its own. A mapped character takes no more bytes in UTF-8. */
uint32_t unicode_lower(uint32_t code);
uint32_t unicode_upper(uint32_t code);

/* The character at `text`, which is valid UTF-8, and how many bytes it takes; a byte that is not valid stands for itself. */
uint32_t unicode_get(const char *text, size_t size, unsigned *taken);
/* Bytes of the byte order mark that the text begins with: 0 or 3. Programs of other systems put it in front of what they save. */
size_t unicode_mark(const char *text, size_t size);
/* Writes the character; up to 4 bytes. Returns how many. */
unsigned unicode_put(char *out, uint32_t code);

#endif
