// SPDX-License-Identifier: MIT
//
// What KVM this machine has, and what CPU is below it: tests on the real /dev/kvm expect other
// answers of another vendor's.
#pragma once

#include <cpuid.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

/// Whether KVM makes AMD's vPMU here: the CPU is AMD's or Hygon's (CPUID leaf 0).
inline bool has_amd_cpu() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  __cpuid(0, eax, ebx, ecx, edx);
  char vendor[13] = {};
  std::memcpy(vendor, &ebx, 4);
  std::memcpy(vendor + 4, &edx, 4);
  std::memcpy(vendor + 8, &ecx, 4);
  return std::string(vendor) == "AuthenticAMD" || std::string(vendor) == "HygonGenuine";
}

/// Whether /dev/kvm does not open here. Says so in the words that make a case a skipped one.
inline bool skipped_without_kvm() {
  const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd < 0) std::puts("SKIPPED: /dev/kvm does not open here");
  if (fd >= 0) close(fd);
  return fd < 0;
}
