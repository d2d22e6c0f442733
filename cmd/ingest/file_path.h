#ifndef INGEST_FILE_PATH_H
#define INGEST_FILE_PATH_H

#include "data/lang/pattern.h"
#include "src_file.h"
#include "tag.h"

/* What a file's path says of its events: the options --path-field, --path-fields and --path-pattern. */

int file_path_check(const file_settings_t *settings, err_t *err);
pattern_t *file_path_pattern(const file_settings_t *settings);       /* of --path-pattern, which was checked; NULL: none. pattern_free */
/* The fields of a path that begins with /. pattern: as above. */
void file_path_tag(tag_t *tag, const file_settings_t *settings, const pattern_t *pattern, const char *path);

#endif
