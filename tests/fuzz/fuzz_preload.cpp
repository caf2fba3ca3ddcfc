// SPDX-License-Identifier: MIT
//
// The ioctl stream against the preload host: VMs and vCPUs made, duplicated, closed and made again
// in any order, state ioctls that fail, stop short or come on the wrong descriptor, filters, exits,
// plugins that refuse or deny. The C library's calls are ours (fake_kernel.hpp), so are the
// plugins. A slow model says which hooks must fire, for whom, and what the kernel must have been
// told.
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fake_kernel.hpp"
#include "host_preload/interposer.hpp"
#include "host_preload/real_calls.hpp"
#include "input.hpp"
#include "require.hpp"
#include "reset_history.hpp"
#include "target.hpp"

namespace {

using namespace fuzz;
using Event = ResetHistory::Event;
using Verdict = ResetHistory::Verdict;

constexpr int kPlugins = 2;
constexpr int kErrnoBefore = 77;  ///< none of the kernel's

// ---- the model ---------------------------------------------------------------------------------

struct ModelVm;

/// What the preload host may know of a VM or a vCPU.
struct ModelObject {
  std::shared_ptr<File> file;
  int named_by = -1;  ///< the descriptor by which it is compared with others; -1: none is left
  bool ended = false;
};
struct ModelVcpu : ModelObject {
  ModelVm* vm = nullptr;
  ResetHistory history;
  std::vector<kvm_cpuid_entry2> cpuid;
  bool mapped = false;
};
struct ModelVm : ModelObject {
  std::vector<ModelVcpu*> vcpus;  ///< those that live
  std::set<uint32_t> denied;
  bool wants_exits = false;      ///< the VMM, for filtered MSRs
  std::vector<int> destroy_due;  ///< plugins, in the order of their vm_created
};

/// One process: kernel, plugins, the preload host, and the model of it.
struct World {
  explicit World(Input& input) : in(input), broad(in.flag()) {
    current = this;
    const uint8_t kernel_lacks = in.byte();
    no_proc = kernel_lacks > 250;
    no_kcmp = kernel_lacks > 230 && !no_proc;
    setenv("VMM_PRELOAD_RESET_RULE", broad ? "broad" : "strong", 1);
    interposer = std::make_unique<host_preload::Interposer>("/nowhere");
    auto device = std::make_shared<File>();
    device->kind = File::Kind::kvm;
    kvm_fd = kernel.open(device, FakeKernel::kFirst, true);
  }
  ~World() { current = nullptr; }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  static inline World* current = nullptr;

  void run() {
    for (int steps = 0; !in.empty() && steps < 300; ++steps) step();
    // the VMM ends: it closes all that there is, and all that it lost sight of
    std::set<int> numbers = kernel.unseen;
    for (const auto& [fd, file] : kernel.fds) numbers.insert(fd);
    for (const int fd : numbers) close(fd);
    FUZZ_REQUIRE(kernel.fds.empty(), "");
    FUZZ_REQUIRE(mappings.empty(), "a mapping is left");
    for (const auto& vm : vms) FUZZ_REQUIRE(vm->ended && vm->destroy_due.empty(), "a VM is left");
    interposer.reset();
    FUZZ_REQUIRE(instances == 0, "an instance is left");
  }

  // ---- the VMM's side

  /// A call as the exported ioctl makes it; errno is that of the call.
  int call(int fd, unsigned long request, void* arg) {
    errno = kErrnoBefore;
    used = kernel.at(fd);
    const int result = interposer->kvm_ioctl(fd, static_cast<uint32_t>(request), request, arg);
    call_errno = errno;
    if (result >= 0) FUZZ_REQUIRE(call_errno == kErrnoBefore, "errno after a success");
    FUZZ_REQUIRE(calls.empty(), "a hook is due: " + calls.front());
    return result;
  }
  /// As call, of a buffer that must stay as it is.
  template <typename T>
  int call_with(int fd, unsigned long request, T& buffer) {
    const auto now = std::as_bytes(std::span(&buffer, 1));
    const std::vector<std::byte> before(now.begin(), now.end());
    const int result = call(fd, request, &buffer);
    FUZZ_REQUIRE(std::ranges::equal(before, now), "the VMM's buffer");
    return result;
  }

  int any_fd() {
    if (in.byte() > 240) return static_cast<int>(in.word());
    const uint32_t which = in.below(static_cast<uint32_t>(kernel.fds.size()));
    return std::next(kernel.fds.begin(), which)->first;
  }
  /// Mostly one of that kind, as long as there is one.
  int fd_of(File::Kind kind) {
    if (in.byte() > 235) return any_fd();
    std::vector<int> fitting;
    for (const auto& [fd, file] : kernel.fds)
      if (file->kind == kind) fitting.push_back(fd);
    return fitting.empty() ? any_fd() : fitting[in.below(static_cast<uint32_t>(fitting.size()))];
  }
  int lowest_fd() { return in.byte() > 245 ? FakeKernel::kHigh : FakeKernel::kFirst; }

