/* SPDX-License-Identifier: MIT
 *
 * A host with a stand-in for KVM that keeps every rule that host_conformance.so can look at, or
 * breaks one in one way: two VMs of two vCPUs, seven resets, a save and a restore.
 *   bad_host PLUGIN.so OPTIONS [DEFECT]
 *   bad_host --list          a line for each defect: its name, the number of the rule
 * Exit status: 0 it came to the end, 1 create failed, 2 usage. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

/* X(name, rule): what the host does wrong, and which rule that breaks. */
#define DEFECTS(X)                                                      \
  X(global_scope, 5)      /* dlopen with RTLD_GLOBAL */                 \
  X(no_log, 8)            /* a callback is missing */                   \
  X(table_not_copied, 11) /* calls through the plugin's table */        \
  X(second_register_taken, 11)                                          \
  X(not_registered_is_left, 12)  /* no destroy */                       \
  X(failed_create_destroyed, 13) /* destroy behind an error */          \
  X(options_reused, 16)          /* the string's memory serves again */ \
  X(destroyed_twice, 18)                                                \
  X(destroyed_with_vms, 18) /* vm_destroyed comes too late */           \
  X(bound_to_thread, 19)    /* callbacks fail on another thread */      \
  X(minus_one, 21)          /* ioctl's result instead of -errno */      \
  X(argument_lost, 21)      /* an integer argument becomes 0 */         \
  X(short_count_hidden, 21) /* 0 instead of the count */                \
  X(three_registers, 25)    /* edx is not written */                    \
  X(any_extension, 26)                                                  \
  X(null_hook_ends_all, 27) /* no vm_created: no further hook */        \
  X(vm_created_late, 28)    /* behind the first vCPU */                 \
  X(vm_ctx_not_null, 28)                                                \
  X(vm_ctx_swapped, 29)                                                 \
  X(refused_vm_destroyed, 30)                                           \
  X(vm_destroyed_twice, 31)                                             \
  X(vm_destroyed_missing, 31)                                           \
  X(reset_before_cpuid, 32)                                             \
  X(index_too_high, 34)                                                 \
  X(list_before_cpuid, 36)                                              \
  X(resets_overlap, 37) /* one vCPU on two threads */                   \
  X(list_while_reset, 37)                                               \
  X(hook_in_callback, 38)                                               \
  X(positive_is_success, 43)                                            \
  X(message_not_empty, 44)                                              \
  X(sink_takes_half, 47)                                                \
  X(batch_reversed, 50)                                                 \
  X(failed_batch_written, 50)                                           \
  X(batch_forgotten, 50)                                                \
  X(batch_stops, 51)  /* at the first MSR that KVM refuses */           \
  X(batch_in_one, 52) /* one ioctl of any length */                     \
  X(list_reversed, 55)                                                  \
  X(mask_ignored, 56)                                                   \
  X(constants_skipped, 57)                                              \
  X(failed_list_restored, 59)                                           \
  X(deny_takes_half, 62)                                                \
  X(hidden_is_shown, 75)                                                \
  X(hides_what_is_no_bit, 76)                                           \
  X(supported_three_registers, 77)                                      \
  X(reserved_not_0, 66)                                                 \
  X(exact_size, 67) /* refuses a table with a member more */

enum defect {
  none,
#define X(name, rule) name,
  DEFECTS(X)
#undef X
};
static const struct {
  const char* name;
  unsigned rule;
} defects[] = {{"none", 0},
#define X(name, rule) {#name, rule},
               DEFECTS(X)
#undef X
};
enum { DEFECT_COUNT = sizeof defects / sizeof defects[0] };
static enum defect defect;

#ifndef NO_MARKER
VMM_PLUGIN_EXPORT extern const int vmm_plugin_host_v1;
const int vmm_plugin_host_v1 = 1;
#endif

/* ---- the stand-in for KVM ------------------------------------------------------------------ */

enum { VCPUS = 2, VMS = 2, MSRS = 4, MOST_ENTRIES = 1024, FILTER_RANGES = 16 };

struct vcpu {
  uint64_t msrs[MSRS];
  uint64_t saved[MSRS];
  int has_cpuid;
};

/* A list of msr_list_build, or a batch of vcpu_reset. */
struct list {
  uint32_t known_flags;
  uint32_t count;
  struct vmm_msr msrs[MOST_ENTRIES];
};

struct vm {
  struct vcpu vcpus[VCPUS];
  int vcpus_made, refused;
  uint32_t denied;
  uint32_t hidden; /* of leaf 1 ECX */
  void* vm_ctx;
  struct list list;
};
static struct vm vms[VMS];

