/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "questions.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <vmm/kvm_uapi.h>

static void answer_begin(struct line* line, struct instance* me, int64_t call, const char* what,
                         int64_t result) {
  line_begin(line, &me->record, "answer");
  line_number(line, "call", call);
  line_string(line, "what", what);
  line_number(line, "result", result);
}

void answer(struct instance* me, int64_t call, const char* what, int64_t result) {
  struct line line;
  answer_begin(&line, me, call, what, result);
  line_end(&line);
}

static int32_t vm_ioctl(struct instance* me, vmm_vm_handle vm, uint32_t request, void* arg) {
  int32_t result;
  do result = me->table.vm_ioctl(me->table.host_ctx, vm, request, arg);
  while (result == -EINTR);
  return result;
}

static int32_t vcpu_ioctl(struct instance* me, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
  int32_t result;
  do result = me->table.vcpu_ioctl(me->table.host_ctx, vcpu, request, arg);
  while (result == -EINTR);
  return result;
}

static int32_t check_extension(struct instance* me, vmm_vm_handle vm, uintptr_t capability) {
  return vm_ioctl(me, vm, (uint32_t)KVM_CHECK_EXTENSION, (void*)capability);
}

struct one_msr {
  struct vmm_kvm_msrs_header header;
  struct kvm_msr_entry entry;
};

int32_t get_msr(struct instance* me, vmm_vcpu_handle vcpu, uint32_t index, uint64_t* value) {
  struct one_msr request = {{1, 0}, {index, 0, *value}};
  const int32_t result = vcpu_ioctl(me, vcpu, VMM_KVM_GET_MSRS, &request);
  *value = request.entry.data;
  return result;
}

int32_t set_msr(struct instance* me, vmm_vcpu_handle vcpu, uint32_t index, uint64_t value) {
  struct one_msr request = {{1, 0}, {index, 0, value}};
  return vcpu_ioctl(me, vcpu, VMM_KVM_SET_MSRS, &request);
}

/* A number that no KVM gives to a request, a capability, an MSR or a CPUID leaf. */
#define NO_REQUEST ((uint32_t)_IO(KVMIO, 0xff))
static const uintptr_t no_capability = 0x7ffffff;
static const uint32_t no_leaf = 0x8fffffff;
static const uint32_t untouched = 0xdeadbeef;

static void answer_cpuid(struct instance* me, int64_t call, const char* what, int32_t result,
                         const uint32_t registers[4]) {
  static const char* const names[] = {"eax", "ebx", "ecx", "edx"};
  struct line line;
  answer_begin(&line, me, call, what, result);
  for (int i = 0; i < 4; i++) line_number(&line, names[i], registers[i]);
  line_end(&line);
}

static void ask_cpuid(struct instance* me, int64_t call, const char* what, vmm_vm_handle vm,
                      vmm_vcpu_handle vcpu, uint32_t leaf) {
  uint32_t registers[4] = {untouched, untouched, untouched, untouched};
  if (!me->table.get_cpuid) return;
  answer_cpuid(me, call, what,
               me->table.get_cpuid(me->table.host_ctx, vm, vcpu, leaf, 0, registers), registers);
}

void ask_in_create(struct instance* me) {
  static const uint32_t levels[] = {VMM_LOG_DEBUG, 150, 250, 99999};
  static const char text[] = "host_conformance: a line of a level that may be unknown";
  for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
    me->table.log(me->table.host_ctx, levels[i], text, sizeof text - 1);
  answer(me, 0, "log", 0);
  if (me->table.get_extension)
    answer(me, 0, "get_extension",
           me->table.get_extension(me->table.host_ctx, "vmm.host-conformance.none/1") != NULL);
}

/* RDRAND: no guest needs it. */
#define HIDDEN_LEAF 1
#define HIDDEN_BIT (UINT32_C(1) << 30)

