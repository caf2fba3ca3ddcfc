// SPDX-License-Identifier: MIT
//
// soak [--vms N] [--seed S] [--vm K]: makes N VMs one after the other, each on a simulated KVM and
// with faults of its own, drives the built plugin through their lives, and looks behind its back:
//
//   no event selector is left enabled by a reset that returned 0;
//   vm_created that returned 0 with pmu-cap-disabled=on leaves the guest no vPMU, or says so, and
//   with strict=on never succeeds otherwise;
//   a saved state holds each register that KVM can read, as it is, or saving fails;
//   a restore brings back what it does not name as dropped;
//   memory in use does not grow (with a sanitizer: its leak check).
//
// Ends at the first VM of which one is not so, with its seed and number: `--seed S --vm K` plays
// that VM again, exactly. What the oracle knows of registers is its own: nothing comes of the
// plugin.
#include <fmt/format.h>
#include <malloc.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/variables_map.hpp>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "host_kit/msr_io.hpp"
#include "host_kit/msr_state.hpp"
#include "host_kit/plugin_instance.hpp"
#include "kvm/faults.hpp"
#include "kvm/msr_request.hpp"
#include "plugin_fixture.hpp"
#include "sanitizers.hpp"
#include "soak_case.hpp"
#include "support/refusals.hpp"
#include "support/resource_counters.hpp"

namespace soak {
namespace {

using namespace host_stub;

/// What must not be; ends the soak.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};
void require(bool demand, const std::string& what) {
  if (!demand) throw Broken(what);
}

/// Of a whole soak.
struct Totals {
  uint64_t vms = 0, refused = 0, resets = 0, failed_resets = 0, saved = 0, restored = 0, faults = 0,
           starved = 0;
};

/// Within: only that many allocations of this thread succeed, those of the host's callbacks apart.
class Starvation {
 public:
  explicit Starvation(unsigned left) { counters = {.armed = true, .left = left}; }
  ~Starvation() { counters.armed = false; }
  Starvation(const Starvation&) = delete;
  Starvation& operator=(const Starvation&) = delete;
};
class Fed {
 public:
  Fed() : was_(std::exchange(counters.armed, false)) {}
  ~Fed() { counters.armed = was_; }
  Fed(const Fed&) = delete;
  Fed& operator=(const Fed&) = delete;

 private:
  bool was_;
};

/// The host: passes everything on, and keeps what the oracle wants to know.
class SoakHost final : public host_kit::Host {
 public:
  SoakHost(const SoakCase& soak_case, const GuestCpuidTable& cpuid)
      : case_(soak_case), cpuid_(cpuid) {}

  int warnings = 0;
  bool reset_under_way = false;
  Refusals refusals;
  uint64_t failures = 0;  ///< ioctls that returned an error

  const char* name() const noexcept override { return "soak"; }
  int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept override {
    const Fed fed;
    return counted(reinterpret_cast<Vm*>(vm)->ioctl(request, arg));
  }
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept override {
    const Fed fed;
    const int32_t result = counted(reinterpret_cast<Vcpu*>(vcpu)->ioctl(request, arg));
    if (reset_under_way && is_msr_request(request))
      refusals.saw(request == VMM_KVM_SET_MSRS, msr_entries(arg), result);
    return result;
  }
  void log(uint32_t level, std::string_view, std::string_view message) noexcept override {
    if (message.empty() || message.find('\n') != std::string_view::npos) std::abort();
    warnings += level == VMM_LOG_WARNING ? 1 : 0;
  }
  int32_t get_cpuid(vmm_vm_handle, vmm_vcpu_handle, uint32_t leaf, uint32_t subleaf,
                    std::span<uint32_t, 4> registers) noexcept override {
    if (!case_.cpuid_known) return -ENOENT;
    cpuid_.lookup(leaf, subleaf, registers);
    return 0;
  }
  bool has_msr_filter() const noexcept override { return case_.own_filter; }
  int32_t deny_msrs(vmm_vm_handle vm, std::span<const vmm_msr_range> ranges) noexcept override {
    const Fed fed;
    if (vm_ioctl(vm, KVM_CHECK_EXTENSION, reinterpret_cast<void*>(KVM_CAP_X86_MSR_FILTER)) <= 0)
      return -EOPNOTSUPP;
    std::array<uint8_t, 8> none{};
    kvm_msr_filter filter{};
    for (std::size_t i = 0; i < ranges.size(); ++i)
      filter.ranges[i] = {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, ranges[i].count,
                          ranges[i].base, none.data()};
    return vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
  }

