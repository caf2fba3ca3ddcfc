// SPDX-License-Identifier: MIT
//
// pmu-cap-disabled: what becomes of a VM's vPMU between KVM_CREATE_VM and the first vCPU, on each
// kind of host, and what is said when it cannot be done.
#include <cpuid.h>

#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <vector>

#include "plugin_fixture.hpp"
#include "sim/pmu_msrs.hpp"

using namespace host_stub;

namespace {

constexpr const char* kOld = "sim:linux-5.10";  // no KVM_CAP_PMU_CAPABILITY, has the MSR filter
constexpr const char* kOff = "sim:linux-6.12,enable_pmu=N";
constexpr const char* kNew = "sim:linux-6.12";

/// A kernel before Linux 5.10: every capability reads 0.
void no_capabilities(vmm_host& host) {
  host.vm_ioctl = [](void*, vmm_vm_handle, uint32_t request, void*) -> int32_t {
    return request == uint32_t{KVM_CHECK_EXTENSION} ? 0 : -ENOTTY;
  };
}

/// A host that has nothing beside its table, as vmm/guest_pmu.h.
void no_extensions(vmm_host& host) { host.get_extension = nullptr; }

/// One vm_created.
struct Attempt {
  Attempt(const HostSpec& spec, const std::string& options, bool vcpu_first = false)
      : host(spec), plugin(make_plugin(host, ("log-level=debug," + options).c_str())) {
    run(vcpu_first);
  }
  void run(bool vcpu_first) {
    vm = host.kvm().create_vm().value();
    if (vcpu_first) vcpu = vm->create_vcpu(0).value();
    host.forget();
    auto made = host_kit::PluginVm::created(*plugin, reinterpret_cast<vmm_vm_handle>(vm.get()), 1);
    if (made) {
      hooks = std::move(*made);
    } else {
      code = made.error().code;
      text = made.error().text;
    }
  }
  /// Whether the guest finds a live PMU.
  bool guest_counts() {
    if (!vcpu) vcpu = vm->create_vcpu(0).value();
    return vcpu->guest_wrmsr(kMsrLegacyCtl0, 0x430076).has_value() &&
           vcpu->guest_rdmsr(kMsrLegacyCtl0).value_or(0) == 0x430076;
  }
  std::size_t ioctls(const char* name = "") const { return host.ioctls(name).size(); }

  PluginHost host;
  std::unique_ptr<host_kit::PluginInstance> plugin;
  std::unique_ptr<Vm> vm;
  std::unique_ptr<Vcpu> vcpu;
  std::unique_ptr<host_kit::PluginVm> hooks;
  int32_t code = 0;
  std::string text;
};

}  // namespace

BOOST_AUTO_TEST_CASE(without_the_option_nothing_is_asked_of_kvm) {
  Attempt attempt({}, "pmu-cap-disabled=off");
  BOOST_TEST(attempt.code == 0);
  BOOST_TEST(attempt.ioctls() == 0u);
  BOOST_TEST(attempt.guest_counts());
}