static void ask_hide(struct instance* me, int64_t call, vmm_vm_handle vm) {
  const struct vmm_cpuid_bits good = {HIDDEN_LEAF, 0, VMM_CPUID_ECX, HIDDEN_BIT};
  const struct vmm_cpuid_bits no_register[2] = {good, {HIDDEN_LEAF, 0, VMM_CPUID_EDX + 1, 1}};
  const struct vmm_cpuid_bits no_bit[2] = {good, {HIDDEN_LEAF, 0, VMM_CPUID_EAX, 0}};
  void* ctx = me->table.host_ctx;
  if (!me->table.hide_cpuid) return;
  answer(me, call, "hide_none", me->table.hide_cpuid(ctx, vm, &good, 0));
  answer(me, call, "hide_null", me->table.hide_cpuid(ctx, vm, NULL, 1));
  answer(me, call, "hide_no_register", me->table.hide_cpuid(ctx, vm, no_register, 2));
  answer(me, call, "hide_no_bit", me->table.hide_cpuid(ctx, vm, no_bit, 2));
  const int32_t result = me->table.hide_cpuid(ctx, vm, &good, 1);
  if (result == 0) __atomic_store_n(&me->hides, 1, __ATOMIC_RELAXED);
  answer(me, call, "hide", result);
}

/* The hidden bit: as the host tells it, and as KVM was given it. */
static void ask_hidden(struct instance* me, int64_t call, vmm_vm_handle vm, vmm_vcpu_handle vcpu) {
  enum { MOST_ENTRIES = 256 };
  struct {
    struct vmm_kvm_cpuid2_header header;
    struct kvm_cpuid_entry2 entries[MOST_ENTRIES];
  } cpuid;
  uint32_t registers[4] = {0, 0, 0, 0};
  if (!__atomic_load_n(&me->hides, __ATOMIC_RELAXED)) return;
  if (me->table.get_cpuid &&
      me->table.get_cpuid(me->table.host_ctx, vm, vcpu, HIDDEN_LEAF, 0, registers) == 0)
    answer(me, call, "hidden_bit_told", (registers[2] & HIDDEN_BIT) != 0);
  if (!vcpu) return;
  memset(&cpuid, 0, sizeof cpuid);
  cpuid.header.nent = MOST_ENTRIES;
  if (vcpu_ioctl(me, vcpu, VMM_KVM_GET_CPUID2, &cpuid) < 0) return;
  for (uint32_t i = 0; i < cpuid.header.nent && i < MOST_ENTRIES; i++)
    if (cpuid.entries[i].function == HIDDEN_LEAF)
      answer(me, call, "hidden_bit_in_kvm", (cpuid.entries[i].ecx & HIDDEN_BIT) != 0);
}

static void ask_supported(struct instance* me, int64_t call, vmm_vm_handle vm, const char* what,
                          uint32_t leaf) {
  uint32_t registers[4] = {untouched, untouched, untouched, untouched};
  if (!me->table.get_supported_cpuid) return;
  answer_cpuid(me, call, what,
               me->table.get_supported_cpuid(me->table.host_ctx, vm, leaf, 0, registers),
               registers);
}

static void ask_deny(struct instance* me, int64_t call, vmm_vm_handle vm) {
  struct vmm_msr_range ranges[40];
  if (!me->table.deny_msrs) return;
  for (uint32_t i = 0; i < 40; i++) {
    ranges[i].base = 0xc0012000 + 4 * i;
    ranges[i].count = 1;
  }
  answer(me, call, "deny_msrs_40", me->table.deny_msrs(me->table.host_ctx, vm, ranges, 40));
  answer(me, call, "deny_msrs_1", me->table.deny_msrs(me->table.host_ctx, vm, ranges, 1));
}

/* Is there a vCPU already? Two ioctls that KVM refuses then, with the values that it has anyway. */
static void ask_first(struct instance* me, int64_t call, vmm_vm_handle vm) {
  struct kvm_enable_cap cap;
  answer(me, call, "boot_cpu", vm_ioctl(me, vm, (uint32_t)KVM_SET_BOOT_CPU_ID, NULL));
  const int32_t offered = check_extension(me, vm, KVM_CAP_PMU_CAPABILITY);
  if (offered <= 0 || !(offered & KVM_PMU_CAP_DISABLE)) return;
  memset(&cap, 0, sizeof cap);
  cap.cap = KVM_CAP_PMU_CAPABILITY;
  answer(me, call, "pmu_capability", vm_ioctl(me, vm, (uint32_t)KVM_ENABLE_CAP, &cap));
}