static uint64_t* msr_at(struct vcpu* vcpu, uint32_t index) {
  static const uint32_t known[MSRS] = {0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084};
  for (int i = 0; i < MSRS; i++)
    if (known[i] == index) return &vcpu->msrs[i];
  return NULL;
}

static int32_t kvm_msrs(struct vcpu* vcpu, int set, void* arg) {
  const struct vmm_kvm_msrs_header* header = arg;
  struct kvm_msr_entry* entries = (struct kvm_msr_entry*)(void*)((char*)arg + sizeof *header);
  if (header->nmsrs > VMM_KVM_MAX_MSRS) return -E2BIG;
  for (uint32_t i = 0; i < header->nmsrs; i++) {
    uint64_t* msr = msr_at(vcpu, entries[i].index);
    if (!msr) return (int32_t)i;
    if (set)
      *msr = entries[i].data;
    else
      entries[i].data = *msr;
  }
  return (int32_t)header->nmsrs;
}

static int32_t kvm_vm(const struct vm* vm, uint32_t request, uintptr_t arg) {
  if (request == (uint32_t)KVM_CHECK_EXTENSION)
    return arg == KVM_CAP_USER_MEMORY || arg == KVM_CAP_PMU_CAPABILITY;
  if (request == (uint32_t)KVM_SET_BOOT_CPU_ID) return vm->vcpus_made ? -EBUSY : 0;
  if (request == (uint32_t)KVM_ENABLE_CAP) return vm->vcpus_made ? -EINVAL : 0;
  return -ENOTTY;
}

static int32_t kvm_vcpu(struct vcpu* vcpu, uint32_t request, void* arg) {
  if (request == VMM_KVM_GET_MSRS || request == VMM_KVM_SET_MSRS)
    return kvm_msrs(vcpu, request == VMM_KVM_SET_MSRS, arg);
  if (request == VMM_KVM_GET_CPUID2) return vcpu->has_cpuid ? -E2BIG : 0;
  return -EINVAL;
}

/* ---- the host's table ---------------------------------------------------------------------- */

static const struct vmm_hooks* registered; /* the plugin's own table, for table_not_copied */
static struct vmm_hooks hooks_copy;
static void* hooks_ctx;
static pthread_t main_thread;

static const struct vmm_hooks* hooks(void) {
  return defect == table_not_copied ? registered : &hooks_copy;
}

static int32_t register_hooks(void* host_ctx, const struct vmm_hooks* table, void* ctx) {
  const size_t least = offsetof(struct vmm_hooks, vcpu_reset) + sizeof table->vcpu_reset;
  (void)host_ctx;
  if (!table || table->struct_size < least) return -EINVAL;
  if (defect == exact_size && table->struct_size != sizeof *table) return -EINVAL;
  if (registered && defect != second_register_taken) return -EALREADY;
  memcpy(&hooks_copy, table,
         table->struct_size < sizeof hooks_copy ? table->struct_size : sizeof hooks_copy);
  registered = table;
  hooks_ctx = ctx;
  return 0;
}

static int32_t as_result(int32_t result) {
  if (defect == bound_to_thread && !pthread_equal(pthread_self(), main_thread)) return -EPERM;
  return result < 0 && defect == minus_one ? -1 : result;
}

static int32_t vm_ioctl(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
  (void)host_ctx;
  if (defect == argument_lost) arg = (void*)(uintptr_t)KVM_CAP_USER_MEMORY;
  return as_result(kvm_vm((struct vm*)(void*)vm, request, (uintptr_t)arg));
}

static void reset_inside(vmm_vcpu_handle outer);

static int32_t vcpu_ioctl(void* host_ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
  (void)host_ctx;
  if (defect == hook_in_callback) reset_inside(vcpu);
  const int32_t result = kvm_vcpu((struct vcpu*)(void*)vcpu, request, arg);
  return as_result(defect == short_count_hidden && result > 0 ? 0 : result);
}

static void print_log(void* host_ctx, uint32_t level, const char* message, uint64_t length) {
  (void)host_ctx;
  printf("log %u: %.*s\n", level, (int)length, message);
}

#define RDRAND (UINT32_C(1) << 30)
static const uint32_t vendor_leaf[4] = {0x10, 0x68747541, 0x444d4163, 0x69746e65};

