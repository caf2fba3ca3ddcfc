/* SPDX-License-Identifier: MIT
 *
 * Before glibc 2.33 these were inline functions around others that take the struct's version. */
#include <sys/stat.h>

#define STAT_VERSION 1 /* of x86-64's struct stat; <bits/stat.h> before 2.33: _STAT_VER_LINUX */

int old_xstat(int version, const char* path, struct stat* out);
int old_lxstat(int version, const char* path, struct stat* out);
int old_fxstat(int version, int fd, struct stat* out);
__asm__(".symver old_xstat, __xstat@GLIBC_2.2.5");
__asm__(".symver old_lxstat, __lxstat@GLIBC_2.2.5");
__asm__(".symver old_fxstat, __fxstat@GLIBC_2.2.5");

int __wrap_stat(const char* path, struct stat* out);
int __wrap_lstat(const char* path, struct stat* out);
int __wrap_fstat(int fd, struct stat* out);
int __wrap_fstat64(int fd, struct stat* out);

int __wrap_stat(const char* path, struct stat* out) { return old_xstat(STAT_VERSION, path, out); }
int __wrap_lstat(const char* path, struct stat* out) { return old_lxstat(STAT_VERSION, path, out); }
int __wrap_fstat(int fd, struct stat* out) { return old_fxstat(STAT_VERSION, fd, out); }
/* struct stat64 is struct stat on x86-64 */
int __wrap_fstat64(int fd, struct stat* out) { return old_fxstat(STAT_VERSION, fd, out); }
