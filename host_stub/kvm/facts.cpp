// SPDX-License-Identifier: MIT
#include "kvm/facts.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>

#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

constexpr uint32_t kMaxCpuid = 256;
constexpr uint32_t kMaxList = 4096;

template <typename Header, typename Entry, uint32_t n>
struct Request {
  Header header{};
  std::array<Entry, n> entries{};
};
using MsrRequest = Request<vmm_kvm_msrs_header, kvm_msr_entry, 3>;
using CpuidRequest = Request<vmm_kvm_cpuid2_header, kvm_cpuid_entry2, kMaxCpuid>;
using ListRequest = Request<vmm_kvm_msr_list_header, uint32_t, kMaxList>;

void* number(uintptr_t value) { return reinterpret_cast<void*>(value); }

struct Get {
  int32_t result;
  uint64_t value;
};

/// A vCPU that may have failed to come into being.
class Cpu {
 public:
  explicit Cpu(Vm& vm) : vcpu_(vm.create_vcpu(0)) {}

  int32_t created() const { return vcpu_ ? 0 : vcpu_.error(); }
  int32_t ioctl(uint32_t request, void* arg) {
    return vcpu_ ? (*vcpu_)->ioctl(request, arg) : -EBADF;
  }
  Get get(uint32_t msr) {
    MsrRequest request;
    request.header.nmsrs = 1;
    request.entries[0].index = msr;
    const int32_t result = ioctl(VMM_KVM_GET_MSRS, &request);
    return {result, request.entries[0].data};
  }
  int32_t set(uint32_t msr, uint64_t value) {
    MsrRequest request;
    request.header.nmsrs = 1;
    request.entries[0].index = msr;
    request.entries[0].data = value;
    return ioctl(VMM_KVM_SET_MSRS, &request);
  }

 private:
  tl::expected<std::unique_ptr<Vcpu>, int32_t> vcpu_;
};

/// One round of questions to one backend.
class Facts {
 public:
  Facts(Kvm& kvm, bool irqchip) : kvm_(kvm), irqchip_(irqchip) {}

  std::vector<std::string> all();

 private:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    lines_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  std::unique_ptr<Vm> new_vm();
  CpuidRequest supported();
  int32_t set_cpuid(Cpu& cpu, std::string_view how);
  void index_list();
  void cpuid_leaves();
  void check_extension(std::string_view name, uint32_t cap);
  void enable_cap(uint64_t arg);
  void enable_cap_flags();
  void msr_filter();
  void msrs(std::string_view vpmu, std::string_view cpuid);
  void all_msr_rows(std::string_view vpmu, std::string_view cpuid, Cpu& cpu);
  void msr_row(std::string_view vpmu, std::string_view cpuid, Cpu& cpu, uint32_t msr, uint64_t v);
  void alias(std::string_view vpmu, std::string_view cpuid, Cpu& cpu);
  void partial_set(std::string_view vpmu, std::string_view cpuid, Cpu& cpu);

  Kvm& kvm_;
  bool irqchip_;
  std::vector<std::string> lines_;
};

/// A VM that could not be made: every ioctl on it is one on a bad file descriptor.
class NoVm final : public Vm {
  int32_t ioctl(uint32_t, void*) override { return -EBADF; }
  tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t) override {
    return tl::unexpected<int32_t>(-EBADF);
  }
};

std::unique_ptr<Vm> Facts::new_vm() {
  auto vm = kvm_.create_vm();
  if (!vm) return std::make_unique<NoVm>();
  if (irqchip_) (*vm)->ioctl(KVM_CREATE_IRQCHIP, nullptr);  // a refusal shows in the rows
  return std::move(*vm);
}

CpuidRequest Facts::supported() {
  CpuidRequest request;
  request.header.nent = kMaxCpuid;
  if (kvm_.ioctl(VMM_KVM_GET_SUPPORTED_CPUID, &request) < 0) request.header.nent = 0;
  return request;
}