  void step() {
    switch (in.below(16)) {
      case 0:
        return create_vm();
      case 1:
        return create_vcpu();
      case 2:
      case 3:
        return run_vcpu(fd_of(File::Kind::vcpu));
      case 4:
      case 5:
        return set_sregs();
      case 6:
      case 7:
        return set_regs();
      case 8:
      case 9:
        return set_mp_state();
      case 10:
        return set_msrs();
      case 11: {
        const int fd = any_fd();
        if (fd != kvm_fd) close(fd);
        return;
      }
      case 12: {
        const int fd = any_fd();
        if (kernel.at(fd) != nullptr) kernel.open(kernel.fds[fd], lowest_fd(), false);
        return;
      }
      case 13: {  // close_range, dup2 and their like: seen by nobody
        const int fd = any_fd();
        if (fd == kvm_fd || kernel.fds.erase(fd) == 0) return;
        kernel.unseen.insert(fd);
        return;
      }
      case 14:
        return in.byte() > 200 ? enable_exits() : set_filter();
      default:
        return set_cpuid();
    }
  }

  // ---- descriptors

  std::map<int, ModelObject*> known;
  std::set<int> foreign;  ///< looked at once, found to be nobody's

  bool any_vm() const {
    return std::any_of(vms.begin(), vms.end(), [](const auto& vm) { return !vm->ended; });
  }

  std::vector<ModelObject*> alive(File::Kind kind, uint32_t index) const {
    std::vector<ModelObject*> all;
    for (const auto& vm : vms)
      if (kind == File::Kind::vm && !vm->ended) all.push_back(vm.get());
    for (const auto& vcpu : vcpus)
      if (kind == File::Kind::vcpu && !vcpu->ended && vcpu->file->index == index)
        all.push_back(vcpu.get());
    return all;
  }

  /// The object behind a descriptor, as far as the preload host can tell.
  ModelObject* look_up(int fd, File::Kind kind) {
    if (const auto found = known.find(fd); found != known.end())
      return found->second->file->kind == kind ? found->second : nullptr;
    const File* file = kernel.at(fd);
    const bool storable = fd < 1 << 20;
    if (foreign.contains(fd) || file == nullptr || !any_vm() || !storable) return nullptr;
    if (!no_proc && file->kind != kind) return nullptr;
    ModelObject* sure = nullptr;
    std::vector<ModelObject*> possible;
    for (ModelObject* object : alive(kind, file->index)) {
      const File* named = no_kcmp ? nullptr : kernel.at(object->named_by);
      if (named == file) sure = object;
      if (named == nullptr) possible.push_back(object);
    }
    if (sure == nullptr && possible.size() == 1) sure = possible.front();
    if (sure == nullptr || no_proc) {
      foreign.insert(fd);
      return nullptr;
    }
    known[fd] = sure;
    if (kind == File::Kind::vm && sure->named_by < 0) sure->named_by = fd;
    return sure;
  }
  /// A duplicate of what has ended was taken for the only one that it can still be: the preload
  /// host cannot know better, and nothing is demanded.
  static bool mistaken(const ModelObject* object, const File* file) {
    return object != nullptr && file != nullptr && object->file.get() != file;
  }
  ModelVcpu* vcpu_at(int fd) { return static_cast<ModelVcpu*>(look_up(fd, File::Kind::vcpu)); }

  /// A number does not lead to what it led to any more.
  void forget(int fd) {
    foreign.erase(fd);
    const auto found = known.find(fd);
    if (found == known.end()) return;
    ModelObject* object = found->second;
    known.erase(found);
    if (object->named_by == fd) {
      object->named_by = -1;
      for (const auto& [other, its] : known)
        if (its == object) object->named_by = other;
    }
    end_if_unused(object);
  }
  bool is_known(const ModelObject* object) const {
    return std::ranges::any_of(known, [&](const auto& entry) { return entry.second == object; });
  }
  void end_if_unused(ModelObject* object) {
    if (is_known(object)) return;
    if (object->file->kind == File::Kind::vcpu) {
      auto* vcpu = static_cast<ModelVcpu*>(object);
      vcpu->ended = true;
      if (vcpu->mapped) --mapped;
      std::erase(vcpu->vm->vcpus, vcpu);
      object = vcpu->vm;
      if (is_known(object)) return;
    }
    auto* vm = static_cast<ModelVm*>(object);
    if (!vm->vcpus.empty()) return;
    vm->ended = true;
    due_destroy(*vm);
  }
  void due_destroy(ModelVm& vm) {
    for (; !vm.destroy_due.empty(); vm.destroy_due.pop_back())
      calls.push_back("vm_destroyed " + std::to_string(vm.destroy_due.back()) + " " + name(vm));
  }
  static std::string name(const ModelObject& object) {
    return std::to_string(reinterpret_cast<uintptr_t>(object.file.get()));
  }

  void close(int fd) {
    forget(fd);
    if (interposer->knows(fd)) interposer->closing(fd);
    FUZZ_REQUIRE(calls.empty(), "a hook is due: " + calls.front());
    FUZZ_REQUIRE(mappings.size() == mapped, "mappings");
    kernel.fds.erase(fd);
    kernel.unseen.erase(fd);
  }

  // ---- KVM_CREATE_VM

  struct CreateVm {
    std::array<int32_t, kPlugins> results{};
    std::array<std::vector<vmm_msr_range>, kPlugins> denies;
    ModelVm* vm = nullptr;
    int fd = -1;
  } making;

