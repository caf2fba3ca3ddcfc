/* SPDX-License-Identifier: MIT
 *
 * A program's start. Before glibc 2.34 the program brought the function that runs its constructors;
 * a newer glibc runs them itself, unless a program that was linked on an older one brings its own.
 */
#include <stddef.h>

typedef void (*init_function)(int argc, char** argv, char** environment);

extern init_function __init_array_start[] __attribute__((visibility("hidden")));
extern init_function __init_array_end[] __attribute__((visibility("hidden")));
void _init(void) __attribute__((visibility("hidden")));

int old_libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, init_function init,
                        void (*fini)(void), void (*loader_fini)(void), void* stack_end);
__asm__(".symver old_libc_start_main, __libc_start_main@GLIBC_2.2.5");

int __wrap___libc_start_main(int (*main)(int, char**, char**), int argc, char** argv,
                             init_function init, void (*fini)(void), void (*loader_fini)(void),
                             void* stack_end);

/* What __libc_csu_init did; the loader runs preinit functions, and destructors, itself. */
static void run_constructors(int argc, char** argv, char** environment) {
  _init();
  for (init_function* each = __init_array_start; each < __init_array_end; ++each)
    (*each)(argc, argv, environment);
}

int __wrap___libc_start_main(int (*main)(int, char**, char**), int argc, char** argv,
                             init_function init, void (*fini)(void), void (*loader_fini)(void),
                             void* stack_end) {
  (void)init; /* NULL: this object is used with the start files of glibc 2.34 and newer only */
  (void)fini;
  return old_libc_start_main(main, argc, argv, run_constructors, NULL, loader_fini, stack_end);
}