void ask_in_vm_created(struct instance* me, int64_t call, vmm_vm_handle vm) {
  answer(me, call, "capability", check_extension(me, vm, KVM_CAP_USER_MEMORY));
  answer(me, call, "no_capability", check_extension(me, vm, no_capability));
  answer(me, call, "no_vm_request", vm_ioctl(me, vm, NO_REQUEST, NULL));
  ask_first(me, call, vm);
  ask_cpuid(me, call, "cpuid_vm", vm, NULL, 0);
  ask_deny(me, call, vm);
  ask_hide(me, call, vm);
  ask_supported(me, call, vm, "supported", 0);
  ask_supported(me, call, vm, "supported_no_leaf", no_leaf);
}

int32_t sink_add(const struct vmm_msr_sink* sink, const struct vmm_msr* msrs, uint32_t count) {
  return sink->add(sink->sink_ctx, msrs, count);
}

static void ask_sink(struct instance* me, int64_t call, const struct vmm_msr_sink* sink) {
  const struct vmm_msr one = {me->msr, 0, 0};
  const struct vmm_msr then_bad[2] = {{me->msr2, 0, 0}, {me->msr2, 1u << 30, 0}};
  answer(me, call, "add_none", sink_add(sink, &one, 0));
  answer(me, call, "add_null", sink_add(sink, NULL, 1));
  answer(me, call, "add_unknown_flag", sink_add(sink, then_bad, 2));
}

void ask_in_list(struct instance* me, int64_t call, vmm_vm_handle vm,
                 const struct vmm_msr_sink* sink) {
  const struct vmm_msr saved = {me->msr, VMM_MSR_SAVED, UINT32_MAX};
  const struct vmm_msr required = {me->msr2, VMM_MSR_REQUIRED, 0};
  const struct vmm_msr half[2] = {{me->msr2, VMM_MSR_SAVED, UINT32_MAX},
                                  {me->msr, VMM_MSR_SAVED, UINT32_MAX}};
  ask_cpuid(me, call, "cpuid_list", vm, NULL, 0);
  ask_hidden(me, call, vm, NULL);
  ask_sink(me, call, sink);
  answer(me, call, "add_required_alone", sink_add(sink, &required, 1));
  answer(me, call, "add_saved", sink_add(sink, &saved, 1));
  answer(me, call, "add_saved_again", sink_add(sink, &saved, 1));
  /* the second is there already: the first must not have been taken */
  answer(me, call, "add_half", sink_add(sink, half, 2));
  answer(me, call, "add_after_half", sink_add(sink, half, 1));
}

void ask_in_reset(struct instance* me, int64_t call, const struct vm* vm,
                  const struct vmm_vcpu* vcpu) {
  struct vmm_kvm_cpuid2_header cpuid = {0, 0};
  struct vmm_kvm_msrs_header too_many = {VMM_KVM_MAX_MSRS + 1, 0};
  const vmm_vm_handle handle = vm ? vm->handle : NULL;
  uint64_t before = untouched, after = 0;
  struct line line;
  answer(me, call, "no_vcpu_request", vcpu_ioctl(me, vcpu->handle, NO_REQUEST, &cpuid));
  answer(me, call, "too_many_msrs", vcpu_ioctl(me, vcpu->handle, VMM_KVM_GET_MSRS, &too_many));
  answer(me, call, "cpuid2", vcpu_ioctl(me, vcpu->handle, VMM_KVM_GET_CPUID2, &cpuid));
  const int32_t got = get_msr(me, vcpu->handle, me->msr, &before);
  if (got == 1) {
    const int32_t set = set_msr(me, vcpu->handle, me->msr, 0x5a5a00);
    const int32_t again = get_msr(me, vcpu->handle, me->msr, &after);
    const int32_t back = set_msr(me, vcpu->handle, me->msr, before);
    answer_begin(&line, me, call, "msr", set);
    line_number(&line, "read", again);
    line_bool(&line, "kept", after == 0x5a5a00);
    line_number(&line, "back", back);
    line_end(&line);
  } else {
    answer_begin(&line, me, call, "msr_read", got);
    line_bool(&line, "written", before != untouched);
    line_end(&line);
  }
  answer(me, call, "no_msr", set_msr(me, vcpu->handle, NO_MSR, 0));
  if (vm) {
    ask_cpuid(me, call, "cpuid_vcpu", handle, vcpu->handle, 0);
    ask_cpuid(me, call, "cpuid_no_leaf", handle, vcpu->handle, no_leaf);
    ask_hidden(me, call, handle, vcpu->handle);
  }
  if (vcpu->batch) ask_sink(me, call, vcpu->batch);
}

