#ifndef DATA_CSV_H
#define DATA_CSV_H

#include "data/format_record.h"
#include "data/value.h"

/* Internal to the CSV format: what reader and writer agree on. */

/* The separator that the settings name. */
int csv_separator(const format_settings_t *settings, char *separator, err_t *err);

/* The names of --csv-columns, split at commas. The list is the caller's: csv_names_fini. */
typedef struct csv_names {
    char **names;
    size_t count;
} csv_names_t;
int csv_names_split(csv_names_t *names, const option_list_t *list, err_t *err);
void csv_names_add(csv_names_t *names, text_t name);
/* The names in a header row that begins the text; false: there is no whole row. */
bool csv_names_read(csv_names_t *names, text_t text, char separator);
void csv_names_fini(csv_names_t *names);

/* One field as it stands in the data. */
typedef struct csv_field {
    text_t text;              /* without the quotes around it */
    bool quoted;
    bool doubled;             /* quotes in it are doubled: csv_field_text */
    bool ascii;               /* surely: no UTF-8 in it to be checked, and no NUL */
    bool last;                /* of its row */
} csv_field_t;

typedef enum csv_result { CSV_READ, CSV_CUT, CSV_BAD } csv_result_t;

/* Reads the field at *at and moves behind its separator or line end. CSV_CUT: the data ends first. CSV_BAD: text behind a closing
 * quote; *at is then in the middle of a row. */
csv_result_t csv_read_field(const char **at, const char *end, char separator, bool at_end, csv_field_t *field);
/* The text of a field without doubled quotes, for which `buf` is used. */
text_t csv_field_text(const csv_field_t *field, buf_t *buf);

/* What an unquoted field stands for when nobody says: nothing is null; true and false are bool; a number in JSON's own notation with at most 17
 * significant digits is a number (an exponent counts only with a decimal point or a sign: "1e5" may be a name); anything else, so 007, +49301234, 1_000 or
 * 0x1f, is text. False: text. */
bool csv_infer(text_t field, value_t *value);

#endif
