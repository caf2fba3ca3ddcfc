/* SPDX-License-Identifier: MIT
 *
 * A plugin that does what its options say, for tests of hosts:
 *   fail-create, fail-created, fail-reset   this function returns -EPERM
 *   deny                                    vm_created denies K7 and family 15h PMU registers
 *   deny-many                               vm_created denies 15 ranges of one register
 *   cpuid                                   vcpu_reset logs what get_cpuid says of leaf 0x80000001,
 *                                           and of which vCPU
 *   own-ioctl                               vcpu_reset calls libc's ioctl itself
 *   slow                                    vcpu_reset takes a while
 *   hide                                    vm_created hides PerfCtrExtCore (80000001 ECX 23)
 *   supported                               vm_created logs KVM's own 80000001 ECX
 *   guest-pmu                               vm_created logs what the VMM was told of the PMU
 *   disable-pmu                             vm_created sets KVM_PMU_CAP_DISABLE
 * Anything else is refused with -EINVAL. It is plain C99: what it takes to write a plugin.
 */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vmm/guest_pmu.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

enum option {
  FAIL_CREATE = 1 << 0,
  FAIL_CREATED = 1 << 1,
  FAIL_RESET = 1 << 2,
  DENY = 1 << 3,
  DENY_MANY = 1 << 4,
  CPUID = 1 << 5,
  OWN_IOCTL = 1 << 6,
  SLOW = 1 << 7,
  DISABLE_PMU = 1 << 8,
  HIDE = 1 << 9,
  SUPPORTED = 1 << 10,
  GUEST_PMU = 1 << 11
};

static const char* const option_names[] = {
    "fail-create", "fail-created", "fail-reset",  "deny", "deny-many", "cpuid",
    "own-ioctl",   "slow",         "disable-pmu", "hide", "supported", "guest-pmu"};
enum { OPTIONS = sizeof option_names / sizeof option_names[0] };

struct instance {
  const struct vmm_host* host;
  unsigned options;
  pid_t process; /* that made it: a forked VMM has instances of its own */
};

/* One VM; also counts whether its hooks overlap with its end. */
struct vm {
  vmm_vm_handle handle;
  uint32_t max_vcpus;
};

static void say(const struct instance* me, const char* text) {
  me->host->log(me->host->host_ctx, VMM_LOG_INFO, text, strlen(text));
}

static int32_t refuse(struct vmm_error* error, int32_t code, const char* text) {
  if (error != NULL) snprintf(error->message, error->capacity, "%s", text);
  return code;
}

static int32_t deny(struct instance* me, vmm_vm_handle vm) {
  static const struct vmm_msr_range pmu[] = {{0xc0010000, 8}, {0xc0010200, 12}};
  struct vmm_msr_range many[15];
  uint32_t i;
  if (me->host->deny_msrs == NULL) return -EOPNOTSUPP;
  for (i = 0; i < 15; ++i) {
    many[i].base = 0xc0010000 + 2 * i;
    many[i].count = 1;
  }
  return (me->options & DENY_MANY) != 0 ? me->host->deny_msrs(me->host->host_ctx, vm, many, 15)
                                        : me->host->deny_msrs(me->host->host_ctx, vm, pmu, 2);
}

/* What the options ask of ABI 1.1; a negated errno if the host has not got it. */
static int32_t use_new_functions(struct instance* me, vmm_vm_handle vm) {
  static const struct vmm_cpuid_bits core = {0x80000001, 0, VMM_CPUID_ECX, 1u << 23};
  static const struct vmm_cpuid_bits wrong = {0x80000001, 0, 4, 1};
  const struct vmm_host* host = me->host;
  char text[128];
  if ((me->options & SUPPORTED) != 0) {
    uint32_t registers[4] = {0, 0, 0, 0};
    const int32_t result = host->get_supported_cpuid(host->host_ctx, vm, 0x80000001, 0, registers);
    snprintf(text, sizeof text, "supported result=%" PRId32 " core=%d", result,
             (registers[2] >> 23) & 1);
    say(me, text);
  }
  if ((me->options & GUEST_PMU) != 0) {
    const struct vmm_guest_pmu* guest_pmu = host->get_extension(host->host_ctx, VMM_GUEST_PMU_ID);
    if (guest_pmu == NULL) return -EOPNOTSUPP;
    snprintf(text, sizeof text, "guest_pmu wanted=%" PRIu32, guest_pmu->wanted(host->host_ctx, vm));
    say(me, text);
  }
  if ((me->options & HIDE) == 0) return 0;
  if (host->hide_cpuid == NULL) return -EOPNOTSUPP;
  if (host->hide_cpuid(host->host_ctx, vm, &wrong, 1) != -EINVAL) return -EPROTO;
  return host->hide_cpuid(host->host_ctx, vm, &core, 1);
}