  void create_vm() {
    if (std::count_if(vms.begin(), vms.end(), [](const auto& vm) { return !vm->ended; }) >= 4)
      return;
    making = {};
    next_open = lowest_fd();
    fail_next = in.byte() > 240 ? ENOMEM : 0;
    if (fail_next != 0) {
      FUZZ_REQUIRE(call(kvm_fd, KVM_CREATE_VM, nullptr) == -1 && call_errno == ENOMEM, "");
      return;
    }
    for (int i = 0; i < kPlugins; ++i) {
      static constexpr int32_t kResults[] = {0, 0, 0, 0, 0, 0, -EPERM, -EINTR};
      making.results[static_cast<size_t>(i)] = in.one_of(kResults);
      auto& denies = making.denies[static_cast<size_t>(i)];
      for (uint32_t left = in.below(4); left > 0; --left)
        denies.push_back({0xc0010000 + in.byte() * 3u, 1 + in.below(40)});
      if (in.byte() > 250) denies.push_back({0xc0010000, 0});
    }
    vms.push_back(std::make_unique<ModelVm>());
    making.vm = vms.back().get();
    ModelVm& vm = *making.vm;
    const int result = call(kvm_fd, KVM_CREATE_VM, nullptr);
    int32_t refused = 0;
    for (const int32_t answer : making.results)
      if (refused == 0) refused = answer;
    const bool too_high = making.fd >= 1 << 20;
    if (too_high) refused = -ENOMEM;
    if (refused != 0) {
      FUZZ_REQUIRE(result == -1, "a VM that a plugin refused");
      FUZZ_REQUIRE(call_errno == (refused == -EINTR ? EIO : -refused), std::to_string(call_errno));
      FUZZ_REQUIRE(kernel.at(making.fd) == nullptr, "the refused VM's descriptor is open");
      vm.ended = true;
      return;
    }
    FUZZ_REQUIRE(result == making.fd, std::to_string(result));
    known[result] = &vm;
    vm.named_by = result;
  }

  /// The kernel made it: everything that its number led to ends first.
  void vm_opened(int fd, std::shared_ptr<File> file) {
    making.fd = fd;
    if (making.vm == nullptr) return;
    making.vm->file = std::move(file);
    forget(fd);
    if (fd >= 1 << 20) return;
    for (int i = 0; i < kPlugins; ++i) {
      calls.push_back("vm_created " + std::to_string(i) + " " + name(*making.vm));
      if (making.results[static_cast<size_t>(i)] != 0) {
        return due_destroy(*making.vm);
      }
      making.vm->destroy_due.push_back(i);
    }
  }

  // ---- KVM_CREATE_VCPU

  void create_vcpu() {
    const int fd = fd_of(File::Kind::vm);
    const uint32_t index = in.below(4);
    next_open = lowest_fd();
    fail_next = in.byte() > 240 ? EEXIST : 0;
    mmap_fails = in.byte() > 240;
    making = {};
    vcpu_result = std::nullopt;
    vm_of_vcpu = fd;
    const int result = call(fd, KVM_CREATE_VCPU, reinterpret_cast<void*>(uintptr_t{index}));
    fail_next = 0;
    FUZZ_REQUIRE(mappings.size() == mapped, "mappings");
    if (!vcpu_result) {
      FUZZ_REQUIRE(result == -1, "a vCPU of nothing");
    } else if (*vcpu_result < 0) {
      FUZZ_REQUIRE(result == -1 && call_errno == -*vcpu_result, std::to_string(call_errno));
      FUZZ_REQUIRE(kernel.at(making.fd) == nullptr, "the refused vCPU's descriptor is open");
    } else {
      FUZZ_REQUIRE(result == *vcpu_result, std::to_string(result));
    }
  }

  /// The kernel made it: what must become of it.
  void vcpu_opened(int fd) {
    making.fd = fd;
    vcpu_result = fd;
    auto* vm = static_cast<ModelVm*>(look_up(vm_of_vcpu, File::Kind::vm));
    forget(fd);
    if (vm == nullptr) return;
    const bool map = !vm->denied.empty();
    if (map && mmap_fails)
      vcpu_result = -EACCES;
    else if (fd >= 1 << 20)
      vcpu_result = -EMFILE;
    if (*vcpu_result < 0) return;
    vcpus.push_back(std::make_unique<ModelVcpu>());
    ModelVcpu& vcpu = *vcpus.back();
    vcpu.file = kernel.fds[fd];
    vcpu.vm = vm;
    vcpu.named_by = fd;
    vcpu.mapped = map;
    mapped += map ? 1 : 0;
    known[fd] = &vcpu;
    vm->vcpus.push_back(&vcpu);
  }

  // ---- vCPU state

  void judge(ModelVcpu& vcpu, Event event) {
    const Verdict verdict = vcpu.history.add(event, broad);
    if (verdict == Verdict::nothing || verdict == Verdict::yield) return;
    for (int i = 0; i < kPlugins; ++i)
      calls.push_back("vcpu_reset " + std::to_string(i) + " " + name(*vcpu.vm) + " " +
                      std::to_string(vcpu.file->index));
    resetting = &vcpu;
  }

  /// A state ioctl, which may fail. `meaning` is what its success says of the vCPU.
  template <typename T>
  void state(int fd, unsigned long request, T& buffer,
             const std::function<void(ModelVcpu&)>& meaning) {
    fail_next = in.byte() > 230 ? EINTR : 0;
    const File* file = kernel.at(fd);
    const bool works = file != nullptr && file->kind == File::Kind::vcpu && fail_next == 0;
    on_success = [&] {
      if (ModelVcpu* vcpu = vcpu_at(fd); vcpu != nullptr && meaning) meaning(*vcpu);
    };
    const int result = call_with(fd, request, buffer);
    on_success = nullptr;
    fail_next = 0;
    FUZZ_REQUIRE((result >= 0) == works, std::to_string(result));
  }
  template <typename T>
  void state(int fd, unsigned long request, T& buffer, Event event) {
    state(fd, request, buffer, [this, event](ModelVcpu& vcpu) { judge(vcpu, event); });
  }

