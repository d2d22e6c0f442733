#ifndef INGEST_SRC_FILE_H
#define INGEST_SRC_FILE_H

#include "source.h"

/* What the source "file" is told, and its other half: many files by a pattern. */
typedef struct file_settings {
    bool follow, from_end, from_beginning;
    char *path_field, *path_fields, *path_pattern;
    int64_t rotate_wait, files_max;
} file_settings_t;

/* A pattern, or a directory, which means all files in it. Names files whose names begin with a dot only when the pattern does. */
bool file_set_means(const char *path);
int file_set_check(const char *path, err_t *err);
int file_set_open(source_t **source, const source_setup_t *setup, const char *path, const char *full_path, err_t *err);

#endif
