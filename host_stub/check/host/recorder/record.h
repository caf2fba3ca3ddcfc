/* SPDX-License-Identifier: MIT
 *
 * A file of JSON lines that a plugin can write to where it may do nothing but touch memory.
 *
 * The file is grown by ROOM bytes of newlines and that part is mapped: a line is then a copy into
 * the mapping, without system call, allocation or lock, and is in the file whatever becomes of the
 * process. What was not used is cut off at the end; where nobody does that, empty lines stay.
 * Several records may be made in one file, one behind the other or at once.
 *
 * Threads: line_* work on the caller's own line, line_end may be called on any thread. */
#ifndef HOST_CONFORMANCE_RECORD_H
#define HOST_CONFORMANCE_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { RECORD_ROOM = 1 << 20, RECORD_LINE = 2048, RECORD_PATH = 1024 };

struct record {
  char* memory; /* RECORD_ROOM bytes; NULL: nothing is recorded */
  size_t used;  /* may grow past the room: what did not fit is lost, and the last line says so */
  off_t begin;  /* where the part begins in the file */
  char path[RECORD_PATH];
  char id[48]; /* of the instance: process and time, the same in each of its lines */
};

/* A line on its way. What does not fit is left out, and the line stays an object. */
struct line {
  struct record* record;
  size_t length;
  char text[RECORD_LINE];
};

/* Begins a record behind what `path` holds. 0 or -errno; then nothing is recorded. */
int record_open(struct record* record, const char* path);
/* Ends it, and cuts off what it did not use if nothing was recorded behind it. */
void record_close(struct record* record);

void line_begin(struct line* line, struct record* record, const char* event);
/* At most 256 bytes of it; NULL becomes null. */
void line_string(struct line* line, const char* key, const char* value);
void line_number(struct line* line, const char* key, int64_t value);
void line_bool(struct line* line, const char* key, int value);
/* Addresses, which are only compared; a JSON number would lose bits of them. */
void line_address(struct line* line, const char* key, const void* value);
/* Puts the line into the record. */
void line_end(struct line* line);
/* The same behind the end of a record that was closed. Makes system calls. */
void line_end_late(struct line* line);

#endif
