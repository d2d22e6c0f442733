#ifndef PROCESS_PANE_H
#define PROCESS_PANE_H

#include "window.h"

/* Where the pane that `time` lies in begins and ends. */
void pane_bounds(const window_t *window, int64_t time, int64_t *start, int64_t *end);

/* Panes as a window keeps them, in order of time; what is returned is the window's. */
pane_t *panes_open(window_t *window, int64_t start);  /* the one that begins there, made when there is none: no window of it is due yet */
void panes_recycle(window_t *window, pane_t *pane);   /* its memory is kept for the next; the caller takes it off the list */
void panes_drop_states(window_t *window, groups_t *groups);
fired_t *panes_note_fired(window_t *window, int64_t end);     /* the account of the hopping window that ends there */
void panes_free(window_t *window);

/* Snapshots: of op_class_t; panes_read returns false when what it reads is damaged. */
void panes_save(const op_t *op, buf_t *out);
bool panes_read(window_t *window, pack_cursor_t *cursor);
size_t panes_memory(const op_t *op);

#endif