static int32_t get_cpuid(void* host_ctx, vmm_vm_handle handle, vmm_vcpu_handle vcpu, uint32_t leaf,
                         uint32_t subleaf, uint32_t registers[4]) {
  (void)host_ctx, (void)vcpu, (void)subleaf;
  if (!((struct vm*)(void*)handle)->vcpus[0].has_cpuid) return -ENOENT;
  for (int i = 0; i < (defect == three_registers ? 3 : 4); i++)
    registers[i] = leaf == 0 ? vendor_leaf[i] : 0;
  if (leaf == 1) registers[2] = RDRAND & ~((struct vm*)(void*)handle)->hidden;
  return 0;
}

static int32_t hide_cpuid(void* host_ctx, vmm_vm_handle handle, const struct vmm_cpuid_bits* bits,
                          uint32_t count) {
  (void)host_ctx;
  if (!bits || count == 0) return -EINVAL;
  for (uint32_t i = 0; i < count && defect != hides_what_is_no_bit; i++)
    if (bits[i].reg > VMM_CPUID_EDX || bits[i].mask == 0) return -EINVAL;
  for (uint32_t i = 0; i < count && defect != hidden_is_shown; i++)
    if (bits[i].leaf == 1 && bits[i].reg == VMM_CPUID_ECX)
      ((struct vm*)(void*)handle)->hidden |= bits[i].mask;
  return 0;
}

static int32_t get_supported_cpuid(void* host_ctx, vmm_vm_handle handle, uint32_t leaf,
                                   uint32_t subleaf, uint32_t registers[4]) {
  (void)host_ctx, (void)handle, (void)subleaf;
  for (int i = 0; i < (defect == supported_three_registers ? 3 : 4); i++)
    registers[i] = leaf == 0 ? vendor_leaf[i] : 0;
  return 0;
}

static int32_t deny_msrs(void* host_ctx, vmm_vm_handle handle, const struct vmm_msr_range* ranges,
                         uint32_t count) {
  struct vm* vm = (struct vm*)(void*)handle;
  (void)host_ctx, (void)ranges;
  if (count <= FILTER_RANGES - vm->denied) return vm->denied += count, 0;
  if (defect == deny_takes_half) vm->denied = FILTER_RANGES;
  return -ENOSPC;
}

static const void* get_extension(void* host_ctx, const char* id) {
  (void)host_ctx;
  return defect == any_extension ? id : NULL;
}

/* ---- lists and batches --------------------------------------------------------------------- */

static int is_saved(const struct vmm_msr* msrs, uint32_t count, uint32_t index) {
  for (uint32_t i = 0; i < count; i++)
    if (msrs[i].index == index && msrs[i].flags & VMM_MSR_SAVED) return 1;
  return 0;
}

static int32_t add(void* sink_ctx, const struct vmm_msr* msrs, uint32_t count) {
  struct list* list = sink_ctx;
  const uint32_t before = list->count;
  int32_t wrong = 0;
  if (!msrs || count == 0) return -EINVAL;
  if (count > MOST_ENTRIES - list->count) return -ENOSPC;
  for (uint32_t i = 0; i < count && wrong == 0; i++) {
    if (msrs[i].flags & ~list->known_flags || msrs[i].flags == VMM_MSR_REQUIRED)
      wrong = -EINVAL;
    else if (msrs[i].flags & VMM_MSR_SAVED && is_saved(list->msrs, list->count, msrs[i].index))
      wrong = -EEXIST;
    else
      list->msrs[list->count++] = msrs[i];
  }
  if (wrong != 0 && defect != sink_takes_half) list->count = before;
  return wrong;
}

static void reverse(struct list* list) {
  for (uint32_t i = 0, j = list->count; i + 1 < j; i++) {
    const struct vmm_msr other = list->msrs[--j];
    list->msrs[j] = list->msrs[i];
    list->msrs[i] = other;
  }
}

/* Writes a batch: in chunks, and behind what KVM refuses. */
static void flush(struct vcpu* vcpu, struct list* batch) {
  struct {
    struct vmm_kvm_msrs_header header;
    struct vmm_msr msrs[MOST_ENTRIES];
  } request;
  if (defect == batch_forgotten) batch->count = 0;
  if (defect == batch_reversed) reverse(batch);
  for (uint32_t done = 0; done < batch->count;) {
    uint32_t count = batch->count - done;
    if (count > VMM_KVM_MAX_MSRS && defect != batch_in_one) count = VMM_KVM_MAX_MSRS;
    request.header.nmsrs = count;
    memcpy(request.msrs, batch->msrs + done, count * sizeof request.msrs[0]);
    const int32_t written = kvm_msrs(vcpu, 1, &request);
    if (written < 0 || (defect == batch_stops && written < (int32_t)count)) break;
    done += (uint32_t)written + (written < (int32_t)count);
  }
  batch->count = 0;
}

