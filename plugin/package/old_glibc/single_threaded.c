/* SPDX-License-Identifier: MIT
 *
 * __libc_single_threaded, glibc 2.32: a hint that libstdc++ may leave out atomic instructions.
 * False is always right. */
extern char __libc_single_threaded __attribute__((visibility("hidden")));
char __libc_single_threaded = 0;