  void set_sregs() {
    const int fd = fd_of(File::Kind::vcpu);
    const uint8_t how = in.byte();
    kvm_sregs sregs{};
    sregs.cs.selector = 0xf000;
    sregs.cs.base = (how & 64) != 0 ? 0xf0000 : 0xffff0000;
    sregs.cr0 = 0x60000010;
    if (how % 8 == 1) sregs.cs.selector = 0x10;
    if (how % 8 == 2) sregs.cs.base = 0;
    if (how % 8 == 3) sregs.cr0 |= 1;
    const bool at_vector = how % 8 == 0 || how % 8 > 3;
    const Event event = at_vector ? Event::sregs_at_vector : Event::sregs_elsewhere;
    if ((how & 128) == 0) return state(fd, KVM_SET_SREGS, sregs, event);
    struct {  // struct kvm_sregs2, which some headers lack
      kvm_sregs first;
      uint64_t rest[4];
    } sregs2{sregs, {}};
    state(fd, 0x4140aecd, sregs2, event);
  }
  void set_regs() {
    const int fd = fd_of(File::Kind::vcpu);
    kvm_regs regs{};
    const bool at_vector = in.byte() < 200;
    regs.rip = at_vector ? 0xfff0 : 0x100000;
    state(fd, KVM_SET_REGS, regs, at_vector ? Event::rip_at_vector : Event::rip_elsewhere);
  }
  void set_mp_state() {
    const int fd = fd_of(File::Kind::vcpu);
    kvm_mp_state mp_state{in.below(4)};
    state(fd, KVM_SET_MP_STATE, mp_state, Event::mp_state);
  }
  void set_msrs() {
    const int fd = fd_of(File::Kind::vcpu);
    struct {
      vmm_kvm_msrs_header header;
      kvm_msr_entry entries[8];
    } request{};
    request.header.nmsrs = in.below(9);
    static constexpr uint32_t kMsrs[] = {0xc0000301, 0xc0010200, 0xc001020b, 0xc0010000, 0xc0010007,
                                         0xc0000300, 0xc0000303, 0xc0000080, 0xc0000304, 0xc00002ff,
                                         0xc0010008, 0xc000ffff, 0xc00101ff, 0xc001020c, 0x10};
    for (uint32_t i = 0; i < request.header.nmsrs; ++i)
      request.entries[i] = {in.one_of(kMsrs), 0, in.byte() > 180 ? uint64_t{in.byte()} << 32 : 0};
    taken_msrs = in.byte() > 200 ? in.below(request.header.nmsrs + 1) : request.header.nmsrs;
    std::optional<Event> event;
    for (uint32_t i = 0; i < taken_msrs; ++i) {
      const uint32_t msr = request.entries[i].index;
      const bool pmu = (msr >= 0xc0010000 && msr <= 0xc0010007) ||
                       (msr >= 0xc0010200 && msr <= 0xc001020b) ||
                       (msr >= 0xc0000300 && msr <= 0xc0000303);
      if (!pmu) continue;
      if (request.entries[i].data != 0) event = Event::pmu_values;
      if (event == Event::pmu_values) break;
      if (msr == 0xc0000301) event = Event::pmu_zeros_with_global_ctl;
      if (!event) event = Event::pmu_zeros;
    }
    vmm_sets_msrs = true;
    state(fd, VMM_KVM_SET_MSRS, request, [&](ModelVcpu& vcpu) {
      if (event) judge(vcpu, *event);
    });
    vmm_sets_msrs = false;
  }
  void set_cpuid() {
    const int fd = fd_of(File::Kind::vcpu);
    struct {
      vmm_kvm_cpuid2_header header;
      kvm_cpuid_entry2 entries[3];
    } request{};
    request.header.nent = in.below(4);
    for (uint32_t i = 0; i < request.header.nent; ++i) {
      kvm_cpuid_entry2& entry = request.entries[i];
      entry.function = 0x80000000 + in.below(3);
      entry.index = in.below(2);
      entry.flags = in.flag() ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
      entry.ebx = in.byte();
    }
    vcpu_at(fd);  // looked up before the call, as plugins hide CPUID bits in it
    state(fd, VMM_KVM_SET_CPUID2, request, [&](ModelVcpu& vcpu) {
      vcpu.cpuid.assign(request.entries, request.entries + request.header.nent);
      judge(vcpu, Event::cpuid);
    });
  }

  // ---- KVM_RUN