/// The leaf, added where it is not there and there is room (there is: 256 leaves).
kvm_cpuid_entry2& leaf(CpuidRequest& cpuid, uint32_t function) {
  const auto end = cpuid.entries.begin() + cpuid.header.nent;
  const auto found = std::find_if(cpuid.entries.begin(), end,
                                  [&](const auto& entry) { return entry.function == function; });
  if (found != end) return *found;
  if (cpuid.header.nent < kMaxCpuid) ++cpuid.header.nent;
  kvm_cpuid_entry2& fresh = cpuid.entries[cpuid.header.nent - 1];
  fresh = {};
  fresh.function = function;
  return fresh;
}

int32_t Facts::set_cpuid(Cpu& cpu, std::string_view how) {
  CpuidRequest cpuid = supported();
  const bool core = how != "plain";
  const bool v2 = how == "v2";
  constexpr uint32_t kCoreBit = 1U << 23;
  kvm_cpuid_entry2& features = leaf(cpuid, 0x80000001);
  features.ecx = core ? features.ecx | kCoreBit : features.ecx & ~kCoreBit;
  kvm_cpuid_entry2& perfmon = leaf(cpuid, 0x80000022);
  perfmon.eax = v2 ? perfmon.eax | 1U : perfmon.eax & ~1U;
  perfmon.ebx = (perfmon.ebx & ~0xfU) | (v2 ? 6U : 0U);
  if (v2) {
    kvm_cpuid_entry2& top = leaf(cpuid, 0x80000000);
    top.eax = std::max(top.eax, 0x80000022U);
  }
  return cpu.ioctl(VMM_KVM_SET_CPUID2, &cpuid);
}

constexpr bool pmu_range(uint32_t msr) {
  return (msr >= 0xc0010000 && msr < 0xc0010008) || (msr >= 0xc0010200 && msr < 0xc001020c) ||
         (msr >= 0xc0000300 && msr < 0xc0000304) || (msr >= 0x186 && msr < 0x190) ||
         (msr >= 0x38d && msr <= 0x390);
}

void Facts::index_list() {
  auto list = std::make_unique<ListRequest>();
  list->header.nmsrs = kMaxList;
  const int32_t result = kvm_.ioctl(VMM_KVM_GET_MSR_INDEX_LIST, list.get());
  std::vector<std::string> pmu;
  for (uint32_t i = 0; result == 0 && i < list->header.nmsrs; ++i)
    if (pmu_range(list->entries[i])) pmu.push_back(fmt::format("\"{:x}\"", list->entries[i]));
  line(R"({{"fact":"msr_index_list","ret":{},"n":{},"pmu":[{}]}})", result, list->header.nmsrs,
       fmt::join(pmu, ","));
}

void Facts::cpuid_leaves() {
  const CpuidRequest cpuid = supported();
  for (const uint32_t function : {0U, 1U, 0xaU, 0x80000000U, 0x80000001U, 0x80000022U}) {
    for (uint32_t i = 0; i < cpuid.header.nent; ++i) {
      const kvm_cpuid_entry2& entry = cpuid.entries[i];
      if (entry.function != function) continue;
      line(
          R"({{"fact":"supported_cpuid","leaf":"{:x}","eax":"{:x}","ebx":"{:x}","ecx":"{:x}","edx":"{:x}"}})",
          function, entry.eax, entry.ebx, entry.ecx, entry.edx);
    }
  }
}

void Facts::check_extension(std::string_view name, uint32_t cap) {
  const auto vm = new_vm();
  const int32_t on_kvm = kvm_.ioctl(KVM_CHECK_EXTENSION, number(cap));
  line(R"({{"fact":"check_extension","cap":"{}","on_kvm_fd":{},"on_vm_fd":{}}})", name, on_kvm,
       vm->ioctl(KVM_CHECK_EXTENSION, number(cap)));
}

kvm_enable_cap pmu_capability(uint64_t arg) {
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_PMU_CAPABILITY;
  cap.args[0] = arg;
  return cap;
}

