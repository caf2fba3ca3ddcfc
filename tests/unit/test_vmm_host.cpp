// SPDX-License-Identifier: MIT
//
// libvmm_host, by its C interface alone, with svm_pmu on simulated KVMs.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmm/host.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kvm/msr_request.hpp"
#include "sim/backend.hpp"
#include "stub_vmm/guest_cpuid.hpp"
#include "support/need.hpp"

using namespace host_stub;

namespace {

const std::string kPlugin = std::string(TEST_BUILD_DIR) + "/plugin/svm_pmu.so";

constexpr uint64_t kFault = 0xdead;  // what a read that takes #GP gives here
constexpr int32_t kKvmFd = 3, kVmFd = 10, kFirstVcpuFd = 20;

struct ErrorText {
  std::array<char, 256> text{};
  vmm_error error{sizeof(vmm_error), static_cast<uint32_t>(text.size()), text.data()};
  bool says(std::string_view part) const {
    return std::string_view(text.data()).find(part) != std::string_view::npos;
  }
};

/// A VMM with its own ioctl function: descriptors that lead to a simulated KVM.
class Vmm {
 public:
  explicit Vmm(const std::string& kvm, const std::string& guest = "core")
      : kvm_(need(open_kvm(kvm), kvm)),
        cpuid_(need(GuestCpuidTable::make(*kvm_, need(CpuidModel::parse(guest), guest)), guest)) {
    config.name = "test_vmm 1";
    config.ctx = this;
    config.log = [](void* ctx, uint32_t level, const char* source, const char* message) {
      static_cast<Vmm*>(ctx)->lines.push_back(fmt::format("{} {}: {}", level, source, message));
    };
    config.ioctl = [](void* ctx, int32_t fd, uint32_t request, void* arg) {
      return static_cast<Vmm*>(ctx)->ioctl(fd, request, arg);
    };
  }

  /// Opens the plugins and creates a VM of two vCPUs.
  void start(const std::string& options = "") {
    ErrorText error;
    const std::string list = kPlugin + (options.empty() ? "" : "," + options);
    BOOST_REQUIRE_EQUAL(vmm_host_open(&config, list.c_str(), &plugins, &error.error), 0);
    open_vm();
    BOOST_TEST_REQUIRE(create(&error) == 0, error.text.data());
    for (uint32_t i = 0; i < 2; ++i) {
      vcpus_.push_back(need(vm_->create_vcpu(i), "KVM_CREATE_VCPU"));
      BOOST_REQUIRE_EQUAL(cpuid_.apply(*vcpus_.back()), 0);
      std::vector<kvm_cpuid_entry2> told;
      for (const uint32_t leaf : {0x0u, 0x80000000u, 0x80000001u, 0x80000022u}) {
        const CpuidResult is = cpuid_.lookup(leaf, 0);
        kvm_cpuid_entry2 entry{};
        entry.function = leaf;
        entry.eax = is.eax;
        entry.ebx = is.ebx;
        entry.ecx = is.ecx;
        entry.edx = is.edx;
        told.push_back(entry);
      }
      BOOST_REQUIRE_EQUAL(
          vmm_host_vcpu_cpuid(vm, i, told.data(), static_cast<uint32_t>(told.size())), 0);
    }
  }
  void open_vm() {
    vm_ = need(kvm_->create_vm(), "KVM_CREATE_VM");
    BOOST_REQUIRE_EQUAL(vm_->ioctl(KVM_CREATE_IRQCHIP, nullptr), 0);
  }
  int32_t create(ErrorText* error) {
    const vmm_host_vm_config vm_config{sizeof(vmm_host_vm_config), guest_pmu, kKvmFd, kVmFd, 2, 0};
    return vmm_host_vm_created(plugins, &vm_config, &vm, &error->error);
  }
  ~Vmm() {
    vmm_host_vm_destroyed(vm);
    vmm_host_close(plugins);
  }
  Vmm(const Vmm&) = delete;
  Vmm& operator=(const Vmm&) = delete;