  void run_vcpu(int fd) {
    ModelVcpu* vcpu = vcpu_at(fd);
    File* file = kernel.at(fd);
    if (mistaken(vcpu, file)) {
      // its kvm_run is another's; the preload host still has to look the descriptor up
      vmm_kvm_msrs_header nothing{};
      call_with(fd, VMM_KVM_SET_MSRS, nothing);
      return;
    }
    if (vcpu != nullptr) judge(*vcpu, Event::run);
    running = vcpu;
    call(fd, KVM_RUN, nullptr);
    running = nullptr;
    if (file == nullptr) return;
    if (vcpu != nullptr)
      FUZZ_REQUIRE(!file->in_exit || !is_answered(*vcpu), "an exit that the VMM must not see");
    file->in_exit = false;  // the VMM answers it
  }
  /// An exit that is the preload host's to answer.
  static bool is_answered(const ModelVcpu& vcpu) {
    const kvm_run& run = vcpu.file->run;
    return vcpu.mapped &&
           (run.exit_reason == KVM_EXIT_X86_RDMSR || run.exit_reason == KVM_EXIT_X86_WRMSR) &&
           run.msr.reason == KVM_MSR_EXIT_REASON_FILTER &&
           (vcpu.vm->denied.contains(run.msr.index) || !vcpu.vm->wants_exits);
  }
  static void require_answer(const ModelVcpu& vcpu) {
    const kvm_run& run = vcpu.file->run;
    const bool legacy = run.msr.index >= 0xc0010000 && run.msr.index <= 0xc0010007;
    const bool ignored = legacy && vcpu.vm->denied.contains(run.msr.index);
    FUZZ_REQUIRE(run.msr.error == (ignored ? 0 : 1), "the answer to an access");
    if (ignored && run.exit_reason == KVM_EXIT_X86_RDMSR)
      FUZZ_REQUIRE(run.msr.data == 0, "what a denied K7 register reads");
  }
  int kernel_run(File& file) {
    if (file.in_exit) {
      FUZZ_REQUIRE(running != nullptr && is_answered(*running),
                   "the guest goes on behind an exit that is the VMM's");
      require_answer(*running);
    }
    const uint8_t how = in.byte();
    file.in_exit = false;
    if (how > 230) return -EINTR;
    file.run = {};
    file.run.exit_reason = KVM_EXIT_HLT;
    if (how > 100) {
      file.run.exit_reason = how % 2 == 0 ? KVM_EXIT_X86_RDMSR : KVM_EXIT_X86_WRMSR;
      file.run.msr.index = 0xc0010000 + in.byte();
      file.run.msr.reason =
          how > 200 ? uint32_t{KVM_MSR_EXIT_REASON_UNKNOWN} : uint32_t{KVM_MSR_EXIT_REASON_FILTER};
      file.run.msr.data = 0x5a5a;
      file.run.msr.error = 77;
      file.in_exit = (file.vm->msr_exits & file.run.msr.reason) != 0;
      if (!file.in_exit) file.run.exit_reason = KVM_EXIT_HLT;
    }
    return 0;
  }

  // ---- the filter

  void enable_exits() {
    const int fd = fd_of(File::Kind::vm);
    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_X86_USER_SPACE_MSR;
    cap.args[0] = in.below(8);  // FILTER is 4, UNKNOWN 2
    const File* file = kernel.at(fd);
    auto* vm = static_cast<ModelVm*>(look_up(fd, File::Kind::vm));
    const int result = call_with(fd, KVM_ENABLE_CAP, cap);
    // of one that was taken for another VM as well: that VM's exits are the VMM's from now on
    if (vm != nullptr && result == 0)
      vm->wants_exits = (cap.args[0] & KVM_MSR_EXIT_REASON_FILTER) != 0;
    if (mistaken(vm, file)) return;
    if (file == nullptr || file->kind != File::Kind::vm) {
      FUZZ_REQUIRE(result == -1, "a capability of nothing");
      return;
    }
    FUZZ_REQUIRE(result == 0, std::to_string(result));
    const bool denies = vm != nullptr && !vm->denied.empty();
    FUZZ_REQUIRE(
        file->msr_exits == (cap.args[0] | (denies ? uint64_t{KVM_MSR_EXIT_REASON_FILTER} : 0)),
        "the exits that KVM makes");
  }

  void set_filter() {
    const int fd = fd_of(File::Kind::vm);
    kvm_msr_filter filter{};
    std::vector<std::vector<uint8_t>> bitmaps;
    const uint8_t how = in.byte();
    filter.flags = (how & 1) != 0 ? KVM_MSR_FILTER_DEFAULT_DENY : 0;
    if (how > 250) filter.flags |= 2;
    const uint32_t given = how > 200 ? 12 + in.below(5) : in.below(5);
    for (uint32_t i = 0; i < given; ++i) {
      kvm_msr_filter_range& range = filter.ranges[i];
      const uint8_t which = in.byte();
      range.flags = 1 + which % 3;
      if (which > 250) range.flags = 8;
      range.nmsrs = in.byte() % 80;
      range.base = 0xc0010000 + in.byte() * 3u;
      bitmaps.emplace_back((range.nmsrs + 7) / 8 + 1, which > 128 ? 0xff : in.byte());
      range.bitmap = bitmaps.back().data();
    }
    const File* file = kernel.at(fd);
    const bool is_vm = file != nullptr && file->kind == File::Kind::vm;
    const KernelFilter before = is_vm ? file->filter : KernelFilter{};
    auto* vm = static_cast<ModelVm*>(look_up(fd, File::Kind::vm));
    KernelFilter wanted;
    const bool valid = is_vm && wanted.assign(filter);
    const int result = call_with(fd, KVM_X86_SET_MSR_FILTER, filter);
    if (mistaken(vm, file)) return;
    if (!is_vm) {
      FUZZ_REQUIRE(result == -1, "a filter of nothing");
      return;
    }
    std::set<uint32_t> denied;
    if (vm != nullptr) denied = vm->denied;
    if (!valid) FUZZ_REQUIRE(result == -1, "a filter that is none");
    if (result < 0) {
      const bool full = call_errno == ENOSPC && !denied.empty();
      FUZZ_REQUIRE(call_errno == EINVAL || full, std::to_string(call_errno));
      FUZZ_REQUIRE(!valid || full, "KVM takes it");
      const auto theirs = std::count_if(std::begin(filter.ranges), std::end(filter.ranges),
                                        [](const auto& range) { return range.nmsrs != 0; });
      if (full)
        FUZZ_REQUIRE(static_cast<std::size_t>(theirs) + runs(denied) > KVM_MSR_FILTER_MAX_RANGES,
                     "it has room");
      wanted = before;  // as it was, whoever set it
      denied.clear();
    }
    for (uint32_t msr = 0xc000fff0; msr < 0xc0010400; ++msr)
      for (const auto access : {uint32_t{KVM_MSR_FILTER_READ}, uint32_t{KVM_MSR_FILTER_WRITE}}) {
        const bool expected = wanted.allows(msr, access) && !denied.contains(msr);
        FUZZ_REQUIRE(file->filter.allows(msr, access) == expected, std::to_string(msr));
      }
  }
  static std::size_t runs(const std::set<uint32_t>& msrs) {
    std::size_t count = 0;
    for (const uint32_t msr : msrs) count += msrs.contains(msr - 1) ? 0 : 1;
    return count;
  }

