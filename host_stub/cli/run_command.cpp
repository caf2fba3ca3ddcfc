// SPDX-License-Identifier: MIT
//
// host_stub run: a scenario on a VM, with or without plugins, as a transcript.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <cerrno>
#include <mutex>

#include "cli/command.hpp"
#include "cli/scenario.hpp"
#include "cli/transcript.hpp"
#include "kvm/faults.hpp"
#include "kvm/recorder.hpp"
#include "sim/backend.hpp"

namespace host_stub {

namespace po = boost::program_options;

namespace {

/// The command line of `run`, as given.
struct RunOptions {
  std::vector<std::string> plugins, options;
  std::vector<std::string> to_plugins, to_options;
  std::string kvm, cpuid, scenario, vmm, guest_pmu;
  std::vector<std::string> faults, expected, unexpected;
  uint32_t vcpus = 0;
  bool help = false, json = false, batch = false, no_irqchip = false, msr_filter = false,
       parallel = false, old_guest = false, quiet = false, all_ioctls = false;
};

po::options_description describe(RunOptions& o) {
  po::options_description d("host_stub run: a scenario on a VM, as a transcript");
  // clang-format off
  d.add_options()
    ("plugin", po::value(&o.plugins)->value_name("PATH"), "plugin to load; may be repeated")
    ("options", po::value(&o.options)->value_name("STR"),
     "option string of the plugin of the same position, key=value,...")
    ("kvm", po::value(&o.kvm)->default_value("sim")->value_name("SPEC"),
     "/dev/kvm, or sim[:KERNEL][,SWITCH]...")
    ("vcpus", po::value(&o.vcpus)->default_value(1)->value_name("N"), "1 to 1024 vCPUs")
    ("scenario", po::value(&o.scenario)->default_value("boot,perf,reset,boot")->value_name("STEPS"),
     "what happens, step by step")
    ("cpuid", po::value(&o.cpuid)->default_value("host")->value_name("MODEL"),
     "PMU in the guest's CPUID: host, plain, core, v2[=N], v2-only[=N]; then ,vendor=amd, hygon or intel")
    ("guest-pmu", po::value(&o.guest_pmu)->default_value("unsaid")->value_name("WISH"),
     "what the user told the VMM of the guest's PMU: unsaid, off or on")
    ("vmm", po::value(&o.vmm)->default_value("stub")->value_name("KIND"),
     "what the VMM does to the PMU by itself: stub (nothing), qemu-11 (writes the registers at each "
     "reset and aborts if one is refused), enables-pmu (turns KVM's capability on again)")
    ("to-plugin", po::value(&o.to_plugins)->value_name("PATH"),
     "plugin on hosts that the VM migrates to, or 'none'; as on the first host unless given")
    ("to-options", po::value(&o.to_options)->value_name("STR"),
     "option string there, of the plugin of the same position; as on the first host unless given")
    ("fault", po::value(&o.faults)->value_name("SCRIPT"),
     "make ioctls fail, e.g. set_msrs:short@3; may be repeated")
    ("expect", po::value(&o.expected)->value_name("TEXT"), "a line of the guest or the log must hold it")
    ("expect-not", po::value(&o.unexpected)->value_name("TEXT"), "no line of the guest or the log may hold it")
    ("batch", po::bool_switch(&o.batch), "lend plugins a KVM_SET_MSRS batch at a reset")
    ("msr-filter", po::bool_switch(&o.msr_filter), "the VMM has an MSR filter of its own")
    ("no-irqchip", po::bool_switch(&o.no_irqchip), "no in-kernel interrupt controller")
    ("parallel", po::bool_switch(&o.parallel), "reset each vCPU on a thread of its own")
    ("old-guest", po::bool_switch(&o.old_guest), "a guest kernel that does not know PerfMonV2")
    ("all-ioctls", po::bool_switch(&o.all_ioctls), "also the ioctls that only move a vCPU's state")
    ("quiet", po::bool_switch(&o.quiet), "no ioctls in the transcript")
    ("json", po::bool_switch(&o.json), "one JSON object a line")
    ("help", po::bool_switch(&o.help), "this text");
  // clang-format on
  return d;
}

/// Everything of the command line, checked.
struct RunPlan {
  std::unique_ptr<Kvm> kvm;
  VmmConfig vmm;
  VmmConfig target_vmm;  ///< on hosts that the VM migrates to
  std::vector<PlannedStep> steps;
};

template <typename Value>
struct Word {
  const char* word;
  Value value;
};
constexpr Word<VmmKind> kVmmKinds[] = {
    {"stub", VmmKind::stub}, {"qemu-11", VmmKind::qemu_11}, {"enables-pmu", VmmKind::enables_pmu}};
constexpr Word<uint32_t> kWishes[] = {
    {"unsaid", VMM_GUEST_PMU_UNSAID}, {"off", VMM_GUEST_PMU_OFF}, {"on", VMM_GUEST_PMU_ON}};

/// What the word stands for. Error: the option, the word and what is allowed.
template <typename Value, std::size_t N>
tl::expected<Value, std::string> value_of(const char* option, const std::string& given,
                                          const Word<Value> (&words)[N]) {
  std::string allowed;
  for (const Word<Value>& row : words) {
    if (given == row.word) return row.value;
    allowed += (allowed.empty() ? "" : ", ") + std::string(row.word);
  }
  return tl::unexpected(fmt::format("--{} '{}': allowed are {}", option, given, allowed));
}

/// The VMM on hosts that the VM migrates to.
tl::expected<VmmConfig, std::string> target_of(const RunOptions& o, VmmConfig vmm) {
  const bool none = o.to_plugins == std::vector<std::string>{"none"};
  if (!o.to_plugins.empty()) vmm.plugins.clear();
  if (!none)
    for (const std::string& path : o.to_plugins) vmm.plugins.push_back({path, ""});
  if (o.to_options.size() > vmm.plugins.size())
    return tl::unexpected(std::string("--to-options without a plugin that they are for"));
  for (std::size_t i = 0; i < o.to_options.size(); ++i) vmm.plugins[i].options = o.to_options[i];
  return vmm;
}

tl::expected<RunPlan, std::string> plan_of(const RunOptions& o) {
  constexpr uint32_t kMostVcpus = 1024;
  RunPlan plan;
  if (o.vcpus < 1 || o.vcpus > kMostVcpus)
    return tl::unexpected(fmt::format("--vcpus {}: allowed are 1 to {}", o.vcpus, kMostVcpus));
  if (o.options.size() > o.plugins.size())
    return tl::unexpected(std::string("--options without a --plugin that they are for"));
  for (std::size_t i = 0; i < o.plugins.size(); ++i)
    plan.vmm.plugins.push_back(
        {plugin_path(o.plugins[i]), i < o.options.size() ? o.options[i] : ""});
  auto cpuid = CpuidModel::parse(o.cpuid);
  if (!cpuid) return tl::unexpected(cpuid.error());
  auto steps = parse_scenario(o.scenario);
  if (!steps) return tl::unexpected(steps.error());
  for (const PlannedStep& step : *steps) {
    if (step.step->argument == nullptr) continue;
    if (auto target = open_kvm(step.argument); !target)
      return tl::unexpected(fmt::format("{}: {}", step.step->name, target.error()));
  }
  const auto kind = value_of("vmm", o.vmm, kVmmKinds);
  if (!kind) return tl::unexpected(kind.error());
  const auto wish = value_of("guest-pmu", o.guest_pmu, kWishes);
  if (!wish) return tl::unexpected(wish.error());
  std::string script;
  for (const std::string& fault : o.faults) script += (script.empty() ? "" : ";") + fault;
  auto faults = parse_faults(script);
  if (!faults) return tl::unexpected(faults.error());
  auto kvm = open_kvm(o.kvm);
  if (!kvm) return tl::unexpected(kvm.error());
  plan.kvm = faults->faults.empty() ? std::move(*kvm) : with_faults(std::move(*kvm), *faults);
  plan.steps = *steps;
  plan.vmm.vcpus = o.vcpus;
  plan.vmm.irqchip = !o.no_irqchip;
  plan.vmm.batch = o.batch;
  plan.vmm.msr_filter = o.msr_filter;
  plan.vmm.parallel_reset = o.parallel;
  plan.vmm.cpuid = *cpuid;
  plan.vmm.guest_kernel.knows_perfmonv2 = !o.old_guest;
  plan.vmm.kind = *kind;
  plan.vmm.guest_pmu = *wish;
  auto target = target_of(o, plan.vmm);
  if (!target) return tl::unexpected(target.error());
  plan.target_vmm = std::move(*target);
  return plan;
}

/// ioctls of the VMM's own, of every vCPU and reset, that say nothing of a PMU.
constexpr std::string_view kStateIoctls[] = {
    "KVM_GET_SUPPORTED_CPUID", "KVM_SET_CPUID2", "KVM_GET_REGS",     "KVM_SET_REGS",
    "KVM_GET_SREGS",           "KVM_SET_SREGS",  "KVM_GET_MP_STATE", "KVM_SET_MP_STATE",
    "KVM_GET_LAPIC",           "KVM_SET_LAPIC",
};

bool shown(const Event& event, const RunOptions& o) {
  if (event.kind != Event::Kind::ioctl || o.all_ioctls) return true;
  const bool state = std::find(std::begin(kStateIoctls), std::end(kStateIoctls), event.name) !=
                     std::end(kStateIoctls);
  return !o.quiet && (!state || event.result < 0);
}

/// Looks for the texts of --expect and --expect-not in what guest and log say.
class Expectations {
 public:
  explicit Expectations(const RunOptions& o) : wanted_(o.expected), unwanted_(o.unexpected) {}

