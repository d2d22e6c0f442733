#ifndef INGEST_FILE_DIRECTORY_H
#define INGEST_FILE_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/inotify.h>
#include <sys/types.h>

/* A directory under its name. inotify stays with the directory itself: that the name leads to another one is told by the directories above, which are
 * watched for being renamed, or, over symbolic links and where that is not permitted, found out by looking. The caller's storage. */
#define FILE_DIRECTORY_ABOVE 32

typedef struct file_directory {
    int inotify;                       /* borrowed */
    const char *path;                  /* borrowed */
    uint32_t events;                   /* in it, that the owner wants to hear of */
    bool alone;                        /* somebody else looks after what is above it, and sets `moved` */
    int watch;                         /* -1: there is no such directory, as far as is known */
    dev_t device;
    ino_t inode;
    int above[FILE_DIRECTORY_ABOVE];
    unsigned above_count;
    bool moved;                        /* the name may lead elsewhere: look */
    bool unsure;                       /* it may come to do so without a word: look now and then */
} file_directory_t;

void file_directory_init(file_directory_t *self, int inotify, const char *path, uint32_t events, bool alone);
void file_directory_drop(file_directory_t *self);     /* its watches; their numbers do not come again */

/* Watches what the name leads to now. 0, or -1 with errno: nothing that can be watched. */
int file_directory_check(file_directory_t *self);

/* True: it was about the directory as such, or those above; then file_directory_check is due. Names in it are the owner's. */
bool file_directory_take(file_directory_t *self, const struct inotify_event *event);

bool file_is_link(const char *path);

#endif