  // ---- the kernel's side

  int kernel_ioctl(int fd, uint32_t request, void* arg) {
    File* file = kernel.at(fd);
    if (file == nullptr) return -EBADF;
    const std::shared_ptr<File> keep = kernel.fds[fd];
    if (request == static_cast<uint32_t>(KVM_CHECK_EXTENSION)) {
      const auto capability = reinterpret_cast<uintptr_t>(arg);
      if (capability == KVM_CAP_X86_MSR_FILTER) return 1;
      return capability == KVM_CAP_MAX_VCPU_ID && file->kind == File::Kind::vm ? 64 : 0;
    }
    if (file->kind == File::Kind::kvm && request == static_cast<uint32_t>(KVM_CREATE_VM)) {
      if (fail_next != 0) return -std::exchange(fail_next, 0);
      auto vm = std::make_shared<File>();
      vm->kind = File::Kind::vm;
      const int made = kernel.open(vm, next_open, true);
      vm_opened(made, vm);
      return made;
    }
    if (file->kind == File::Kind::vm && request == static_cast<uint32_t>(KVM_CREATE_VCPU)) {
      if (fail_next != 0) return -std::exchange(fail_next, 0);
      auto vcpu = std::make_shared<File>();
      vcpu->kind = File::Kind::vcpu;
      vcpu->vm = keep;
      vcpu->index = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(arg));
      const int made = kernel.open(vcpu, next_open, true);
      vcpu_opened(made);
      return made;
    }
    if (file->kind == File::Kind::vm && request == static_cast<uint32_t>(KVM_ENABLE_CAP)) {
      const auto& cap = *static_cast<const kvm_enable_cap*>(arg);
      if (cap.cap == KVM_CAP_X86_USER_SPACE_MSR) file->msr_exits = cap.args[0];
      return 0;
    }
    if (file->kind == File::Kind::vm && request == static_cast<uint32_t>(KVM_X86_SET_MSR_FILTER))
      return file->filter.assign(*static_cast<const kvm_msr_filter*>(arg)) ? 0 : -EINVAL;
    if (file->kind != File::Kind::vcpu) return -ENOTTY;
    if (in_hook) {
      FUZZ_REQUIRE(request == VMM_KVM_GET_MSRS, "");
      FUZZ_REQUIRE(file == used, "a hook's ioctl reaches another vCPU than the VMM's");
      return 1;
    }
    if (request == static_cast<uint32_t>(KVM_RUN)) return kernel_run(*file);
    if (request == static_cast<uint32_t>(KVM_CREATE_VCPU) ||
        request == static_cast<uint32_t>(KVM_ENABLE_CAP) ||
        request == static_cast<uint32_t>(KVM_X86_SET_MSR_FILTER))
      return -EINVAL;
    if (fail_next != 0) return -std::exchange(fail_next, 0);
    if (on_success) on_success();
    if (vmm_sets_msrs) return static_cast<int>(taken_msrs);
    return 0;
  }

  // ---- the plugins' side

  /// A hook was called: the one that is due, and no other.
  void hook(const std::string& what) {
    FUZZ_REQUIRE(!calls.empty(), "not due: " + what);
    FUZZ_REQUIRE(calls.front() == what, what + " instead of " + calls.front());
    calls.erase(calls.begin());
  }

  Input& in;
  bool broad = false;    ///< the reset rule
  bool no_proc = false;  ///< /proc/self/fd cannot be read
  bool no_kcmp = false;  ///< nor descriptors compared
  FakeKernel kernel;
  int kvm_fd = -1;
  std::unique_ptr<host_preload::Interposer> interposer;
  std::vector<std::unique_ptr<ModelVm>> vms;
  std::vector<std::unique_ptr<ModelVcpu>> vcpus;
  std::vector<std::string> calls;  ///< hooks that are due, in their order
  int instances = 0;
  int call_errno = 0;
  const File* used = nullptr;  ///< behind the descriptor of the VMM's call
  int next_open = FakeKernel::kFirst;
  int fail_next = 0;  ///< errno of the next call that can fail
  bool mmap_fails = false;
  bool vmm_sets_msrs = false;
  uint32_t taken_msrs = 0;
  std::function<void()> on_success;
  int vm_of_vcpu = -1;             ///< descriptor of the VM of the KVM_CREATE_VCPU under way
  std::optional<int> vcpu_result;  ///< its result, if the kernel made the vCPU
  ModelVcpu* resetting = nullptr;
  ModelVcpu* running = nullptr;
  bool in_hook = false;
  std::set<void*> mappings;
  std::size_t mapped = 0;  ///< mappings that there must be
};

