#ifndef INGEST_FILE_SET_H
#define INGEST_FILE_SET_H

#include <sys/stat.h>

#include "base/map.h"
#include "file_directory.h"
#include "file_input.h"
#include "src_file.h"

/* What the files of the source of many files share: file_set.c opens and closes them, file_names.c knows which there are, and
 * file_places.c keeps where they are. */
#define FILE_SET_OPEN_MAX 16           /* followed at a time: each takes an inotify instance, of which a user has 128 */

typedef struct file_set file_set_t;
typedef struct file_entry file_entry_t;
struct file_entry {
    file_set_t *set;
    char *name;                        /* in the directory */
    buf_t position;                    /* as it was last noted: of one that is open it may be behind */
    filemark_t mark;                   /* of position */
    file_entry_t *twin;                /* whose mark names the same file: one that has its number by now, or had it */
    file_input_t *input;               /* NULL: not open */
    int inotify;                       /* that it uses then */
    file_entry_t *next;                /* in the line of those that are to be opened */
    bool waiting, gone, seen, ended;
    uint64_t used;                     /* when it had something to read; in turns */
    size_t changed;                    /* its place in set->changed, from 1; 0: it is as it was stored */
};

typedef struct file_past {
    filemark_t mark;
    size_t number;                     /* the greatest is the latest */
} file_past_t;

struct file_set {
    source_t source;
    source_setup_t setup;
    const file_settings_t *settings;
    char *shown, *directory, *full_directory, *pattern;
    bool whole;                        /* a directory was given, not a pattern */
    listing_t *listing;                /* of the directory */
    unpack_queue_t *unpack;            /* for all of them: one compressed file is gone through at a time */
    pattern_t *path_pattern;
    int inotify;
    file_directory_t place;            /* the directory */
    loop_watch_t *watch, *retry;
    map_t *entries;                    /* by name */
    map_t *files;                      /* the first of those whose marks name one file, by that */
    file_entry_t *first, **last;       /* that wait to be opened */
    file_entry_t *open[FILE_SET_OPEN_MAX];
    unsigned open_count, open_most;
    int lent[FILE_SET_OPEN_MAX];       /* inotify instances for those that are opened */
    unsigned lent_count;
    size_t gone, most;                 /* entries that are away; that there may be beside them */
    file_past_t *past;                 /* read to their ends by an earlier run; in the order of file_past_compare */
    size_t past_count;
    int64_t since;                     /* ns since 1970: all names that were there since are known. New ones' rotated files are unread */
    uint64_t turns;
    bool paused, restored, started, full_told;

    /* since the places were stored last */
    file_entry_t **changed;
    size_t changed_count, changed_room;
    buf_t removed;                     /* names, packed */
    uint32_t removed_count;
    buf_t space;
};

/* file_set.c */
void file_set_schedule(file_set_t *set);
void file_set_wake(file_entry_t *entry);               /* there may be something to read */
void file_set_unqueue(file_entry_t *entry);
void file_set_close(file_entry_t *entry);

/* file_names.c */
bool file_set_matches(void *set, const char *name);
char *file_set_full_path(const file_set_t *set, const char *name);
file_entry_t *file_set_add(file_set_t *set, const char *name);
void file_set_forget(file_entry_t *entry);
void file_set_mark(file_entry_t *entry, const filemark_t *mark);      /* that of its position is another one now */
int file_past_compare(const void *left, const void *right);           /* by file, and of one by number */
void file_set_see(file_set_t *set, const char *name, bool at_end);     /* something is with the file of this name */
const char *file_set_none(const file_set_t *set);     /* in words: there is nothing to read */
void file_set_scan(file_set_t *set, bool at_end);      /* looks at all names; at_end: those that are new have been read */

/* file_places.c: the members of the source's class */
void file_set_changed(file_entry_t *entry);            /* its position is another one than was stored */
void file_set_unchanged(file_entry_t *entry);          /* there is no position of it to be stored */
void file_set_removed(file_set_t *set, const char *name);
void file_set_note(file_entry_t *entry);               /* what is known of an open one becomes its position */
void file_set_position(const source_t *source, buf_t *out);
void file_set_changes(source_t *source, buf_t *out);
int file_set_restore(source_t *source, const uint8_t *position, size_t size, err_t *err);
int file_set_restore_changes(source_t *source, const uint8_t *changes, size_t size, err_t *err);
void file_set_restored(file_set_t *set);               /* all that is to be restored has been */

#endif