static void save(struct vcpu* vcpu) { memcpy(vcpu->saved, vcpu->msrs, sizeof vcpu->saved); }

static void restore(struct vcpu* vcpu, struct list* list) {
  if (defect == list_reversed) reverse(list);
  for (uint32_t i = 0; i < list->count; i++) {
    const struct vmm_msr entry = list->msrs[i];
    uint64_t* msr = msr_at(vcpu, entry.index);
    if (!msr) continue;
    if (!(entry.flags & VMM_MSR_SAVED)) {
      if (defect != constants_skipped) *msr = entry.value;
    } else {
      *msr = vcpu->saved[msr - vcpu->msrs] & (defect == mask_ignored ? UINT64_MAX : entry.value);
    }
  }
}

/* ---- the hooks ----------------------------------------------------------------------------- */

struct text {
  char message[128];
  struct vmm_error error;
};
static struct vmm_error* prepare(struct text* text) {
  text->message[0] = defect == message_not_empty ? 'x' : 0;
  text->error.struct_size = sizeof text->error;
  text->error.capacity = sizeof text->message;
  text->error.message = text->message;
  return &text->error;
}

static int failed(int32_t result) {
  return defect == positive_is_success ? result < 0 : result != 0;
}

static struct vmm_vm shape_of(struct vm* vm) {
  const struct vmm_vm shape = {sizeof shape, defect == index_too_high ? VCPUS - 1 : VCPUS,
                               (vmm_vm_handle)(void*)vm};
  return shape;
}

static int32_t reset(struct vm* vm, struct vcpu* vcpu) {
  struct list batch = {0, 0, {{0, 0, 0}}};
  const struct vmm_msr_sink sink = {sizeof sink, 0, &batch, add};
  const struct vmm_vcpu context = {sizeof context,           (uint32_t)(vcpu - vm->vcpus), 0,
                                   defect == reserved_not_0, (vmm_vcpu_handle)(void*)vcpu, &sink};
  if (!hooks()->vcpu_reset) return 0;
  const int32_t result = hooks()->vcpu_reset(hooks_ctx, vm->vm_ctx, &context);
  if (!failed(result) || defect == failed_batch_written) flush(vcpu, &batch);
  return result;
}

static void reset_inside(vmm_vcpu_handle outer) {
  static int inside;
  struct vcpu* vcpu = (struct vcpu*)(void*)outer;
  for (int i = 0; i < VMS; i++)
    if (inside == 0 && vcpu == &vms[i].vcpus[0]) {
      inside = 1;
      reset(&vms[i], &vms[i].vcpus[1]);
      inside = 0;
    }
}

static void build_list(struct vm* vm) {
  const struct vmm_vm shape = shape_of(vm);
  const struct vmm_msr_sink sink = {sizeof sink, 0, &vm->list, add};
  struct text text;
  if (!hooks()->msr_list_build) return;
  vm->list.known_flags = VMM_MSR_SAVED | VMM_MSR_REQUIRED;
  vm->list.count = 0;
  void* vm_ctx = defect == vm_ctx_swapped ? vms[vm == vms].vm_ctx : vm->vm_ctx;
  const int32_t result = hooks()->msr_list_build(hooks_ctx, vm_ctx, &shape, &sink, prepare(&text));
  if (failed(result) && defect != failed_list_restored) vm->list.count = 0;
}

/* What must not overlap, on two threads: each goes on until both have made some calls. So they
 * overlap, however late the second thread begins; hooks that take no time end before the record is
 * full. */
enum { CALLS_THAT_MEET = 3, MOST_CALLS = 60 };
static int calls_made[2];

static int goes_on(int self) {
  const int own = __atomic_add_fetch(&calls_made[self], 1, __ATOMIC_SEQ_CST);
  const int other = __atomic_load_n(&calls_made[!self], __ATOMIC_SEQ_CST);
  return own < CALLS_THAT_MEET || (other < CALLS_THAT_MEET && own < MOST_CALLS);
}

static void* other_calls(void* vm) {
  do {
    if (defect == resets_overlap)
      reset(vm, ((struct vm*)vm)->vcpus);
    else
      build_list(vm);
  } while (goes_on(1));
  return NULL;
}

static void overlap(struct vm* vm) {
  pthread_t thread;
  calls_made[0] = calls_made[1] = 0;
  if (pthread_create(&thread, NULL, other_calls, vm) != 0) return;
  do reset(vm, vm->vcpus);
  while (goes_on(0));
  pthread_join(thread, NULL);
}

