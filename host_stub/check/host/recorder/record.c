/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int record_lock_file(const char* path, int flags) {
  int fd = open(path, flags | O_CLOEXEC, 0644);
  if (fd < 0) return -errno;
  while (flock(fd, LOCK_EX) < 0)
    if (errno != EINTR) {
      int code = -errno;
      close(fd);
      return code;
    }
  return fd;
}

static int record_map(struct record* record, int fd) {
  char newlines[4096];
  struct stat file;
  const off_t page = sysconf(_SC_PAGESIZE);
  if (fstat(fd, &file) < 0) return -errno;
  if (!S_ISREG(file.st_mode)) return -EINVAL;
  record->begin = (file.st_size + page - 1) / page * page;
  memset(newlines, '\n', sizeof newlines);
  for (off_t at = file.st_size; at < record->begin;) {
    const off_t rest = record->begin - at, some = (off_t)sizeof newlines;
    const ssize_t written = pwrite(fd, newlines, (size_t)(rest < some ? rest : some), at);
    if (written < 0) return -errno;
    at += written;
  }
  if (ftruncate(fd, record->begin + RECORD_ROOM) < 0) return -errno;
  void* memory = mmap(NULL, RECORD_ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, record->begin);
  if (memory == MAP_FAILED) return -errno;
  memset(memory, '\n', RECORD_ROOM);
  record->memory = memory;
  return 0;
}

int record_open(struct record* record, const char* path) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(record->id, sizeof record->id, "%ld-%" PRIx64, (long)getpid(),
           (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
  snprintf(record->path, sizeof record->path, "%s", path);
  record->memory = NULL;
  record->used = 0;
  int fd = record_lock_file(path, O_RDWR | O_CREAT);
  if (fd < 0) return fd;
  int result = record_map(record, fd);
  flock(fd, LOCK_UN); /* the mapping keeps the open file, and a lock with it */
  close(fd);
  return result;
}

void record_close(struct record* record) {
  struct stat file;
  if (!record->memory) return;
  munmap(record->memory, RECORD_ROOM);
  record->memory = NULL;
  int fd = record_lock_file(record->path, O_RDWR);
  if (fd < 0) return;
  if (fstat(fd, &file) == 0 && file.st_size == record->begin + RECORD_ROOM &&
      record->used <= RECORD_ROOM && ftruncate(fd, record->begin + (off_t)record->used) < 0)
    errno = 0; /* empty lines stay */
  close(fd);
}

/* ---- lines --------------------------------------------------------------------------------- */

static void line_text(struct line* line, const char* text) {
  const size_t length = strlen(text);
  if (length > RECORD_LINE - 3 - line->length) return; /* "}\n" must fit */
  memcpy(line->text + line->length, text, length);
  line->length += length;
}

static void line_key(struct line* line, const char* key) {
  line_text(line, line->length == 0 ? "{\"" : ",\"");
  line_text(line, key);
  line_text(line, "\":");
}

void line_string(struct line* line, const char* key, const char* value) {
  static const char hex[] = "0123456789abcdef";
  line_key(line, key);
  if (!value) {
    line_text(line, "null");
    return;
  }
  line_text(line, "\"");
  for (size_t i = 0; i < 256 && value[i]; i++) {
    const unsigned char c = (unsigned char)value[i];
    char escaped[7] = {(char)c, 0};
    if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
      memcpy(escaped, (const char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], 0}, 7);
    line_text(line, escaped);
  }
  line_text(line, "\"");
}

void line_number(struct line* line, const char* key, int64_t value) {
  char digits[24];
  size_t at = sizeof digits;
  uint64_t rest = value < 0 ? 0u - (uint64_t)value : (uint64_t)value;
  digits[--at] = 0;
  do digits[--at] = (char)('0' + rest % 10);
  while ((rest /= 10) != 0);
  if (value < 0) digits[--at] = '-';
  line_key(line, key);
  line_text(line, digits + at);
}

void line_bool(struct line* line, const char* key, int value) {
  line_key(line, key);
  line_text(line, value ? "true" : "false");
}

void line_address(struct line* line, const char* key, const void* value) {
  char text[20] = "0x";
  uintptr_t rest = (uintptr_t)value;
  for (int i = 17; i >= 2; i--, rest >>= 4) text[i] = "0123456789abcdef"[rest & 15];
  line_string(line, key, value ? text : NULL);
}

void line_begin(struct line* line, struct record* record, const char* event) {
  line->record = record;
  line->length = 0;
  line_string(line, "id", record->id);
  line_string(line, "event", event);
}

void line_end(struct line* line) {
  static const char full[] = "{\"event\":\"full\"}\n";
  struct record* record = line->record;
  const size_t room = RECORD_ROOM - sizeof full;
  line->text[line->length++] = '}';
  line->text[line->length++] = '\n';
  if (!record->memory) return;
  const size_t at = __atomic_fetch_add(&record->used, line->length, __ATOMIC_ACQ_REL);
  if (at + line->length <= room)
    memcpy(record->memory + at, line->text, line->length);
  else
    memcpy(record->memory + room, full, sizeof full - 1); /* each time the same */
}

void line_end_late(struct line* line) {
  const int saved = errno;
  line->text[line->length++] = '}';
  line->text[line->length++] = '\n';
  int fd = line->record->path[0] ? record_lock_file(line->record->path, O_WRONLY | O_APPEND) : -1;
  if (fd >= 0) {
    if (write(fd, line->text, line->length) < 0) errno = saved;
    close(fd);
  }
  errno = saved;
}
