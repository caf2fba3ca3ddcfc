/* SPDX-License-Identifier: MIT
 *
 * Another library that interposes ioctl, to be preloaded beside ours: says at exit how many it saw.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>

static unsigned long calls;

int ioctl(int fd, unsigned long request, ...) {
  static int (*next)(int, unsigned long, ...);
  va_list arguments;
  void* arg;
  va_start(arguments, request);
  arg = va_arg(arguments, void*);
  va_end(arguments);
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, "ioctl");
  __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
  return next(fd, request, arg);
}

__attribute__((destructor)) static void tell(void) {
  if (calls != 0) fprintf(stderr, "second library saw ioctls: %lu\n", calls);
}