 private:
  int32_t counted(int32_t result) noexcept {
    failures += result < 0 ? 1 : 0;
    return result;
  }
  const SoakCase& case_;
  const GuestCpuidTable& cpuid_;
};

// ---- behind the plugin's back ------------------------------------------------------------------

constexpr uint64_t kEnabled = uint64_t{1} << 22;
constexpr uint32_t kSelectors[] = {0xc0010000, 0xc0010001, 0xc0010002, 0xc0010003, 0xc0010200,
                                   0xc0010202, 0xc0010204, 0xc0010206, 0xc0010208, 0xc001020a};
/// The selector of the same counter in the other bank; itself where there is none.
uint32_t alias_of(uint32_t selector) {
  if (selector < 0xc0010200) return 0xc0010200 + 2 * (selector - 0xc0010000);
  const uint32_t number = (selector - 0xc0010200) / 2;
  return number < 4 ? 0xc0010000 + number : selector;
}

std::optional<uint64_t> read(SimVcpu& vcpu, uint32_t msr) {
  MsrRequest request;
  request.add({msr, 0, 0});
  if (vcpu.ioctl(VMM_KVM_GET_MSRS, request.arg()) != 1) return std::nullopt;
  return request.entries()[0].data;
}

struct Cpu {
  std::unique_ptr<Vcpu> vcpu;
  SimVcpu* sim = nullptr;
  vmm_vcpu_handle handle() const { return reinterpret_cast<vmm_vcpu_handle>(vcpu.get()); }
};

/// What of the PMU the guest's CPUID promises, which is all that a guest uses.
std::vector<uint32_t> guests_registers(const GuestCpuidTable& cpuid) {
  if (cpuid.lookup(0, 0).ebx == 0x756e6547) return {};  // "Genu"ineIntel
  const bool core = (cpuid.lookup(0x80000001, 0).ecx >> 23 & 1) != 0;
  std::vector<uint32_t> msrs;
  for (uint32_t i = 0; i < (core ? 6u : 4u); ++i) {
    msrs.push_back(core ? 0xc0010200 + 2 * i : 0xc0010000 + i);
    msrs.push_back(core ? 0xc0010201 + 2 * i : 0xc0010004 + i);
  }
  return msrs;
}

/// The guest counts with all it has.
void dirty(const Cpu& cpu, const std::vector<uint32_t>& msrs) {
  for (std::size_t i = 0; i < msrs.size(); ++i)
    (void)cpu.vcpu->guest_wrmsr(msrs[i], i % 2 == 0 ? 0x530076 : 0xffff'ffff'f000);
  cpu.vcpu->guest_run(1000);
}

/// Whether the guest has a counter: what it writes there stays.
bool guest_has_pmu(const Cpu& cpu, const std::vector<uint32_t>& msrs) {
  if (msrs.empty()) return false;
  if (!cpu.vcpu->guest_wrmsr(msrs[0], 0x530076)) return false;
  const auto back = cpu.vcpu->guest_rdmsr(msrs[0]);
  return back.has_value() && (*back & kEnabled) != 0;
}

// ---- a life ------------------------------------------------------------------------------------

/// One VM of a case: KVM's side of it.
struct Machine {
  std::unique_ptr<Vm> vm;
  std::unique_ptr<host_kit::PluginVm> hooks;
  std::vector<Cpu> cpus;
  ~Machine() { hooks.reset(); }
};

class Life {
 public:
  Life(const SoakCase& soak_case, Totals& totals) : case_(soak_case), totals_(totals) {}

  void live() {
    auto sim = open_tapped_sim(case_.kvm);
    require(sim != nullptr, "no such simulated KVM");
    const auto model = CpuidModel::parse(case_.cpuid);
    require(model.has_value(), "no such guest CPUID");
    auto cpuid = GuestCpuidTable::make(*sim, *model);
    require(cpuid.has_value(), "no CPUID");
    const auto plan = parse_faults(case_.faults);
    require(plan.has_value(), plan ? "" : plan.error());
    cpuid_ = &*cpuid;
    registers_ = guests_registers(*cpuid);
    kvm_ = with_faults(std::move(sim), *plan);
    SoakHost host(case_, *cpuid);
    host_ = &host;
    ++totals_.vms;
    const auto plugin = create();
    if (plugin != nullptr) {
      Machine machine;
      if (make(*plugin, machine)) {
        for (uint32_t round = 0; round < case_.resets; ++round)
          for (uint32_t i = 0; i < machine.cpus.size(); ++i) reset(machine, i);
        save_and_restore(*plugin, machine);
      }
    }
    totals_.faults += host.failures;
    host_ = nullptr;
  }