BOOST_AUTO_TEST_CASE(each_host_is_handled_by_what_it_answers) {
  const struct {
    const char* kvm;
    const char* options;
    int32_t code;
    std::size_t ioctls;
    bool guest_counts;
    uint32_t level;  // of the one line
    std::vector<const char*> said;
  } rows[] = {
      {kNew, "", 0, 2, false, VMM_LOG_INFO, {"disabled for this VM", "KVM_CAP_PMU_CAPABILITY"}},
      {kNew, "strict=on", 0, 2, false, VMM_LOG_INFO, {"disabled for this VM"}},
      {kNew, "pmu-off-method=cap", 0, 2, false, VMM_LOG_INFO, {"disabled for this VM"}},
      {kNew, "pmu-off-method=msr-filter", 0, 2, false, VMM_LOG_INFO, {"KVM_X86_SET_MSR_FILTER"}},
      {kOff, "", 0, 2, false, VMM_LOG_INFO, {"already off", "enable_pmu=N"}},
      {kOff, "strict=on", 0, 2, false, VMM_LOG_INFO, {"already off"}},
      {kOff, "pmu-off-method=cap,strict=on", 0, 2, false, VMM_LOG_INFO, {"already off"}},
      {kOld, "", 0, 4, false, VMM_LOG_WARNING, {"hidden", "KVM_X86_SET_MSR_FILTER", "RDPMC"}},
      {kOld, "strict=on", 0, 4, false, VMM_LOG_WARNING, {"hidden"}},
      {kOld, "pmu-off-method=msr-filter", 0, 2, false, VMM_LOG_INFO, {"hidden"}},
      {kOld,
       "pmu-off-method=cap",
       0,
       2,
       true,
       VMM_LOG_WARNING,
       {"cannot be disabled", "pmu-off-method=cap", "KVM_CAP_PMU_CAPABILITY", "still reset"}},
      {kOld,
       "pmu-off-method=cap,pmu-reset=off",
       0,
       2,
       true,
       VMM_LOG_WARNING,
       {"cannot be disabled", "stays on"}},
      {kOld, "pmu-off-method=cap,strict=on", -EOPNOTSUPP, 2, true, 0, {"strict=on", "5.18"}},
  };
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.kvm << " " << row.options) {
      Attempt attempt({.kvm = row.kvm}, std::string("pmu-cap-disabled=on") +
                                            (*row.options != 0 ? "," : "") + row.options);
      BOOST_TEST(attempt.code == row.code);
      BOOST_TEST(attempt.ioctls() == row.ioctls);
      auto lines = attempt.host.log_lines();
      // the plugin host cannot hide CPUID bits, which is said behind what was switched off
      std::erase_if(lines, [](const LogLine& line) { return says(line.text, "CPUID still"); });
      BOOST_TEST(lines.size() == (row.code == 0 ? 1u : 0u));
      if (!lines.empty()) BOOST_TEST(lines[0].level == row.level);
      for (const char* part : row.said)
        BOOST_TEST(says(lines.empty() ? attempt.text : lines[0].text, part), part);
      BOOST_TEST(attempt.guest_counts() == row.guest_counts);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_capability_after_the_first_vcpu_is_an_error_that_names_ioctl_and_errno) {
  Attempt attempt({}, "pmu-cap-disabled=on", true);
  BOOST_TEST(attempt.code == -EINVAL);
  for (const char* part : {"KVM_ENABLE_CAP", "EINVAL", "KVM_CREATE_VCPU"})
    BOOST_TEST(says(attempt.text, part), part);
  BOOST_TEST(attempt.hooks == nullptr);
}

BOOST_AUTO_TEST_CASE(
    what_kvm_advertises_and_then_refuses_is_an_error_and_no_reason_for_a_fallback) {
  for (const char* name : {"EINVAL", "EPERM", "EBUSY", "EIO"})
    for (const char* method : {"auto", "cap"}) {
      BOOST_TEST_CONTEXT(name << " " << method) {
        Attempt attempt({.faults = std::string("enable_cap:") + name},
                        std::string("pmu-cap-disabled=on,pmu-off-method=") + method);
        BOOST_TEST(attempt.code < 0);
        for (const char* part : {"KVM_ENABLE_CAP", "KVM_CAP_PMU_CAPABILITY", name})
          BOOST_TEST(says(attempt.text, part), part);
        BOOST_TEST(attempt.ioctls("KVM_X86_SET_MSR_FILTER") == 0u);
      }
    }
}