static void create_vm(struct vm* vm) {
  const struct vmm_vm shape = shape_of(vm);
  struct text text;
  vm->vcpus_made = defect == vm_created_late;
  vm->vm_ctx = defect == vm_ctx_not_null ? vm : NULL;
  if (hooks()->vm_created)
    vm->refused = failed(hooks()->vm_created(hooks_ctx, &shape, &vm->vm_ctx, prepare(&text)));
  else if (defect == null_hook_ends_all)
    vm->refused = 1;
  if (vm->refused) return;
  vm->vcpus_made = 1;
  if (defect == list_before_cpuid) build_list(vm);
  if (defect == reset_before_cpuid) reset(vm, &vm->vcpus[0]);
  for (int i = 0; i < VCPUS; i++) vm->vcpus[i].has_cpuid = 1;
}

static void run_vm(struct vm* vm) {
  for (int round = 0; round < 7; round++) {
    for (int i = 0; i < VCPUS; i++) reset(vm, &vm->vcpus[i]);
    if (round != 1) continue;
    for (int i = 0; i < VCPUS; i++) {
      save(&vm->vcpus[i]);
      restore(&vm->vcpus[i], &vm->list);
    }
  }
  if (defect == resets_overlap || defect == list_while_reset) overlap(vm);
}

static void end_vm(const struct vm* vm) {
  if (vm->refused && defect != refused_vm_destroyed) return;
  for (int i = 0; i < 1 + (defect == vm_destroyed_twice); i++)
    if (hooks()->vm_destroyed && defect != vm_destroyed_missing)
      hooks()->vm_destroyed(hooks_ctx, vm->vm_ctx);
}

static void drive(void) {
  for (int i = 0; i < VMS; i++) create_vm(&vms[i]);
  for (int i = 0; i < VMS; i++)
    if (!vms[i].refused && defect != list_before_cpuid) build_list(&vms[i]);
  for (int i = 0; i < VMS; i++)
    if (!vms[i].refused) run_vm(&vms[i]);
}

static void end_vms(void) {
  for (int i = 0; i < VMS; i++) end_vm(&vms[i]);
}

/* ---- create and destroy -------------------------------------------------------------------- */

static int run_plugin(const struct vmm_plugin* plugin, char* options) {
  const struct vmm_host host = {sizeof host,
                                VMM_PLUGIN_ABI_MAJOR,
                                VMM_PLUGIN_ABI_MINOR,
                                0,
                                NULL,
                                "bad_host 1.0",
                                register_hooks,
                                vm_ioctl,
                                vcpu_ioctl,
                                defect == no_log ? NULL : print_log,
                                get_cpuid,
                                deny_msrs,
                                get_extension,
                                hide_cpuid,
                                get_supported_cpuid};
  struct text text;
  void* ctx = NULL;
  const int32_t result = plugin->create(&host, options, &ctx, prepare(&text));
  if (failed(result)) {
    if (defect == failed_create_destroyed && registered) plugin->destroy(hooks_ctx);
    return 1;
  }
  if (defect == options_reused && options) options[0] = 'R';
  if (registered)
    drive();
  else if (defect == not_registered_is_left)
    return 1;
  if (result > 0) ctx = hooks_ctx; /* positive_is_success */
  if (registered && defect != destroyed_with_vms) end_vms();
  plugin->destroy(ctx);
  if (defect == destroyed_twice) plugin->destroy(ctx);
  return 0;
}

static int find_defect(const char* name) {
  for (unsigned i = 0; i < DEFECT_COUNT; i++)
    if (strcmp(defects[i].name, name) == 0) return (int)i;
  return -1;
}

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (unsigned i = 1; i < DEFECT_COUNT; i++) printf("%s %u\n", defects[i].name, defects[i].rule);
    return 0;
  }
  const int found = argc > 3 ? find_defect(argv[3]) : none;
  if (argc < 3 || found < 0) return puts("usage: bad_host PLUGIN.so OPTIONS [DEFECT]"), 2;
  defect = (enum defect)found;
  main_thread = pthread_self();
  void* library = dlopen(argv[1], RTLD_NOW | (defect == global_scope ? RTLD_GLOBAL : RTLD_LOCAL));
  if (!library) return puts(dlerror()), 2;
  vmm_plugin_entry entry;
  *(void**)&entry = dlsym(library, VMM_PLUGIN_ENTRY_NAME);
  if (!entry) return puts("not a plugin"), 2;
  return run_plugin(entry(), argv[2]);
}