 private:
  /// Calls with little memory; nothing: it was not enough, and was said by an exception of the
  /// host's own.
  template <typename Call>
  auto starved(unsigned memory, Call call) -> std::optional<decltype(call())> {
    if (memory == ~0u || kSanitized) return call();
    ++totals_.starved;
    try {
      const Starvation hunger(memory);
      return call();
    } catch (const std::bad_alloc&) {
      return std::nullopt;
    }
  }

  std::unique_ptr<host_kit::PluginInstance> create() {
    auto plugin = starved(case_.create_memory, [&] {
      return host_kit::PluginInstance::create(plugin_descriptor(), *host_, case_.options.c_str());
    });
    if (plugin && *plugin) return std::move(**plugin);
    require(case_.create_memory != ~0u, "create failed without a reason");
    ++totals_.refused;
    return nullptr;
  }

  /// False: refused, by KVM or the plugin.
  bool make(host_kit::PluginInstance& plugin, Machine& machine) {
    auto vm = kvm_->create_vm();
    if (!vm) return refused();
    machine.vm = std::move(*vm);
    host_->warnings = 0;
    const uint64_t failures = host_->failures;
    auto hooks = starved(case_.vm_memory, [&] {
      return host_kit::PluginVm::created(plugin, reinterpret_cast<vmm_vm_handle>(machine.vm.get()),
                                         case_.vcpus);
    });
    const bool created = hooks && *hooks;
    const int warnings = host_->warnings;
    if (!created) {
      // a reason: memory, KVM, or a wish that could not be met
      require(case_.vm_memory != ~0u || host_->failures > failures || (case_.off && case_.strict),
              "vm_created failed without a reason");
      return refused();
    }
    machine.hooks = std::move(**hooks);
    if (case_.irqchip && machine.vm->ioctl(KVM_CREATE_IRQCHIP, nullptr) < 0) return refused();
    for (uint32_t id = 0; id < case_.vcpus; ++id) {
      auto vcpu = machine.vm->create_vcpu(id);
      if (!vcpu) return refused();
      machine.cpus.push_back({std::move(*vcpu), newest_sim()});
      require(cpuid_->apply(*machine.cpus.back().sim) == 0, "KVM_SET_CPUID2");
    }
    if (case_.off && guest_has_pmu(machine.cpus[0], registers_)) {
      require(!case_.strict, "strict, and the guest has its vPMU");
      require(warnings > 0 || !case_.says_warnings, "the guest has its vPMU, and nobody says so");
    }
    return true;
  }
  bool refused() {
    ++totals_.refused;
    return false;
  }

  void reset(Machine& machine, uint32_t index) {
    Cpu& cpu = machine.cpus[index];
    dirty(cpu, registers_);
    host_kit::MsrBatch batch(64);
    host_->reset_under_way = true;
    const int32_t result =
        machine.hooks->vcpu_reset(index, cpu.handle(), case_.batch ? batch.sink() : nullptr);
    host_->reset_under_way = false;
    host_->refusals.end_of_reset();
    ++totals_.resets;
    require(result <= 0, "a positive result");
    if (result == 0 && case_.verify) require(batch.entries().empty(), "verified, in a batch");
    if (result < 0 || !batch.flush(*host_, cpu.handle())) {
      ++totals_.failed_resets;
      return;
    }
    // what the host's own batch was refused is the fault's, not the plugin's
    if (case_.batch && case_.transient_refusals) return;
    for (const uint32_t selector : kSelectors) {
      const auto value = read(*cpu.sim, selector);
      const auto& sworn = host_->refusals.sworn();
      if (!value || (*value & kEnabled) == 0 || registers_.empty()) continue;
      if (sworn.contains(selector) || sworn.contains(alias_of(selector))) continue;
      throw Broken(
          fmt::format("vCPU {}: reset returned 0, and {:08x} is {:x}", index, selector, *value));
    }
  }