BOOST_AUTO_TEST_CASE(an_interrupted_ioctl_is_repeated) {
  Attempt attempt({.faults = "enable_cap:EINTR#1;check_extension:EINTR#1"}, "pmu-cap-disabled=on");
  BOOST_TEST(attempt.code == 0);
  BOOST_TEST(attempt.ioctls() == 4u);
  BOOST_TEST(!attempt.guest_counts());
  Attempt filter({.kvm = kOld, .faults = "set_msr_filter:EINTR#1"}, "pmu-cap-disabled=on");
  BOOST_TEST(filter.code == 0);
  BOOST_TEST(!filter.guest_counts());
}

BOOST_AUTO_TEST_CASE(a_capability_that_cannot_be_asked_for_is_an_error) {
  const struct {
    const char* kvm;
    const char* fault;
    const char* method;
    const char* named;
  } rows[] = {
      {kNew, "check_extension:EIO", "auto", "KVM_CAP_PMU_CAPABILITY"},
      {kNew, "check_extension:EIO", "msr-filter", "KVM_CAP_X86_MSR_FILTER"},
      {kOld, "check_extension:EIO#1", "auto", "KVM_CAP_PMU_CAPABILITY"},
      {kOld, "check_extension:EIO#2", "auto", "KVM_CAP_DISABLE_QUIRKS2"},
      {kOld, "check_extension:EIO#3", "auto", "KVM_CAP_X86_MSR_FILTER"},
  };
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.kvm << " " << row.fault) {
      Attempt attempt({.kvm = row.kvm, .faults = row.fault},
                      std::string("pmu-cap-disabled=on,pmu-off-method=") + row.method);
      BOOST_TEST(attempt.code == -EIO);
      for (const char* part : {"KVM_CHECK_EXTENSION", row.named, "EIO"})
        BOOST_TEST(says(attempt.text, part), part);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_filter_that_kvm_refuses_is_an_error) {
  for (const char* name : {"EBUSY", "EINVAL", "ENOMEM"}) {
    Attempt attempt({.kvm = kOld, .faults = std::string("set_msr_filter:") + name},
                    "pmu-cap-disabled=on");
    BOOST_TEST(attempt.code < 0);
    BOOST_TEST(says(attempt.text, "KVM_X86_SET_MSR_FILTER"));
    BOOST_TEST(says(attempt.text, name));
  }
}

BOOST_AUTO_TEST_CASE(a_filter_that_kvm_does_not_have_is_a_warning_or_with_strict_an_error) {
  for (const bool strict : {false, true})
    for (const char* method : {"auto", "msr-filter"}) {
      const std::string options = std::string("pmu-cap-disabled=on,pmu-off-method=") + method +
                                  (strict ? ",strict=on" : "");
      BOOST_TEST_CONTEXT(options) {
        Attempt attempt({.kvm = kOld, .faults = "set_msr_filter:EOPNOTSUPP"}, options);
        BOOST_TEST(attempt.code == (strict ? -EOPNOTSUPP : 0));
        const auto lines = attempt.host.log_lines();
        BOOST_TEST(lines.size() == (strict ? 0u : 1u));
        const std::string said = strict ? attempt.text : lines.at(0).text;
        for (const char* part : {"cannot be disabled", method, "EOPNOTSUPP"})
          BOOST_TEST(says(said, part), part);
        BOOST_TEST(attempt.guest_counts());
      }
    }
}

BOOST_AUTO_TEST_CASE(a_kernel_without_the_filter_is_not_asked_to_set_one) {
  PluginHost host({.kvm = kOld});
  const vmm_plugin descriptor = plugin_with_edited_host<no_capabilities>();
  for (const bool strict : {false, true}) {
    host.forget();
    const auto plugin = make_plugin(
        host, strict ? "pmu-cap-disabled=on,strict=on" : "pmu-cap-disabled=on", descriptor);
    const auto vm = host.kvm().create_vm().value();
    const auto made =
        host_kit::PluginVm::created(*plugin, reinterpret_cast<vmm_vm_handle>(vm.get()), 1);
    BOOST_TEST(made.has_value() == !strict);
    if (!made) BOOST_TEST(made.error().code == -EOPNOTSUPP);
    const std::string said = made ? host.log_lines().at(0).text : made.error().text;
    BOOST_TEST(says(said, "5.18"));
    BOOST_TEST(says(said, "5.10"));
  }
}

