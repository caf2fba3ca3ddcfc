/* SPDX-License-Identifier: MIT
 *
 * Calls ioctl many times, for counting instructions: ioctl_cost foreign|run N
 *   foreign  on a pipe, FIONREAD: nothing of KVM's
 *   run      KVM_RUN of a vCPU that returns at once (immediate_exit): no guest code runs, no memory
 *            is needed
 * Exits with 77 where KVM cannot do it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANNOT = 77 };

static int call_foreign(long times) {
  int ends[2];
  int bytes = 0;
  if (pipe(ends) != 0) return EXIT_FAILURE;
  while (times-- > 0)
    if (ioctl(ends[0], FIONREAD, &bytes) != 0) return EXIT_FAILURE;
  return EXIT_SUCCESS;
}

static int call_run(long times) {
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) return CANNOT;
  const int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  if (vm < 0) return CANNOT;
  const int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  const int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (vcpu < 0 || size < 0) return CANNOT;
  struct kvm_run* run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) return CANNOT;
  run->immediate_exit = 1;
  while (times-- > 0)
    if (ioctl(vcpu, KVM_RUN, 0) != -1 || errno != EINTR) return CANNOT;
  return EXIT_SUCCESS;
}

int main(int argc, char** argv) {
  const long times = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
  if (times > 0 && strcmp(argv[1], "foreign") == 0) return call_foreign(times);
  if (times > 0 && strcmp(argv[1], "run") == 0) return call_run(times);
  fputs("usage: ioctl_cost foreign|run N\n", stderr);
  return 2;
}