// ---- two plugins -------------------------------------------------------------------------------

struct VmContext {
  File* file;
  vmm_vm_handle handle;
};

template <int I>
struct FakePlugin {
  static inline const vmm_host* host = nullptr;

  static int32_t create(const vmm_host* table, const char*, void** ctx, vmm_error*) {
    host = table;
    *ctx = World::current;
    static const vmm_hooks hooks{sizeof(vmm_hooks), 0,       vm_created,
                                 vm_destroyed,      nullptr, vcpu_reset};
    ++World::current->instances;
    return table->register_hooks(table->host_ctx, &hooks, *ctx);
  }
  static void destroy(void* ctx) { --static_cast<World*>(ctx)->instances; }

  static int32_t vm_created(void* ctx, const vmm_vm* vm, void** vm_ctx, vmm_error*) {
    World& world = *static_cast<World*>(ctx);
    World::CreateVm& making = world.making;
    world.hook("vm_created " + std::to_string(I) + " " + World::name(*making.vm));
    FUZZ_REQUIRE(vm->max_vcpus == 64, std::to_string(vm->max_vcpus));
    uint32_t registers[4];
    FUZZ_REQUIRE(host->get_cpuid(host->host_ctx, vm->handle, nullptr, 0, 0, registers) == -ENOENT,
                 "a CPUID before any vCPU");
    if (!making.denies[I].empty()) deny(making, vm->handle);
    if (making.results[I] == 0) *vm_ctx = new VmContext{making.vm->file.get(), vm->handle};
    return making.results[I];
  }

  static void deny(World::CreateVm& making, vmm_vm_handle vm) {
    const std::vector<vmm_msr_range>& ranges = making.denies[I];
    const int32_t result =
        host->deny_msrs(host->host_ctx, vm, ranges.data(), static_cast<uint32_t>(ranges.size()));
    const bool valid = std::all_of(ranges.begin(), ranges.end(),
                                   [](const vmm_msr_range& range) { return range.count > 0; });
    FUZZ_REQUIRE(result == (valid ? 0 : -EINVAL), std::to_string(result));
    for (const vmm_msr_range& range : ranges)
      for (uint32_t k = 0; valid && k < range.count; ++k) making.vm->denied.insert(range.base + k);
    for (const uint32_t msr : making.vm->denied)
      FUZZ_REQUIRE(!making.vm->file->filter.allows(msr, KVM_MSR_FILTER_READ), "not denied");
  }

  static void vm_destroyed(void* ctx, void* vm_ctx) {
    World& world = *static_cast<World*>(ctx);
    const std::unique_ptr<VmContext> vm(static_cast<VmContext*>(vm_ctx));
    world.hook("vm_destroyed " + std::to_string(I) + " " +
               std::to_string(reinterpret_cast<uintptr_t>(vm->file)));
  }

  static int32_t vcpu_reset(void* ctx, void* vm_ctx, const vmm_vcpu* vcpu) {
    World& world = *static_cast<World*>(ctx);
    const auto& vm = *static_cast<VmContext*>(vm_ctx);
    world.hook("vcpu_reset " + std::to_string(I) + " " +
               std::to_string(reinterpret_cast<uintptr_t>(vm.file)) + " " +
               std::to_string(vcpu->index));
    struct {
      vmm_kvm_msrs_header header;
      kvm_msr_entry entry;
    } request{{1, 0}, {0xc0010200, 0, 0}};
    world.in_hook = true;
    host->vcpu_ioctl(host->host_ctx, vcpu->handle, VMM_KVM_GET_MSRS, &request);
    world.in_hook = false;
    check_cpuid(*world.resetting, vm.handle, vcpu->handle);
    return world.in.byte() > 200 ? -EIO : 0;
  }

  static void check_cpuid(const ModelVcpu& model, vmm_vm_handle vm, vmm_vcpu_handle vcpu) {
    for (const uint32_t leaf : {0x80000000u, 0x80000001u, 0x80000002u})
      for (const uint32_t subleaf : {0u, 1u}) {
        uint32_t registers[4] = {9, 9, 9, 9};
        const int32_t told = host->get_cpuid(host->host_ctx, vm, vcpu, leaf, subleaf, registers);
        FUZZ_REQUIRE(told == (model.cpuid.empty() ? -ENOENT : 0), std::to_string(told));
        if (told != 0) continue;
        uint32_t ebx = 0;
        for (std::size_t i = model.cpuid.size(); i > 0; --i) {
          const kvm_cpuid_entry2& entry = model.cpuid[i - 1];
          const bool by_index = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
          if (entry.function == leaf && (!by_index || entry.index == subleaf)) ebx = entry.ebx;
        }
        FUZZ_REQUIRE(registers[1] == ebx && registers[0] == 0, "another CPUID");
      }
  }

  static constexpr vmm_plugin kPlugin{sizeof(vmm_plugin),
                                      VMM_PLUGIN_ABI_MAJOR,
                                      0,
                                      0,
                                      I == 0 ? "first" : "second",
                                      "1",
                                      nullptr,
                                      nullptr,
                                      create,
                                      destroy,
                                      nullptr};
  static const vmm_plugin* entry() { return &kPlugin; }
};