/* ---- on a thread of our own: started in create, since a sandboxed thread could start none -----
 */

static void* work(void* argument) {
  struct instance* me = argument;
  struct worker* worker = &me->worker;
  const struct timespec nap = {0, 50000};
  for (;;) {
    const int state = __atomic_load_n(&worker->state, __ATOMIC_ACQUIRE);
    if (state == ENDED) return NULL;
    if (state == GIVEN) {
      worker->result = worker->job(me, worker->handle);
      __atomic_store_n(&worker->state, DONE, __ATOMIC_RELEASE);
    }
    nanosleep(&nap, NULL);
  }
}

static int32_t ask_vm_on_thread(struct instance* me, void* handle) {
  static const char text[] = "host_conformance: a line from a thread of the plugin's";
  me->table.log(me->table.host_ctx, VMM_LOG_DEBUG, text, sizeof text - 1);
  return check_extension(me, handle, KVM_CAP_USER_MEMORY);
}

static int32_t ask_vcpu_on_thread(struct instance* me, void* handle) {
  uint64_t value = 0;
  return get_msr(me, handle, me->msr, &value);
}

/* Asks here and on the thread. Where another hook has the thread, nothing. */
static void ask_both(struct instance* me, int64_t call, const char* what,
                     int32_t (*job)(struct instance* me, void* handle), void* handle) {
  struct worker* worker = &me->worker;
  int expected = IDLE;
  struct line line;
  if (!worker->started || !__atomic_compare_exchange_n(&worker->state, &expected, CLAIMED, 0,
                                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
    return;
  const int32_t here = job(me, handle);
  line_begin(&line, &me->record, "ask");
  line_number(&line, "call", call);
  line_string(&line, "what", what);
  line_end(&line);
  worker->job = job;
  worker->handle = handle;
  __atomic_store_n(&worker->state, GIVEN, __ATOMIC_RELEASE);
  while (__atomic_load_n(&worker->state, __ATOMIC_ACQUIRE) != DONE) continue;
  answer_begin(&line, me, call, what, worker->result);
  line_number(&line, "here", here);
  line_end(&line);
  __atomic_store_n(&worker->state, IDLE, __ATOMIC_RELEASE);
}

void ask_vm_both(struct instance* me, int64_t call, vmm_vm_handle vm) {
  ask_both(me, call, "vm_ioctl_on_thread", ask_vm_on_thread, vm);
}

void ask_vcpu_both(struct instance* me, int64_t call, vmm_vcpu_handle vcpu) {
  ask_both(me, call, "vcpu_ioctl_on_thread", ask_vcpu_on_thread, vcpu);
}

void start_worker(struct instance* me) {
  me->worker.started = pthread_create(&me->worker.thread, NULL, work, me) == 0;
}

void end_worker(struct instance* me) {
  if (!me->worker.started) return;
  __atomic_store_n(&me->worker.state, ENDED, __ATOMIC_RELEASE);
  pthread_join(me->worker.thread, NULL);
}