  void save_and_restore(host_kit::PluginInstance& plugin, Machine& machine) {
    const auto list = starved(case_.list_memory, [&] { return machine.hooks->msr_list(); });
    if (!list || !*list) {
      require(case_.list_memory != ~0u, "msr_list_build failed without a reason");
      return;
    }
    Cpu& cpu = machine.cpus[0];
    dirty(cpu, registers_);
    const auto state = host_kit::save_msrs(*host_, cpu.handle(), **list);
    if (!state) return;
    ++totals_.saved;
    check_state(cpu, **list, *state);

    Machine other;
    if (!make(plugin, other)) return;
    Cpu& target = other.cpus[0];
    const auto report = host_kit::restore_msrs(*host_, target.handle(), **list, *state);
    if (!report) return;
    ++totals_.restored;
    require(!case_.strict || report->dropped.empty(), "REQUIRED, and dropped");
    if (case_.lies) return;  // a restore is not read back
    for (const host_kit::SavedMsr& msr : *state) {
      const auto dropped = [&](const host_kit::SavedMsr& lost) { return lost.index == msr.index; };
      if (msr.value == 0 || std::ranges::any_of(report->dropped, dropped)) continue;
      const auto value = read(*target.sim, msr.index);
      require(value == msr.value, fmt::format("{:08x} was restored as something else", msr.index));
    }
  }

  void check_state(const Cpu& cpu, const std::vector<vmm_msr>& list,
                   const std::vector<host_kit::SavedMsr>& state) const {
    for (const vmm_msr& entry : list) {
      if ((entry.flags & VMM_MSR_SAVED) == 0) continue;
      const auto value = read(*cpu.sim, entry.index);
      const auto saved = std::ranges::find(state, entry.index, &host_kit::SavedMsr::index);
      // a host cannot tell a short count that KVM made up from a register that is not there
      if (value && saved == state.end() && case_.transient_refusals) continue;
      require(value.has_value() == (saved != state.end()),
              fmt::format("{:08x} is not as the saved state has it", entry.index));
      if (value)
        require(*value == saved->value, fmt::format("{:08x} was saved wrong", entry.index));
    }
  }

  const SoakCase& case_;
  Totals& totals_;
  std::unique_ptr<Kvm> kvm_;
  const GuestCpuidTable* cpuid_ = nullptr;
  std::vector<uint32_t> registers_;
  SoakHost* host_ = nullptr;
};

/// False: something was not so, and was said.
bool live_one(uint64_t seed, uint64_t vm, Totals& totals) {
  const SoakCase soak_case = make_case(seed, vm);
  try {
    Life(soak_case, totals).live();
    return true;
  } catch (const Broken& broken) {
    std::cout << fmt::format("soak: --seed {} --vm {}: {}\n  {}\n", seed, vm, broken.what(),
                             soak_case.text());
    return false;
  }
}

std::size_t bytes_in_use() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

int run(uint64_t seed, uint64_t vms) {
  constexpr std::size_t kSlack = std::size_t{256} * 1024;  // caches of the C and C++ libraries
  Totals totals;
  std::size_t before = 0;
  for (uint64_t vm = 0; vm < vms; ++vm) {
    if (!live_one(seed, vm, totals)) return 1;
    if (vm == vms / 10) before = bytes_in_use();
  }
  const std::size_t after = bytes_in_use();
  std::cout << fmt::format(
      "soak: --seed {}: {} VMs, {} refused; {} resets, {} failed; {} states saved, {} restored; {} "
      "ioctls failed, {} calls starved of memory; {} bytes in use, {} after a tenth\n",
      seed, totals.vms, totals.refused, totals.resets, totals.failed_resets, totals.saved,
      totals.restored, totals.faults, totals.starved, after, before);
  if (kSanitized || after < before + kSlack) return 0;
  std::cout << "soak: memory grew\n";
  return 1;
}

}  // namespace
}  // namespace soak

int main(int argc, char** argv) try {
  namespace po = boost::program_options;
  po::options_description description("soak: VMs by the thousand, with faults");
  description.add_options()("help", "this text")("vms", po::value<uint64_t>()->default_value(10000),
                                                 "how many")(
      "seed", po::value<uint64_t>(), "what they are made from; by the clock if not given")(
      "vm", po::value<uint64_t>(), "only this one, from 0");
  po::variables_map values;
  po::store(po::parse_command_line(argc, argv, description), values);
  po::notify(values);
  if (values.count("help") != 0) {
    std::cout << description;
    return 0;
  }
  const uint64_t seed =
      values.count("seed") != 0
          ? values["seed"].as<uint64_t>()
          : static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  if (values.count("vm") != 0) {
    soak::Totals totals;
    const uint64_t vm = values["vm"].as<uint64_t>();
    if (!soak::live_one(seed, vm, totals)) return 1;
    std::cout << "soak: --vm " << vm << ": " << soak::make_case(seed, vm).text() << "\n";
    return 0;
  }
  return soak::run(seed, values["vms"].as<uint64_t>());
} catch (const std::exception& error) {
  std::cerr << "soak: " << error.what() << "\n";
  return 2;
}