  void see(const Event& event) {
    if (event.kind != Event::Kind::guest && event.kind != Event::Kind::log) return;
    const auto holds = [&](const std::string& text) {
      return event.text.find(text) != std::string::npos;
    };
    wanted_.erase(std::remove_if(wanted_.begin(), wanted_.end(), holds), wanted_.end());
    for (const std::string& text : unwanted_)
      if (holds(text)) seen_.push_back(text);
  }

  /// What is not as expected, one line each.
  std::vector<std::string> wrong() const {
    std::vector<std::string> lines;
    for (const std::string& text : wanted_) lines.push_back("nobody said: " + text);
    for (const std::string& text : seen_) lines.push_back("somebody said: " + text);
    return lines;
  }

 private:
  std::vector<std::string> wanted_, unwanted_, seen_;
};

int run(const RunOptions& o, RunPlan plan) {
  const bool color = !o.json && isatty(STDOUT_FILENO) == 1;
  Transcript transcript(stdout, o.json ? Transcript::Format::json : Transcript::Format::text,
                        color);
  Expectations expectations(o);
  const EventSink events = [&](const Event& event) {
    expectations.see(event);
    if (shown(event, o)) transcript.show(event);
  };
  std::mutex ioctl_mutex;
  const auto start = [&](std::unique_ptr<Kvm> inner,
                         const VmmConfig& config) -> VmmResult<Machine> {
    Machine machine;
    machine.kvm = with_recorder(std::move(inner), [&](const IoctlEvent& event) {
      const std::lock_guard lock(ioctl_mutex);
      events({Event::Kind::ioctl, event.name, to_line(event), event.result, 0});
    });
    events({Event::Kind::step, "create",
            fmt::format("{} vCPU{} on {}", o.vcpus, o.vcpus == 1 ? "" : "s", machine.kvm->name()),
            0, 0});
    auto vmm = StubVmm::create(*machine.kvm, config, events);
    if (!vmm) return tl::unexpected(vmm.error());
    machine.vmm = std::move(*vmm);
    return machine;
  };
  const MakeTarget make_target = [&](const std::string& spec,
                                     const StubVmm& source) -> VmmResult<Machine> {
    auto kvm = open_kvm(spec);
    if (!kvm) return tl::unexpected(VmmError{-ENODEV, kvm.error()});
    VmmConfig config = plan.target_vmm;
    config.guest_cpuid = source.guest_cpuid();  // a running guest's CPUID does not change
    return start(std::move(*kvm), config);
  };

  auto machine = start(std::move(plan.kvm), plan.vmm);
  if (!machine) {
    print_error(machine.error().text);
    return kExitWrong;
  }
  ScenarioVm vm{std::move(*machine), make_target, {}};
  bool good = run_scenario(vm, plan.steps, events);
  for (const std::string& line : expectations.wrong()) {
    events({Event::Kind::note, "", line, -EIO, 0});
    good = false;
  }
  return good ? kExitGood : kExitWrong;
}

}  // namespace

int run_command(const Arguments& arguments) {
  RunOptions options;
  const po::options_description description = describe(options);
  if (!parse_arguments("run", arguments, description)) return kExitUsage;
  if (options.help) {
    fmt::print("{}\nSteps of a scenario:\n", help_of(description));
    for (const ScenarioStep& step : scenario_steps())
      fmt::print(
          "  {:<14}{}\n",
          step.argument == nullptr ? step.name : fmt::format("{}:{}", step.name, step.argument),
          step.help);
    fmt::print("\nExit status: 0 every step did what it should; 1 one did not; 2 usage.\n");
    return kExitGood;
  }
  auto plan = plan_of(options);
  if (!plan) {
    print_error(fmt::format("run: {}", plan.error()));
    return kExitUsage;
  }
  return run(options, std::move(*plan));
}

}  // namespace host_stub