BOOST_AUTO_TEST_CASE(the_filter_denies_every_pmu_register_and_nothing_else) {
  Attempt attempt({.kvm = kOld}, "pmu-cap-disabled=on");
  BOOST_TEST(!attempt.guest_counts());
  for (const uint32_t msr : pmu_msrs()) {
    BOOST_TEST(!attempt.vcpu->guest_rdmsr(msr).has_value());
    BOOST_TEST(!attempt.vcpu->guest_wrmsr(msr, 0).has_value());
  }
  BOOST_TEST(attempt.vcpu->guest_rdmsr(0x10).has_value());
  const auto made = attempt.host.ioctls("KVM_X86_SET_MSR_FILTER");
  BOOST_REQUIRE(made.size() == 1u);
  BOOST_TEST(made[0].detail ==
             "default allow, c0010000+8 rw denies 8, c0010200+c rw denies 12, "
             "c0000300+4 rw denies 4");
}

BOOST_AUTO_TEST_CASE(a_filtered_vm_is_still_reset_and_saved) {
  Rig rig({.kvm = kOld}, "pmu-cap-disabled=on");
  rig.vm.dirty(0);
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.vm.stale(0) == "");
  BOOST_TEST(!rig.vm.hooks().msr_list().value().empty());
}

BOOST_AUTO_TEST_CASE(a_hosts_own_filter_is_used_through_the_host_and_never_replaced) {
  const struct {
    int32_t answer;
    const char* options;
    int32_t code;
    const char* said;
  } rows[] = {
      {0, "", 0, "the host's MSR filter"},
      {0, "pmu-off-method=msr-filter", 0, "the host's MSR filter"},
      {-ENOSPC, "", -ENOSPC, "ENOSPC"},
      {-ENOSPC, "strict=on", -ENOSPC, "ENOSPC"},
      {-EIO, "", -EIO, "EIO"},
      {3, "", -EPROTO, "the host's MSR filter"},
      {-EOPNOTSUPP, "", 0, "EOPNOTSUPP"},
      {-EOPNOTSUPP, "strict=on", -EOPNOTSUPP, "EOPNOTSUPP"},
  };
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.answer << " " << row.options) {
      PluginHost host({.kvm = kOld, .own_filter = true});
      std::vector<vmm_msr_range> denied;
      host.deny = [&](std::span<const vmm_msr_range> ranges) {
        denied.assign(ranges.begin(), ranges.end());
        return row.answer;
      };
      const std::string options = std::string("log-level=info,pmu-cap-disabled=on") +
                                  (*row.options != 0 ? "," : "") + row.options;
      const auto plugin = make_plugin(host, options.c_str());
      const auto vm = host.kvm().create_vm().value();
      const auto made =
          host_kit::PluginVm::created(*plugin, reinterpret_cast<vmm_vm_handle>(vm.get()), 1);
      BOOST_TEST((made ? 0 : made.error().code) == row.code);
      BOOST_TEST(says(made ? host.log_lines().at(0).text : made.error().text, row.said));
      BOOST_TEST(host.ioctls("KVM_X86_SET_MSR_FILTER").empty());
      BOOST_REQUIRE(denied.size() == 3u);
      for (const uint32_t msr : pmu_msrs()) {
        const bool covered = std::any_of(denied.begin(), denied.end(), [&](const auto& range) {
          return msr >= range.base && msr - range.base < range.count;
        });
        BOOST_TEST(covered);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(an_intel_guest_gets_no_filter_of_amds_registers) {
  for (const bool strict : {false, true}) {
    Attempt attempt({.kvm = "sim:linux-5.10,vendor=intel", .cpuid = "host"},
                    strict ? "pmu-cap-disabled=on,strict=on" : "pmu-cap-disabled=on");
    BOOST_TEST(attempt.code == (strict ? -EOPNOTSUPP : 0));
    BOOST_TEST(attempt.ioctls("KVM_X86_SET_MSR_FILTER") == 0u);
    BOOST_TEST(says(strict ? attempt.text : attempt.host.log_lines().at(0).text, "AMD"));
  }
}

BOOST_AUTO_TEST_CASE(while_the_guests_vendor_is_not_known_the_machines_decides) {
  // KVM makes the vPMU of the machine's vendor, so a filter of AMD's registers helps only there
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  BOOST_TEST_REQUIRE(__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 1);
  const bool amd = ebx == 0x68747541 || ebx == 0x6f677948;  // "Auth", "Hygo"
  PluginHost host({.kvm = kOld});
  host.cpuid_known = false;
  const auto plugin = make_plugin(host, "pmu-cap-disabled=on");
  Machine vm(host, *plugin, 1);
  BOOST_TEST(host.ioctls("KVM_X86_SET_MSR_FILTER").size() == (amd ? 1u : 0u));
}

BOOST_AUTO_TEST_CASE(an_error_ends_that_vm_only) {
  PluginHost host({.faults = "enable_cap:EINVAL#2"});
  const auto plugin = make_plugin(host, "pmu-cap-disabled=on");
  const auto before = std::make_unique<Machine>(host, *plugin, 1);
  BOOST_CHECK_THROW(Machine(host, *plugin, 1), std::runtime_error);
  Machine after(host, *plugin, 1);
  BOOST_TEST(before->reset(0) == 0);
  BOOST_TEST(after.reset(0) == 0);
}

// ---- hide_cpuid ---------------------------------------------------------------------------------

namespace {

struct HideRow {
  const char* what;
  std::optional<int32_t> host;  ///< what hide_cpuid returns; nothing: the host has none
  const char* options;
  int32_t code;       ///< of vm_created
  uint32_t level;     ///< of the line that says that nothing is hidden; 0: none
  const char* words;  ///< in it
};
const HideRow kHideRows[] = {
    {"hidden", 0, "pmu-cpuid=auto", 0, 0, ""},
    {"hidden, strict", 0, "pmu-cpuid=hide,strict=on", 0, 0, ""},
    {"kept", 0, "pmu-cpuid=keep", 0, 0, ""},
    {"a host of 1.0", std::nullopt, "pmu-cpuid=auto", 0, VMM_LOG_INFO, "cannot hide CPUID bits"},
    {"a host of 1.0, strict", std::nullopt, "pmu-cpuid=auto,strict=on", 0, VMM_LOG_INFO,
     "cannot hide CPUID bits"},
    {"a host of 1.0, asked", std::nullopt, "pmu-cpuid=hide", 0, VMM_LOG_WARNING,
     "cannot hide CPUID bits"},
    {"a host of 1.0, asked, strict", std::nullopt, "pmu-cpuid=hide,strict=on", -EOPNOTSUPP, 0,
     "cannot hide CPUID bits (strict=on)"},
    {"no room", -ENOSPC, "pmu-cpuid=auto", 0, VMM_LOG_WARNING, "hide_cpuid failed: ENOSPC"},
    {"no room, strict", -ENOSPC, "pmu-cpuid=auto,strict=on", -ENOSPC, 0,
     "hide_cpuid failed: ENOSPC (strict=on)"},
    {"no room, asked, strict", -ENOSPC, "pmu-cpuid=hide,strict=on", -ENOSPC, 0,
     "hide_cpuid failed: ENOSPC (strict=on)"},
    {"a host that returns a count", 3, "pmu-cpuid=auto,strict=on", -EPROTO, 0, "hide_cpuid failed"},
};

}  // namespace

BOOST_AUTO_TEST_CASE(what_becomes_of_a_host_that_does_not_hide_cpuid_bits) {
  for (const HideRow& row : kHideRows) {
    BOOST_TEST_CONTEXT(row.what) {
      const std::string options = std::string("pmu-cap-disabled=on,") + row.options;
      Attempt attempt({.kvm = kNew, .hide_result = row.host}, options);
      BOOST_TEST(attempt.code == row.code);
      if (row.code != 0) {
        BOOST_TEST(attempt.text.find(row.words) != std::string::npos, attempt.text);
        continue;
      }
      BOOST_TEST(!attempt.guest_counts());
      BOOST_TEST(attempt.host.hidden.empty() == (row.what != std::string_view("hidden") &&
                                                 row.what != std::string_view("hidden, strict")));
      if (row.level != 0)
        BOOST_TEST(attempt.host.logged(row.level, {"still announces", row.words}) == 1U);
      else
        BOOST_TEST(attempt.host.logged(0, {"still announces"}) == 0U);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_hidden_is_all_that_announces_the_pmu_and_nothing_else) {
  // APM vol. 3: Fn8000_0001_ECX[23, 24, 28]; Fn8000_0022_EAX[0], EBX[3:0, 15:10, 21:16]
  const std::vector<vmm_cpuid_bits> expected = {
      {0x80000001, 0, VMM_CPUID_ECX, 1U << 23 | 1U << 24 | 1U << 28},
      {0x80000022, 0, VMM_CPUID_EAX, 1},
      {0x80000022, 0, VMM_CPUID_EBX, 0x003ffc0f},
  };
  const auto same = [](const vmm_cpuid_bits& a, const vmm_cpuid_bits& b) {
    return a.leaf == b.leaf && a.subleaf == b.subleaf && a.reg == b.reg && a.mask == b.mask;
  };
  const struct {
    const char* kvm;
    const char* options;
    bool hidden;
  } rows[] = {
      {kNew, "pmu-cpuid=auto", true},  {kNew, "pmu-cpuid=hide", true},
      {kNew, "pmu-cpuid=keep", false}, {kOld, "pmu-cpuid=auto", true},
      {kOff, "pmu-cpuid=auto", false},  // off for all VMs: a guest is as it was without the plugin
      {kOff, "pmu-cpuid=hide", true},
  };
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.kvm << " " << row.options) {
      const Attempt attempt({.kvm = row.kvm, .hide_result = 0},
                            std::string("pmu-cap-disabled=on,") + row.options);
      const std::vector<vmm_cpuid_bits>& hidden = attempt.host.hidden;
      if (row.hidden)
        BOOST_TEST(
            std::equal(hidden.begin(), hidden.end(), expected.begin(), expected.end(), same));
      else
        BOOST_TEST(hidden.empty());
    }
  }
}

BOOST_AUTO_TEST_CASE(auto_under_a_host_that_cannot_tell_is_a_warning_or_with_strict_an_error) {
  const vmm_plugin descriptor = plugin_with_edited_host<no_extensions>();
  for (const bool strict : {false, true}) {
    BOOST_TEST_CONTEXT("strict " << strict) {
      PluginHost host({.kvm = kNew});
      const auto plugin = make_plugin(
          host, strict ? "pmu-cap-disabled=auto,strict=on" : "pmu-cap-disabled=auto", descriptor);
      const auto vm = host.kvm().create_vm().value();
      const auto made =
          host_kit::PluginVm::created(*plugin, reinterpret_cast<vmm_vm_handle>(vm.get()), 1);
      BOOST_TEST((made ? 0 : made.error().code) == (strict ? -EOPNOTSUPP : 0));
      BOOST_TEST(says(made ? host.log_lines().at(0).text : made.error().text,
                      "does not say what the VMM was told"));
      BOOST_TEST(host.ioctls("KVM_ENABLE_CAP").empty());
    }
  }
}