static int32_t vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                          struct vmm_error* error) {
  struct instance* me = ctx;
  struct vm* mine;
  char text[128];
  if (me->process != getpid()) return refuse(error, -EPROTO, "an instance of another process");
  if ((me->options & FAIL_CREATED) != 0)
    return refuse(error, -EPERM, "vm_created was told to fail");
  if ((me->options & (DENY | DENY_MANY)) != 0) {
    const int32_t result = deny(me, vm->handle);
    if (result < 0) return refuse(error, result, "deny_msrs failed");
  }
  if ((me->options & DISABLE_PMU) != 0) {
    struct kvm_enable_cap cap;
    memset(&cap, 0, sizeof cap);
    cap.cap = KVM_CAP_PMU_CAPABILITY;
    cap.args[0] = KVM_PMU_CAP_DISABLE;
    if (me->host->vm_ioctl(me->host->host_ctx, vm->handle, (uint32_t)KVM_ENABLE_CAP, &cap) < 0)
      return refuse(error, -EIO, "KVM_ENABLE_CAP failed");
  }
  if (use_new_functions(me, vm->handle) < 0)
    return refuse(error, -EIO, "a function of ABI 1.1 failed");
  mine = malloc(sizeof *mine);
  if (mine == NULL) return -ENOMEM;
  mine->handle = vm->handle;
  mine->max_vcpus = vm->max_vcpus;
  *vm_ctx = mine;
  snprintf(text, sizeof text, "hello max_vcpus=%" PRIu32 " pmu_capability=%" PRId32, vm->max_vcpus,
           me->host->vm_ioctl(me->host->host_ctx, vm->handle, (uint32_t)KVM_CHECK_EXTENSION,
                              (void*)(uintptr_t)KVM_CAP_PMU_CAPABILITY));
  say(me, text);
  return 0;
}

static void vm_destroyed(void* ctx, void* vm_ctx) {
  say(ctx, "goodbye");
  free(vm_ctx);
}

static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  struct instance* me = ctx;
  const struct vm* mine = vm_ctx;
  /* an MSR that every KVM takes: the time stamp counter's offset for the guest */
  struct {
    struct vmm_kvm_msrs_header header;
    struct kvm_msr_entry entry;
  } tsc_aux = {{1, 0}, {0xc0000103, 0, 0}};
  int32_t result;
  if (vcpu->index >= mine->max_vcpus) return -ERANGE;
  if ((me->options & FAIL_RESET) != 0) return -EPERM;
  if ((me->options & SLOW) != 0) usleep(2000);
  if ((me->options & OWN_IOCTL) != 0) ioctl(-1, KVM_RUN, 0);
  if ((me->options & CPUID) != 0 && me->host->get_cpuid != NULL) {
    uint32_t registers[4] = {0, 0, 0, 0};
    char text[128];
    result = me->host->get_cpuid(me->host->host_ctx, mine->handle, vcpu->handle, 0x80000001, 0,
                                 registers);
    snprintf(text, sizeof text, "cpuid result=%" PRId32 " ecx=%" PRIx32 " vcpu=%" PRIu32, result,
             registers[2], vcpu->index);
    say(me, text);
  }
  result = me->host->vcpu_ioctl(me->host->host_ctx, vcpu->handle, VMM_KVM_SET_MSRS, &tsc_aux);
  return result < 0 ? result : 0;
}

static int parse_options(const char* text, unsigned* options) {
  *options = 0;
  while (text != NULL && *text != '\0') {
    const size_t length = strcspn(text, ",");
    size_t i;
    for (i = 0; i < OPTIONS; ++i)
      if (strlen(option_names[i]) == length && strncmp(option_names[i], text, length) == 0) break;
    if (i == OPTIONS) return -EINVAL;
    *options |= 1u << i;
    text += length;
    if (*text == ',') ++text;
  }
  return 0;
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  static const struct vmm_hooks hooks = {
      sizeof(struct vmm_hooks), 0, vm_created, vm_destroyed, NULL, vcpu_reset};
  struct instance* me = malloc(sizeof *me);
  int32_t result;
  if (me == NULL) return -ENOMEM;
  me->host = host;
  me->process = getpid();
  if (parse_options(options, &me->options) < 0)
    result = refuse(error, -EINVAL, "unknown option");
  else if ((me->options & FAIL_CREATE) != 0)
    result = refuse(error, -EPERM, "create was told to fail");
  else
    result = host->register_hooks(host->host_ctx, &hooks, me);
  if (result < 0)
    free(me);
  else
    *ctx = me;
  return result;
}

static void destroy(void* ctx) { free(ctx); }

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {sizeof(struct vmm_plugin),
                                           VMM_PLUGIN_ABI_MAJOR,
                                           VMM_PLUGIN_ABI_MINOR,
                                           0,
                                           "test_plugin",
                                           "1.0",
                                           "for tests of hosts",
                                           NULL,
                                           create,
                                           destroy,
                                           NULL};
  return &plugin;
}
