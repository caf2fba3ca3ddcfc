/* SPDX-License-Identifier: MIT
 *
 * vmm/plugin_helper.h - what every plugin of vmm/plugin.h repeats: checking and copying the host's
 * table, filling an error, splitting the option string, a log line, one MSR. Header only, C99 and
 * C++; needs the C library. Optional: the contract is vmm/plugin.h alone.
 *
 * THREADS
 *   Pure functions on their arguments. vmm_write_msr is S2 safe where the host's vcpu_ioctl is;
 *   vmm_log formats on the stack and allocates nothing.
 */
#ifndef VMM_PLUGIN_HELPER_H
#define VMM_PLUGIN_HELPER_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#if defined(__GNUC__)
#define VMM_HELPER_FORMAT(text, first) __attribute__((format(printf, text, first), unused))
#define VMM_HELPER_UNUSED __attribute__((unused))
#else
#define VMM_HELPER_FORMAT(text, first)
#define VMM_HELPER_UNUSED
#endif

/* How much of a text that was cut after `length` bytes is whole UTF-8 characters. */
VMM_HELPER_UNUSED
static size_t vmm_whole_characters(const char* text, size_t length) {
  size_t start = length; /* of the last character */
  unsigned char lead;
  while (start > 0 && ((unsigned char)text[start - 1] & 0xc0u) == 0x80u) start--;
  if (start == 0) return length; /* continuation bytes alone: no UTF-8 */
  lead = (unsigned char)text[--start];
  return start + (lead < 0x80u   ? 1u
                  : lead < 0xe0u ? 2u
                  : lead < 0xf0u ? 3u
                                 : 4u) <=
                 length
             ? length
             : start;
}

/* Puts one line into the caller's error, if it has one, and returns `code`. */
VMM_HELPER_FORMAT(3, 4)
static int32_t vmm_fail(struct vmm_error* error, int32_t code, const char* format, ...) {
  va_list arguments;
  int length;
  if (error && error->struct_size >= sizeof *error && error->message && error->capacity > 0) {
    va_start(arguments, format);
    length = vsnprintf(error->message, error->capacity, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length >= error->capacity)
      error->message[vmm_whole_characters(error->message, error->capacity - 1)] = '\0';
  }
  return code;
}

/* What a function of the other side returned, as one that may be passed on: 0, a negated errno, or
 * -EPROTO for what is neither. */
VMM_HELPER_UNUSED
static int32_t vmm_result(int32_t result) {
  return result > 0 || result < -4095 ? -EPROTO : result;
}

/* Copies the host's table as far as this plugin knows it; fields that an older host lacks are NULL.
 * 0; -EINVAL with words: the table is too small, of another major, or lacks a callback. For create,
 * before anything else. */
VMM_HELPER_UNUSED
static int32_t vmm_take_host(struct vmm_host* mine, const struct vmm_host* host,
                             struct vmm_error* error) {
  /* `log` is the last callback that every host has; what comes after it may be missing */
  if (!host || host->struct_size < offsetof(struct vmm_host, get_cpuid) ||
      host->abi_major != VMM_PLUGIN_ABI_MAJOR)
    return vmm_fail(error, -EINVAL, "the host's table is too small or of another ABI major");
  if (!host->name || !host->register_hooks || !host->vm_ioctl || !host->vcpu_ioctl || !host->log)
    return vmm_fail(error, -EINVAL, "the host's table lacks a callback");
  memset(mine, 0, sizeof *mine);
  /* whole words: a size that ends inside a field must not tear a pointer */
  memcpy(mine, host,
         (host->struct_size < sizeof *mine ? host->struct_size : sizeof *mine) / sizeof(void*) *
             sizeof(void*));
  return 0;
}

/* Takes the next "key=value" off *options; a doubled comma in a value is one of it. Keys and values
 * that do not fit are an error.
 * 1: there was one; 0: the end; -EINVAL: no '=', an empty key, a comma at the end; -ENOSPC: longer
 * than the buffer.
 */
VMM_HELPER_UNUSED
static int32_t vmm_next_option(const char** options, char* key, size_t key_size, char* value,
                               size_t value_size) {
  const char* at = *options;
  size_t length = 0;
  if (!at || !*at) return 0;
  for (; *at && *at != '=' && *at != ','; at++) {
    if (length + 1 >= key_size) return -ENOSPC;
    key[length++] = *at;
  }
  if (*at != '=' || length == 0) return -EINVAL;
  key[length] = '\0';
  length = 0;
  for (at++; *at; at++) {
    if (*at == ',') {
      if (at[1] != ',') break;
      at++;
    }
    if (length + 1 >= value_size) return -ENOSPC;
    value[length++] = *at;
  }
  value[length] = '\0';
  if (*at && !at[1]) return -EINVAL; /* a comma, and nothing after it */
  *options = *at ? at + 1 : at;
  return 1;
}

/* One finished line in the host's log, cut after at most 255 bytes. */
VMM_HELPER_FORMAT(3, 4)
static void vmm_log(const struct vmm_host* host, uint32_t level, const char* format, ...) {
  char line[256];
  va_list arguments;
  int length;
  va_start(arguments, format);
  length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  if ((size_t)length >= sizeof line) {
    length = (int)vmm_whole_characters(line, sizeof line - 1);
    line[length] = '\0';
  }
  host->log(host->host_ctx, level, line, (uint64_t)length);
}

/* Writes one MSR of a vCPU: into the batch that the host lends, or by an ioctl of its own.
 * 0; -EIO: KVM refuses the MSR; or what the host returned. For vcpu_reset. */
VMM_HELPER_UNUSED
static int32_t vmm_write_msr(const struct vmm_host* host, const struct vmm_vcpu* vcpu,
                             uint32_t index, uint64_t value) {
  struct {
    struct vmm_kvm_msrs_header header;
    struct vmm_msr msr; /* has the layout of kvm_msr_entry */
  } request;
  int32_t result;
  memset(&request, 0, sizeof request);
  request.header.nmsrs = 1;
  request.msr.index = index;
  request.msr.value = value;
  if (vcpu->batch) {
    result = vcpu->batch->add(vcpu->batch->sink_ctx, &request.msr, 1);
    if (result != -ENOSPC) return vmm_result(result);
  }
  do {
    result = host->vcpu_ioctl(host->host_ctx, vcpu->handle, VMM_KVM_SET_MSRS, &request);
  } while (result == -EINTR);
  if (result < 0) return vmm_result(result);
  return result == 1 ? 0 : -EIO; /* KVM returns how many it wrote */
}

#endif /* VMM_PLUGIN_HELPER_H */