void Facts::enable_cap(uint64_t arg) {
  kvm_enable_cap cap = pmu_capability(arg);
  const auto vm = new_vm();
  const int32_t first = vm->ioctl(KVM_ENABLE_CAP, &cap);
  const int32_t again = vm->ioctl(KVM_ENABLE_CAP, &cap);
  const Cpu cpu(*vm);
  const int32_t late = vm->ioctl(KVM_ENABLE_CAP, &cap);
  line(R"({{"fact":"enable_cap","args0":{},"before_vcpu":{},"again":{},"after_vcpu":{}}})", arg,
       first, again, late);
}

void Facts::enable_cap_flags() {
  kvm_enable_cap cap = pmu_capability(1);
  cap.flags = 1;
  line(R"({{"fact":"enable_cap_flags1","ret":{}}})", new_vm()->ioctl(KVM_ENABLE_CAP, &cap));
}

/// With a filter that denies the guest the PMU MSRs: does the VMM still get and set them?
void Facts::msr_filter() {
  std::array<uint8_t, 64> none{};
  kvm_msr_filter filter{};
  constexpr std::array<std::array<uint32_t, 2>, 3> kRanges{
      {{0xc0010000, 8}, {0xc0010200, 12}, {0xc0000300, 4}}};
  for (size_t i = 0; i < kRanges.size(); ++i) {
    filter.ranges[i].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    filter.ranges[i].base = kRanges[i][0];
    filter.ranges[i].nmsrs = kRanges[i][1];
    filter.ranges[i].bitmap = none.data();
  }
  const auto vm = new_vm();
  const int32_t set_filter = vm->ioctl(KVM_X86_SET_MSR_FILTER, &filter);
  Cpu cpu(*vm);
  set_cpuid(cpu, "core");
  const int32_t get = cpu.get(0xc0010200).result;
  const int32_t set = cpu.set(0xc0010200, 0x530076);
  const int32_t late = vm->ioctl(KVM_X86_SET_MSR_FILTER, &filter);
  line(
      R"({{"fact":"msr_filter","set_filter":{},"host_get_c0010200":{},"host_set_c0010200":{},"set_filter_after_vcpu":{}}})",
      set_filter, get, set, late);
}

void Facts::msr_row(std::string_view vpmu, std::string_view cpuid, Cpu& cpu, uint32_t msr,
                    uint64_t v) {
  const Get before = cpu.get(msr);
  const int32_t set = cpu.set(msr, v);
  const Get after = cpu.get(msr);
  const int32_t zero = cpu.set(msr, 0);
  const Get zeroed = cpu.get(msr);
  line(
      R"({{"fact":"msr","vpmu":"{}","cpuid":"{}","msr":"{:08x}","get":{},"value":"{:x}","write":"{:x}","set":{},"get_after":{},"after":"{:x}","set_zero":{},"get_zeroed":{},"zeroed":"{:x}"}})",
      vpmu, cpuid, msr, before.result, before.value, v, set, after.result, after.value, zero,
      zeroed.result, zeroed.value);
}

void Facts::all_msr_rows(std::string_view vpmu, std::string_view cpuid, Cpu& cpu) {
  constexpr uint64_t kSelector = 0x530076;  // EN, INT, OS, USR, event 76 (cycles)
  constexpr uint64_t kCounter = 0xffffffff1234;
  struct Row {
    uint32_t msr;
    uint64_t value;
  };
  std::vector<Row> rows;
  for (uint32_t i = 0; i < 4; ++i) rows.push_back({0xc0010000 + i, kSelector});
  for (uint32_t i = 0; i < 4; ++i) rows.push_back({0xc0010004 + i, kCounter});
  for (uint32_t i = 0; i < 6; ++i) {
    rows.push_back({0xc0010200 + 2 * i, kSelector});
    rows.push_back({0xc0010201 + 2 * i, kCounter});
  }
  constexpr std::array<Row, 9> kRest{{{0xc0010200, ~uint64_t{0}},
                                      {0xc0010200, 0x200000530076},
                                      {0xc0010200, 0x30000530076},
                                      {0xc0010201, ~uint64_t{0}},
                                      {0xc0000301, 0x3f},
                                      {0xc0000301, ~uint64_t{0}},
                                      {0xc0000300, 0x5},
                                      {0xc0000302, 0x5},
                                      {0xc0000303, 0x5}}};
  for (const Row& row : rows) msr_row(vpmu, cpuid, cpu, row.msr, row.value);
  for (const Row& row : kRest) msr_row(vpmu, cpuid, cpu, row.msr, row.value);
}