  int32_t reset(uint32_t index) {
    return vmm_host_vcpu_reset(vm, index, kFirstVcpuFd + static_cast<int32_t>(index));
  }
  std::vector<std::byte> save(uint32_t index) const {
    const int32_t fd = kFirstVcpuFd + static_cast<int32_t>(index);
    uint32_t size = 0;
    const int32_t asked = vmm_host_vcpu_save(vm, index, fd, nullptr, 0, &size, nullptr);
    BOOST_TEST(asked == (size == 0 ? 0 : -ENOSPC));
    std::vector<std::byte> state(size);
    BOOST_TEST(vmm_host_vcpu_save(vm, index, fd, state.data(), size, &size, nullptr) == 0);
    BOOST_TEST(size == state.size());
    return state;
  }
  int32_t restore(uint32_t index, const std::vector<std::byte>& state, ErrorText& error) const {
    return vmm_host_vcpu_restore(vm, index, kFirstVcpuFd + static_cast<int32_t>(index),
                                 state.data(), static_cast<uint32_t>(state.size()), &error.error);
  }

  uint64_t read(uint32_t index, uint32_t msr) {
    return vcpus_[index]->guest_rdmsr(msr).value_or(kFault);
  }
  void write(uint32_t index, uint32_t msr, uint64_t value) {
    BOOST_REQUIRE(vcpus_[index]->guest_wrmsr(msr, value).has_value());
  }
  bool logged(std::string_view part) const {
    return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(part) != std::string::npos;
    });
  }

  vmm_host_config config{sizeof(vmm_host_config), 0, nullptr, nullptr, nullptr, nullptr};
  uint32_t guest_pmu = VMM_GUEST_PMU_UNSAID;
  vmm_host_plugins* plugins = nullptr;
  vmm_host_vm* vm = nullptr;
  std::vector<std::string> lines;
  std::map<uint32_t, int> ioctls;  ///< made through this VMM, by number

 private:
  int32_t ioctl(int32_t fd, uint32_t request, void* arg) {
    ++ioctls[request];
    if (fd == kKvmFd) return kvm_->ioctl(request, arg);
    if (fd == kVmFd) return vm_->ioctl(request, arg);
    const auto index = static_cast<std::size_t>(fd - kFirstVcpuFd);
    return fd >= kFirstVcpuFd && index < vcpus_.size() ? vcpus_[index]->ioctl(request, arg)
                                                       : -EBADF;
  }

  std::unique_ptr<Kvm> kvm_;
  GuestCpuidTable cpuid_;
  std::unique_ptr<host_stub::Vm> vm_;
  std::vector<std::unique_ptr<host_stub::Vcpu>> vcpus_;
};

constexpr const char* kSpec = "sim:linux-6.12";

}  // namespace

BOOST_AUTO_TEST_CASE(a_stale_selector_is_gone_after_a_reset_and_other_vcpus_keep_theirs) {
  Vmm vmm(kSpec);
  vmm.start();
  for (uint32_t i = 0; i < 2; ++i) vmm.write(i, 0xc0010200, 0x530076);
  vmm.ioctls.clear();
  BOOST_TEST(vmm.reset(0) == 0);
  BOOST_TEST(vmm.ioctls[VMM_KVM_SET_MSRS] >= 1);
  BOOST_TEST(vmm.read(0, 0xc0010200) == 0U);
  BOOST_TEST(vmm.read(1, 0xc0010200) == 0x530076U);
}

BOOST_AUTO_TEST_CASE(a_batch_gets_the_registers_and_no_ioctl_is_made) {
  Vmm vmm(kSpec);
  vmm.start();
  BOOST_TEST(vmm.reset(0) == 0);
  vmm.ioctls.clear();
  std::array<vmm_msr, 64> batch{};
  batch[0] = {0x10, 0, 1};
  uint32_t count = 1;
  BOOST_TEST(
      vmm_host_vcpu_reset_batch(vmm.vm, 0, kFirstVcpuFd, batch.data(), batch.size(), &count) == 0);
  BOOST_TEST(count > 8U);
  BOOST_TEST(batch[0].index == 0x10U);
  BOOST_TEST(vmm.ioctls.empty());
}