/// Files that are there, so that they are found; what they hold is not looked at.
constexpr const char* kFirstFile = "/dev/null";
constexpr const char* kSecondFile = "/dev/zero";
char first_handle, second_handle;

World* world() { return World::current; }
bool fake(int fd) { return world() != nullptr && fd >= FakeKernel::kFirst; }
template <typename T>
T failed(int number, T result) {
  errno = number;
  return result;
}

}  // namespace

// ---- the C library's calls, as the preload host makes them -------------------------------------

// in the place of host_preload/real_calls.cpp
namespace host_preload {

KeepErrno::KeepErrno() noexcept : saved_(errno) {}
KeepErrno::~KeepErrno() { errno = saved_; }
void resolve_real_calls() noexcept {}

int real_ioctl(int fd, unsigned long request, void* arg) noexcept {
  const int result = world()->kernel_ioctl(fd, static_cast<uint32_t>(request), arg);
  return result < 0 ? failed(-result, -1) : result;
}
int real_ioctl_result(int fd, unsigned long request, void* arg) noexcept {
  return world()->kernel_ioctl(fd, static_cast<uint32_t>(request), arg);
}
int real_close(int fd) noexcept {
  if (!fake(fd)) return ::close(fd);
  return world()->kernel.fds.erase(fd) != 0 ? 0 : failed(EBADF, -1);
}

}  // namespace host_preload

// by the linker's --wrap (CMakeLists.txt)
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): the linker's names
extern "C" {

ssize_t __real_readlink(const char*, char*, size_t);
ssize_t __wrap_readlink(const char* path, char* buffer, size_t size) {
  constexpr std::string_view kFolder = "/proc/self/fd/";
  if (world() == nullptr || !std::string_view(path).starts_with(kFolder))
    return __real_readlink(path, buffer, size);
  const std::string link =
      world()->kernel.link(static_cast<int>(std::strtol(path + kFolder.size(), nullptr, 10)));
  if (link.empty() || world()->no_proc) return failed(ENOENT, ssize_t{-1});
  return static_cast<ssize_t>(link.copy(buffer, size));
}

// fixed arguments in the place of variadic ones: on x86-64 they come in the same registers
int __real_fcntl(int, int, void*);
int __wrap_fcntl(int fd, int command, void* argument) {
  if (!fake(fd)) return __real_fcntl(fd, command, argument);
  return world()->kernel.at(fd) != nullptr ? 0 : failed(EBADF, -1);
}

long __real_syscall(long, long, long, long, long, long);
long __wrap_syscall(long number, long first, long second, long third, long fourth, long fifth) {
  if (number != SYS_kcmp || world() == nullptr)
    return __real_syscall(number, first, second, third, fourth, fifth);
  if (world()->no_kcmp) return failed(ENOSYS, -1L);
  const File* a = world()->kernel.at(static_cast<int>(fourth));
  const File* b = world()->kernel.at(static_cast<int>(fifth));
  if (a == nullptr || b == nullptr) return failed(EBADF, -1L);
  return a == b ? 0 : a < b ? 1 : 2;
}

void* __real_mmap(void*, size_t, int, int, int, off_t);
void* __wrap_mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset) {
  if (!fake(fd)) return __real_mmap(address, size, protection, flags, fd, offset);
  File* file = world()->kernel.at(fd);
  FUZZ_REQUIRE(file != nullptr && file->kind == File::Kind::vcpu && size == sizeof(kvm_run), "");
  if (world()->mmap_fails) return failed(EACCES, MAP_FAILED);
  world()->mappings.insert(&file->run);
  return &file->run;
}
int __real_munmap(void*, size_t);
int __wrap_munmap(void* address, size_t size) {
  if (world() != nullptr && world()->mappings.erase(address) != 0) return 0;
  return __real_munmap(address, size);
}

/// Lines of the log: one a call, whole. Everything else goes where it would.
ssize_t __real_write(int, const void*, size_t);
ssize_t __wrap_write(int fd, const void* data, size_t size) {
  const std::string_view text(static_cast<const char*>(data), size);
  if (world() == nullptr || !text.starts_with("vmm_preload[")) return __real_write(fd, data, size);
  FUZZ_REQUIRE(text.ends_with('\n') && is_line_of_utf8(text.substr(0, size - 1)), text);
  return static_cast<ssize_t>(size);
}

void* __real_dlopen(const char*, int);
void* __wrap_dlopen(const char* file, int flags) {
  if (file != nullptr && std::string_view(file) == kFirstFile) return &first_handle;
  if (file != nullptr && std::string_view(file) == kSecondFile) return &second_handle;
  return __real_dlopen(file, flags);
}
void* __real_dlsym(void*, const char*);
void* __wrap_dlsym(void* handle, const char* name) {
  if (handle == &first_handle) return reinterpret_cast<void*>(&FakePlugin<0>::entry);
  if (handle == &second_handle) return reinterpret_cast<void*>(&FakePlugin<1>::entry);
  return __real_dlsym(handle, name);
}
int __real_dlclose(void*);
int __wrap_dlclose(void* handle) {
  return handle == &first_handle || handle == &second_handle ? 0 : __real_dlclose(handle);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  setenv("VMM_PLUGINS", (std::string(kFirstFile) + ";" + kSecondFile).c_str(), 1);
  setenv("VMM_PRELOAD_LOG", "stderr", 1);
  Input in(data, size);
  World world(in);
  world.run();
  return 0;
}