/// Are K7 selector 0 and F15H selector 0 one register?
void Facts::alias(std::string_view vpmu, std::string_view cpuid, Cpu& cpu) {
  const int32_t set = cpu.set(0xc0010200, 0x530076);
  const Get k7 = cpu.get(0xc0010000);
  const Get f15h = cpu.get(0xc0010200);
  const int32_t zero = cpu.set(0xc0010000, 0);
  const Get after = cpu.get(0xc0010200);
  line(
      R"({{"fact":"alias","vpmu":"{}","cpuid":"{}","set_c0010200":{},"get_c0010000":{},"k7":"{:x}","get_c0010200":{},"f15h":"{:x}","set_c0010000_zero":{},"get_c0010200_after":{},"f15h_after":"{:x}"}})",
      vpmu, cpuid, set, k7.result, k7.value, f15h.result, f15h.value, zero, after.result,
      after.value);
}

/// Three MSRs at once, the middle one doubtful: where does KVM stop?
void Facts::partial_set(std::string_view vpmu, std::string_view cpuid, Cpu& cpu) {
  MsrRequest request;
  request.header.nmsrs = 3;
  request.entries = {kvm_msr_entry{0xc0010000, 0, 0x530076}, kvm_msr_entry{0xc0000301, 0, 1},
                     kvm_msr_entry{0xc0010001, 0, 0x530076}};
  const int32_t set = cpu.ioctl(VMM_KVM_SET_MSRS, &request);
  const Get first = cpu.get(0xc0010000);
  const Get third = cpu.get(0xc0010001);
  line(
      R"({{"fact":"partial_set","vpmu":"{}","cpuid":"{}","order":"c0010000 c0000301 c0010001","set":{},"get0":{},"first":"{:x}","get2":{},"third":"{:x}"}})",
      vpmu, cpuid, set, first.result, first.value, third.result, third.value);
}

void Facts::msrs(std::string_view vpmu, std::string_view cpuid) {
  const auto vm = new_vm();
  int32_t enabled = 0;
  if (vpmu != "default") {
    kvm_enable_cap cap = pmu_capability(vpmu == "cap_off" ? KVM_PMU_CAP_DISABLE : 0);
    enabled = vm->ioctl(KVM_ENABLE_CAP, &cap);
  }
  Cpu cpu(*vm);
  const int32_t set = set_cpuid(cpu, cpuid);
  line(R"({{"fact":"vm","vpmu":"{}","cpuid":"{}","enable_cap":{},"vcpu":{},"set_cpuid":{}}})", vpmu,
       cpuid, enabled, cpu.created(), set);
  all_msr_rows(vpmu, cpuid, cpu);
  alias(vpmu, cpuid, cpu);
  partial_set(vpmu, cpuid, cpu);
}

std::vector<std::string> Facts::all() {
  const HostInfo host = kvm_.host_info();
  line(R"({{"fact":"host","kernel":"{}","enable_pmu":"{}","api":{}}})", host.kernel,
       host.enable_pmu, kvm_.ioctl(KVM_GET_API_VERSION, nullptr));
  index_list();
  cpuid_leaves();
  check_extension("KVM_CAP_PMU_CAPABILITY", KVM_CAP_PMU_CAPABILITY);
  check_extension("KVM_CAP_X86_MSR_FILTER", KVM_CAP_X86_MSR_FILTER);
  for (const uint64_t arg : {0U, 1U, 2U, 3U, 0x100U}) enable_cap(arg);
  enable_cap_flags();
  msr_filter();
  for (const std::string_view vpmu : {"default", "cap_off", "cap_zero"})
    for (const std::string_view cpuid : {"plain", "core", "v2"}) msrs(vpmu, cpuid);
  return std::move(lines_);
}

}  // namespace

std::vector<std::string> kvm_facts(Kvm& kvm, bool irqchip) { return Facts(kvm, irqchip).all(); }

}  // namespace host_stub