BOOST_AUTO_TEST_CASE(off_by_capability_before_the_first_vcpu) {
  Vmm vmm(kSpec);
  vmm.start("pmu-cap-disabled=on,log-level=info");
  BOOST_TEST(vmm.ioctls[static_cast<uint32_t>(KVM_ENABLE_CAP)] == 1);
  vmm.write(0, 0xc0010000, 0x530076);
  BOOST_TEST(vmm.read(0, 0xc0010000) == 0U);
}

BOOST_AUTO_TEST_CASE(a_filter_is_merged_into_the_vmms_own_and_its_exits_are_answered) {
  Vmm vmm("sim:linux-5.10");
  vmm.config.flags = VMM_HOST_MERGES_MSR_FILTER;
  vmm.start("pmu-cap-disabled=on");
  BOOST_TEST(vmm.ioctls[static_cast<uint32_t>(KVM_X86_SET_MSR_FILTER)] == 1);
  BOOST_TEST(vmm.read(0, 0xc0010200) == kFault);

  // the VMM's own filter denies TSC_AUX and knows nothing of the PMU's
  uint8_t none = 0;
  kvm_msr_filter wanted{};
  wanted.ranges[0] = {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 1, 0xc0000103, &none};
  BOOST_TEST(vmm_host_set_msr_filter(vmm.vm, &wanted) == 0);
  BOOST_TEST(vmm.read(0, 0xc0000103) == kFault);
  BOOST_TEST(vmm.read(0, 0xc0010200) == kFault);
  wanted = kvm_msr_filter{};
  BOOST_TEST(vmm_host_set_msr_filter(vmm.vm, &wanted) == 0);
  BOOST_TEST(vmm.read(0, 0xc0000103) != kFault);
  BOOST_TEST(vmm.read(0, 0xc0010200) == kFault);

  struct Row {
    uint32_t exit_reason, msr;
    uint64_t reason;
    int32_t answered;
    uint8_t error;
  };
  for (const Row& row : {
           Row{KVM_EXIT_X86_RDMSR, 0xc0010000, KVM_MSR_EXIT_REASON_FILTER, 1, 0},
           Row{KVM_EXIT_X86_WRMSR, 0xc0010007, KVM_MSR_EXIT_REASON_FILTER, 1, 0},
           Row{KVM_EXIT_X86_RDMSR, 0xc0010200, KVM_MSR_EXIT_REASON_FILTER, 1, 1},
           Row{KVM_EXIT_X86_RDMSR, 0xc0010200, KVM_MSR_EXIT_REASON_UNKNOWN, 0, 9},
           Row{KVM_EXIT_X86_RDMSR, 0x10, KVM_MSR_EXIT_REASON_FILTER, 0, 9},
           Row{KVM_EXIT_HLT, 0xc0010200, KVM_MSR_EXIT_REASON_FILTER, 0, 9},
       }) {
    kvm_run run{};
    run.exit_reason = row.exit_reason;
    run.msr.index = row.msr;
    run.msr.reason = static_cast<uint32_t>(row.reason);
    run.msr.error = 9;
    run.msr.data = 5;
    BOOST_TEST_CONTEXT("exit " << row.exit_reason << " msr " << row.msr) {
      BOOST_TEST(vmm_host_answer_msr_exit(vmm.vm, &run) == row.answered);
      BOOST_TEST(run.msr.error == row.error);
      const bool zero =
          row.answered == 1 && row.error == 0 && row.exit_reason == KVM_EXIT_X86_RDMSR;
      BOOST_TEST(run.msr.data == (zero ? 0U : 5U));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_vmm_that_edits_cpuid_hides_what_is_off) {
  Vmm vmm(kSpec);
  vmm.config.flags = VMM_HOST_EDITS_CPUID;
  vmm.guest_pmu = VMM_GUEST_PMU_OFF;
  vmm.start("pmu-cap-disabled=auto");
  std::array<kvm_cpuid_entry2, 2> table{};
  table[0].function = 0x80000001;
  table[0].ecx = 0xffffffff;
  table[1].function = 0x80000000;
  table[1].eax = 0x8000001f;
  BOOST_TEST(vmm_host_vcpu_cpuid(vmm.vm, 0, table.data(), table.size()) == 0);
  BOOST_TEST((table[0].ecx & (1U << 23)) == 0U);
  BOOST_TEST((table[0].ecx & (1U << 22)) != 0U);
  BOOST_TEST(table[1].eax == 0x8000001fU);
  table[0].ecx = 0xffffffff;
  vmm_host_supported_cpuid(vmm.vm, table.data(), table.size());
  BOOST_TEST((table[0].ecx & (1U << 23)) == 0U);
  BOOST_TEST(vmm.save(0).empty());
}

BOOST_AUTO_TEST_CASE(a_guest_whose_vmm_said_nothing_keeps_its_pmu_with_auto) {
  Vmm vmm(kSpec);
  vmm.config.flags = VMM_HOST_EDITS_CPUID;
  vmm.start("pmu-cap-disabled=auto");
  BOOST_TEST(!vmm.save(0).empty());
  std::array<kvm_cpuid_entry2, 1> table{};
  table[0].function = 0x80000001;
  table[0].ecx = 0xffffffff;
  BOOST_TEST(vmm_host_vcpu_cpuid(vmm.vm, 0, table.data(), table.size()) == 0);
  BOOST_TEST(table[0].ecx == 0xffffffffU);
}

BOOST_AUTO_TEST_CASE(a_full_batch_falls_back_to_the_plugins_own_ioctl) {
  Vmm vmm(kSpec);
  vmm.start();
  BOOST_TEST(vmm.reset(0) == 0);
  vmm.write(0, 0xc0010200, 0x530076);
  std::array<vmm_msr, 13> batch{};  // one more than the VMM says
  batch[0] = {0x10, 0, 1};
  constexpr uint32_t kCapacity = 12;
  uint32_t count = 1;
  BOOST_TEST(vmm_host_vcpu_reset_batch(vmm.vm, 0, kFirstVcpuFd, batch.data(), kCapacity, &count) ==
             0);
  BOOST_TEST(count == 1U);
  BOOST_TEST(batch[12].index == 0U);
  BOOST_TEST(vmm.read(0, 0xc0010200) == 0U);
}

BOOST_AUTO_TEST_CASE(vms_of_one_list_and_their_vcpus_are_reset_from_several_threads) {
  Vmm first(kSpec), second(kSpec);
  first.start();
  second.start();
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (Vmm* vmm : {&first, &second})
    for (uint32_t index = 0; index < 2; ++index)
      threads.emplace_back([vmm, index, &failed] {
        for (int i = 0; i < 200; ++i) {
          std::array<vmm_msr, 64> batch{};
          uint32_t count = 0;
          const int32_t fd = kFirstVcpuFd + static_cast<int32_t>(index);
          failed += vmm_host_vcpu_reset_batch(vmm->vm, index, fd, batch.data(), batch.size(),
                                              &count) != 0 ||
                    count == 0;
        }
      });
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(failed == 0);
}

BOOST_AUTO_TEST_CASE(vcpus_are_saved_from_several_threads_and_the_list_is_built_by_one_at_a_time) {
  Vmm vmm(kSpec);
  ErrorText error;
  vmm.config.log = [](void*, uint32_t, const char*, const char*) {};
  const std::string list = std::string(TEST_BUILD_DIR) + "/tests/unit/plugins/plugin_list_alone.so";
  BOOST_REQUIRE_EQUAL(vmm_host_open(&vmm.config, list.c_str(), &vmm.plugins, &error.error), 0);
  vmm.open_vm();
  BOOST_REQUIRE_EQUAL(vmm.create(&error), 0);
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (uint32_t index = 0; index < 2; ++index)
    threads.emplace_back([&vmm, index, &failed] {
      const int32_t fd = kFirstVcpuFd + static_cast<int32_t>(index);
      for (int i = 0; i < 100; ++i) {
        uint32_t size = 0;
        failed += vmm_host_vcpu_save(vmm.vm, index, fd, nullptr, 0, &size, nullptr) != 0;
        failed += vmm_host_vcpu_restore(vmm.vm, index, fd, nullptr, 0, nullptr) != 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(failed == 0);
}

BOOST_AUTO_TEST_CASE(a_vm_that_a_plugin_refuses_is_not_made) {
  Vmm vmm("sim:linux-5.4");
  ErrorText error;
  const std::string list = kPlugin + ",pmu-cap-disabled=on,strict=on";
  BOOST_REQUIRE_EQUAL(vmm_host_open(&vmm.config, list.c_str(), &vmm.plugins, &error.error), 0);
  vmm.open_vm();
  BOOST_TEST(vmm.create(&error) < 0);
  BOOST_TEST(error.says("svm_pmu"), error.text.data());
  BOOST_TEST(vmm.vm == nullptr);
}

BOOST_AUTO_TEST_CASE(what_is_saved_comes_back_on_another_host) {
  Vmm from(kSpec), to(kSpec);
  from.start();
  to.start();
  for (uint32_t i = 0; i < 12; ++i) from.write(0, 0xc0010200 + i, (i % 2 != 0 ? 0x10 : 0xa0) + i);
  const auto state = from.save(0);
  BOOST_TEST(state.size() == 16 + 12 * 16);
  ErrorText error;
  BOOST_TEST(to.restore(0, state, error) == 0, error.text.data());
  for (uint32_t i = 0; i < 12; ++i)
    BOOST_TEST(to.read(0, 0xc0010200 + i) == (i % 2 != 0 ? 0x10U : 0xa0U) + i);
}

BOOST_AUTO_TEST_CASE(a_state_without_registers_stops_what_runs) {
  Vmm vmm(kSpec);
  vmm.start();
  vmm.write(0, 0xc0010200, 0x530076);
  ErrorText error;
  BOOST_TEST(vmm.restore(0, {}, error) == 0, error.text.data());
  BOOST_TEST(vmm.read(0, 0xc0010200) == 0U);
}

BOOST_AUTO_TEST_CASE(a_vmm_that_saves_registers_always_is_told_of_a_state_without_them) {
  Vmm vmm(kSpec);
  vmm.config.flags = VMM_HOST_REQUIRES_STATE;
  vmm.start();
  vmm.write(0, 0xc0010200, 0x530076);
  ErrorText error;
  BOOST_TEST(vmm.restore(0, {}, error) == -ENODATA);
  BOOST_TEST(error.says("the state has no registers of plugins"), error.text.data());
  BOOST_TEST(vmm.read(0, 0xc0010200) == 0x530076u);
  BOOST_TEST(!vmm.logged("the state has no registers of plugins"));
  BOOST_TEST(vmm_host_vcpu_restore(vmm.vm, 0, kFirstVcpuFd, nullptr, 0, nullptr) == -ENODATA);
  BOOST_TEST(vmm.logged("the state has no registers of plugins"));
  vmm.lines.clear();
  BOOST_TEST(vmm.restore(0, vmm.save(0), error) == 0);
  BOOST_TEST(vmm.lines.empty());  // asking for the size is no error

  Vmm off(kSpec);  // here a save has nothing to write, so nothing is missing
  off.config.flags = VMM_HOST_REQUIRES_STATE;
  off.start("pmu-cap-disabled=on");
  BOOST_TEST(off.save(0).empty());
  BOOST_TEST(off.restore(0, {}, error) == 0);
}

BOOST_AUTO_TEST_CASE(a_save_into_new_memory_is_the_same_and_takes_the_place_of_the_last) {
  Vmm vmm(kSpec);
  vmm.start();
  vmm.write(0, 0xc0010200, 0x530076);
  void* state = nullptr;
  uint32_t size = 0;
  for (int i = 0; i < 2; ++i) {  // the second frees the first
    BOOST_TEST_REQUIRE(vmm_host_vcpu_save_new(vmm.vm, 0, kFirstVcpuFd, &state, &size, nullptr) ==
                       0);
    const auto* bytes = static_cast<const std::byte*>(state);
    BOOST_TEST((std::vector<std::byte>(bytes, bytes + size) == vmm.save(0)));
  }
  ErrorText error;
  BOOST_TEST(vmm_host_vcpu_save_new(vmm.vm, 0, 999, &state, &size, &error.error) < 0);
  BOOST_TEST((state == nullptr && size == 0));
  BOOST_TEST(!error.says("index"), error.text.data());
  BOOST_TEST(vmm_host_vcpu_save_new(vmm.vm, 7, kFirstVcpuFd, &state, &size, &error.error) ==
             -EINVAL);
  BOOST_TEST(error.says("index"), error.text.data());
}

BOOST_AUTO_TEST_CASE(without_plugins_there_is_no_vm_and_nothing_changes) {
  kvm_cpuid_entry2 entry{};
  entry.function = 0x80000001;
  entry.ecx = ~0u;
  BOOST_TEST(vmm_host_vcpu_cpuid(nullptr, 0, &entry, 1) == 0);
  vmm_host_supported_cpuid(nullptr, &entry, 1);
  BOOST_TEST(entry.ecx == ~0u);
  kvm_run run{};
  BOOST_TEST(vmm_host_answer_msr_exit(nullptr, &run) == 0);
  BOOST_TEST(vmm_host_vcpu_reset(nullptr, 5, -1) == 0);
  std::array<vmm_msr, 2> batch{};
  uint32_t count = 1;
  BOOST_TEST(vmm_host_vcpu_reset_batch(nullptr, 5, -1, batch.data(), 2, &count) == 0);
  BOOST_TEST(count == 1u);
  void* state = nullptr;
  uint32_t size = 7;
  ErrorText error;
  BOOST_TEST(vmm_host_vcpu_save(nullptr, 5, -1, nullptr, 0, &size, &error.error) == 0);
  BOOST_TEST(size == 0u);
  size = 7;
  BOOST_TEST(vmm_host_vcpu_save_new(nullptr, 5, -1, &state, &size, &error.error) == 0);
  BOOST_TEST((state == nullptr && size == 0));
  BOOST_TEST(vmm_host_vcpu_restore(nullptr, 5, -1, nullptr, 0, &error.error) == 0);
  BOOST_TEST(vmm_host_vcpu_restore(nullptr, 5, -1, &entry, 4, &error.error) == -ENODEV);
  BOOST_TEST(error.says("no plugin is loaded here"), error.text.data());
}

BOOST_AUTO_TEST_CASE(a_changed_a_cut_and_a_newer_state_are_refused_and_nothing_is_written) {
  Vmm vmm(kSpec);
  vmm.start();
  vmm.write(0, 0xc0010201, 77);
  const auto good = vmm.save(0);
  struct Row {
    const char* what;
    std::size_t at;  ///< byte that is changed
    std::size_t size;
    int32_t code;
  };
  const Row rows[] = {
      {"magic", 0, good.size(), -EBADMSG},    {"version", 4, good.size(), -EPROTONOSUPPORT},
      {"count", 8, good.size(), -EBADMSG},    {"checksum", 12, good.size(), -EBADMSG},
      {"a value", 30, good.size(), -EBADMSG}, {"reserved", 20, good.size(), -EBADMSG},
      {"cut", 0, good.size() - 1, -EBADMSG},  {"cut to the header", 0, 16, -EBADMSG},
      {"cut to a byte", 0, 1, -EBADMSG},
  };
  for (const Row& row : rows) {
    auto state = good;
    if (row.size == good.size())
      state[row.at] = static_cast<std::byte>(std::to_integer<int>(state[row.at]) ^ 0x40);
    state.resize(row.size);
    vmm.ioctls.clear();
    ErrorText error;
    BOOST_TEST(vmm.restore(0, state, error) == row.code, row.what);
    BOOST_TEST(error.says("saved registers"), row.what);
    BOOST_TEST(vmm.ioctls[VMM_KVM_SET_MSRS] == 0, row.what);
  }
}

BOOST_AUTO_TEST_CASE(a_host_with_fewer_registers_drops_values_with_a_warning) {
  Vmm from("sim:linux-6.12,host-perfmonv2", "v2"), to(kSpec);
  from.start();
  to.start();
  from.write(0, 0xc0000301, 1);
  ErrorText error;
  BOOST_TEST(to.restore(0, from.save(0), error) == 0, error.text.data());
  BOOST_TEST(to.logged("200 vmm_host: vCPU 0: MSR c0000301 is not restored"));
}

BOOST_AUTO_TEST_CASE(selector_bits_that_only_a_mediated_vpmu_keeps_are_not_lost_in_silence) {
  constexpr uint64_t kGuestOnly = uint64_t{1} << 40;
  Vmm from("sim:linux-7.2,host-perfmonv2,mediated", "v2");
  from.start();
  from.write(0, 0xc0010202, kGuestOnly | 0x130076);
  const auto state = from.save(0);
  ErrorText error;
  Vmm mediated("sim:linux-7.2,host-perfmonv2,mediated", "v2");
  mediated.start("strict=on");
  BOOST_TEST(mediated.restore(0, state, error) == 0, error.text.data());
  BOOST_TEST(mediated.read(0, 0xc0010202) == (kGuestOnly | 0x130076));

  Vmm to("sim:linux-6.12,host-perfmonv2", "v2");
  to.start();
  BOOST_TEST(to.restore(0, state, error) == 0, error.text.data());
  BOOST_TEST(to.read(0, 0xc0010202) == 0x130076U);
  BOOST_TEST(to.logged("MSR c0010202 is not restored to 10000000000: this host does not have it"));

  Vmm strict("sim:linux-6.12,host-perfmonv2", "v2");
  strict.start("strict=on");
  BOOST_TEST(strict.restore(0, state, error) == -EIO);
  BOOST_TEST(error.says("MSR c0010202 cannot be restored to 10000130076: KVM drops bits of it"),
             error.text.data());
}

BOOST_AUTO_TEST_CASE(in_vm_destroyed_the_vm_is_still_there) {
  Vmm vmm(kSpec);
  ErrorText error;
  const std::string plugin =
      std::string(TEST_BUILD_DIR) + "/tests/unit/plugins/plugin_asks_at_the_end.so";
  BOOST_REQUIRE_EQUAL(vmm_host_open(&vmm.config, plugin.c_str(), &vmm.plugins, &error.error), 0);
  vmm.open_vm();
  BOOST_REQUIRE_EQUAL(vmm.create(&error), 0);
  kvm_cpuid_entry2 vendor{};
  vendor.ebx = 0x68747541;  // "Auth"
  BOOST_REQUIRE_EQUAL(vmm_host_vcpu_cpuid(vmm.vm, 0, &vendor, 1), 0);
  vmm_host_vm_destroyed(vmm.vm);
  vmm.vm = nullptr;
  BOOST_TEST(vmm.logged("at the end: 0, Auth"));

  // and what plugin_helper.h cuts is whole characters: 1 + 2 n bytes
  vmm_host_plugins* none = nullptr;
  BOOST_TEST(vmm_host_open(&vmm.config, (plugin + ",long=1").c_str(), &none, &error.error) ==
             -EINVAL);
  const std::string_view said = error.text.data();
  BOOST_TEST(said.size() > 100U);
  BOOST_TEST(said.substr(said.size() - 2) == "\xc3\xa4");
}

BOOST_AUTO_TEST_CASE(a_vmm_that_calls_exit_may_leave_the_end_to_the_library) {
  const std::string plugin =
      std::string(TEST_BUILD_DIR) + "/tests/unit/plugins/plugin_asks_at_the_end.so";
  std::array<int, 2> said{};
  BOOST_REQUIRE_EQUAL(pipe(said.data()), 0);
  const pid_t child = fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    Vmm vmm(kSpec);
    ErrorText error;
    vmm.config.flags = VMM_HOST_ENDS_AT_EXIT;
    vmm.config.ctx = &said[1];
    vmm.config.log = [](void* ctx, uint32_t, const char*, const char* message) {
      dprintf(*static_cast<int*>(ctx), "%s\n", message);
    };
    vmm.config.ioctl = [](void*, int32_t, uint32_t, void*) { return -ENOTTY; };
    // the second is ended here, and only once
    vmm_host_plugins* second = nullptr;
    if (vmm_host_open(&vmm.config, plugin.c_str(), &vmm.plugins, &error.error) != 0 ||
        vmm_host_open(&vmm.config, plugin.c_str(), &second, &error.error) != 0 ||
        vmm.create(&error) != 0)
      _exit(1);
    vmm_host_vm* first = vmm.vm;
    std::swap(vmm.plugins, second);
    if (vmm.create(&error) != 0 || vmm.vm == first) _exit(2);
    vmm_host_vm_destroyed(vmm.vm);
    vmm_host_close(vmm.plugins);
    std::exit(0);
  }
  close(said[1]);
  std::string text;
  std::array<char, 256> part{};
  for (ssize_t got = 0; (got = read(said[0], part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(got));
  close(said[0]);
  int status = -1;
  BOOST_REQUIRE_EQUAL(waitpid(child, &status, 0), child);
  BOOST_TEST(status == 0);
  BOOST_TEST(text == "at the end: -2, \nat the end: -2, \n");
}

BOOST_AUTO_TEST_CASE(a_wish_of_a_later_header_is_no_wish) {
  Vmm vmm(kSpec);
  vmm.guest_pmu = VMM_GUEST_PMU_ON + 7;
  vmm.start("pmu-cap-disabled=auto");
  BOOST_TEST(!vmm.save(0).empty());
}

BOOST_AUTO_TEST_CASE(bad_calls_are_refused_with_words) {
  Vmm vmm(kSpec);
  ErrorText error;
  vmm_host_plugins* plugins = nullptr;
  BOOST_TEST(vmm_host_open(nullptr, "", &plugins, &error.error) == -EINVAL);
  BOOST_TEST(error.says("vmm_host_open"));
  BOOST_TEST(vmm_host_open(&vmm.config, "/nonexistent.so", &plugins, &error.error) == -ENOENT);
  BOOST_TEST(error.says("/nonexistent.so"));
  BOOST_TEST(vmm_host_open(&vmm.config, ",x=y", &plugins, &error.error) == -EINVAL);
  BOOST_TEST(error.says("names no plugin"));
  BOOST_TEST(vmm_host_open(&vmm.config, (kPlugin + ",nonsense=1").c_str(), &plugins,
                           &error.error) == -EINVAL);
  BOOST_TEST(error.says("nonsense"));
  BOOST_TEST(plugins == nullptr);
  vmm.start();
  BOOST_TEST(vmm.reset(2) == -EINVAL);
  BOOST_TEST(vmm_host_vcpu_cpuid(vmm.vm, 0, nullptr, 1) == -EINVAL);
  BOOST_TEST(vmm_host_set_msr_filter(vmm.vm, nullptr) == -EINVAL);
  uint32_t size = 0;
  BOOST_TEST(vmm_host_vcpu_save(vmm.vm, 7, kFirstVcpuFd, nullptr, 0, &size, &error.error) ==
             -EINVAL);
}
