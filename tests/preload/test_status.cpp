// SPDX-License-Identifier: MIT
//
// status: on made-up /proc trees, on a page that the preload library's own code wrote, and on
// processes of this machine.
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "host_preload/status_page.hpp"
#include "support/machine.hpp"
#include "support/not_sanitized.hpp"
#include "support/process.hpp"
#include "tool/command.hpp"
#include "tool/file.hpp"
#include "tool/kvm_device.hpp"
#include "tool/vm_status.hpp"
#include "tool/vmm_process.hpp"

using namespace svm_pmu::tool;
using host_preload::GuestPmu;
namespace bdata = boost::unit_test::data;
namespace fs = std::filesystem;
namespace page = host_preload;

namespace {

const std::string kTool = TEST_BUILD_DIR "/plugin/tool/svm-pmu";

/// A page as a process publishes it: one plugin, one VM.
std::string page_bytes(uint32_t pid, const char* plugin, const char* state, uint64_t resets,
                       uint64_t failed = 0) {
  std::string bytes(page::kStatusSize, '\0');
  page::StatusHeader header{};
  std::memcpy(header.magic, page::kStatusMagic, sizeof header.magic);
  header.version = page::kStatusVersion;
  header.header_size = sizeof header;
  header.plugin_size = sizeof(page::StatusPlugin);
  header.plugin_count = page::kStatusPlugins;
  header.vm_size = sizeof(page::StatusVm);
  header.vm_count = page::kStatusVms;
  header.pid = pid;
  header.plugins = 1;
  std::strcpy(header.host, "vmm_preload 1.0.0");
  std::memcpy(bytes.data(), static_cast<void*>(&header), sizeof header);
  page::StatusPlugin row{};
  std::strcpy(row.name, plugin);
  std::strcpy(row.version, "1.0.0");
  std::strcpy(row.options, "log-level=info");
  std::memcpy(bytes.data() + sizeof header, &row, sizeof row);
  for (std::size_t i = 0; i < page::kStatusVms; ++i) {
    page::StatusVm vm{};
    vm.fd = i == 0 ? 9 : -1;
    vm.plugins = 1;
    vm.resets = resets;
    vm.failed_resets = failed;
    std::strcpy(vm.states[0], state);
    std::memcpy(bytes.data() + sizeof header + page::kStatusPlugins * sizeof row + i * sizeof vm,
                static_cast<void*>(&vm), sizeof vm);
  }
  return bytes;
}

/// A folder with proc and sys, gone afterwards.
class Tree {
 public:
  explicit Tree(const std::string& vendor = "AuthenticAMD", const std::string& enable_pmu = "Y") {
    char name[] = "/tmp/status-tree-XXXXXX";
    BOOST_TEST_REQUIRE(mkdtemp(name) != nullptr);
    root_ = name;
    write("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: " + vendor + "\n");
    write("/sys/module/kvm/parameters/enable_pmu", enable_pmu + "\n");
    write("/proc/self-is-no-number/comm", "x\n");
    write("/proc/1/comm", "init\n");
  }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  ~Tree() { fs::remove_all(root_); }

  const std::string& root() const { return root_; }
  void write(const std::string& path, const std::string& content) const {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path, std::ios::binary) << content;
  }
  void link(const std::string& path, const std::string& target) const {
    fs::create_directories(fs::path(root_ + path).parent_path());
    fs::create_symlink(target, root_ + path);
  }

  /// A process with a VM; `words` of its command line.
  void vmm(int pid, std::vector<std::string> words, bool library) const {
    const std::string folder = "/proc/" + std::to_string(pid);
    std::string line;
    for (const std::string& word : words) line += word + '\0';
    write(folder + "/cmdline", line);
    link(folder + "/exe", "/usr/bin/qemu-system-x86_64");
    link(folder + "/fd/9", "anon_inode:kvm-vm");
    link(folder + "/fd/10", "anon_inode:kvm-vcpu:0");
    write(folder + "/maps", library ? "7f r-xp /usr/lib/vmm-preload/libvmm_preload.so\n" : "");
    write(folder + "/status", "Name:\tqemu\nNSpid:\t" + std::to_string(pid) + "\t42\n");
  }
  void publish(int pid, const std::string& bytes) const {
    const std::string folder = "/proc/" + std::to_string(pid) + "/fd/";
    link(folder + "512", "memfd:vmm-plugins-status (deleted)");
    write(folder + "memfd:vmm-plugins-status (deleted)", bytes);
  }

 private:
  std::string root_;
};

VmStatus only_vm(const Tree& tree, bool require_plugin = false) {
  const HostStatus status = judge(scan_host(tree.root()), require_plugin);
  BOOST_TEST_REQUIRE(status.vms.size() == 1U);
  return status.vms.front();
}

struct Published1 {
  const char* cpu;
  const char* plugin;
  const char* state;
  uint64_t failed;
  Protection protection;
  bool believes_off;
};
std::ostream& operator<<(std::ostream& out, const Published1& row) {
  return out << row.cpu << ' ' << row.plugin << ' ' << row.state;
}
const Published1 kPublished[] = {
    {"host", "svm_pmu", "reset", 0, Protection::yes, false},
    {"host", "svm_pmu", "off", 0, Protection::yes, false},
    {"host", "svm_pmu", "filtered", 0, Protection::yes, false},
    {"host", "svm_pmu", "already-off", 0, Protection::yes, false},
    {"host", "svm_pmu", "untouched", 0, Protection::no, false},
    {"host,pmu=off", "svm_pmu", "reset", 0, Protection::no, true},
    {"host,-pmu", "svm_pmu", "reset", 0, Protection::no, true},
    {"host,-pmu", "svm_pmu", "off", 0, Protection::yes, false},
    {"host,pmu=on", "svm_pmu", "reset", 0, Protection::yes, false},
    {"host", "svm_pmu", "reset", 1, Protection::no, false},
    {"host", "svm_pmu", "", 0, Protection::unknown, false},
    {"host", "other", "reset", 0, Protection::no, false},
};

}  // namespace

BOOST_DATA_TEST_CASE(what_a_process_published_decides, bdata::make(kPublished), row) {
  const Tree tree;
  tree.vmm(100, {"qemu", "-name", "guest=web1,debug-threads=on", "-cpu", row.cpu}, true);
  tree.publish(100, page_bytes(42, row.plugin, row.state, 3, row.failed));
  const VmStatus vm = only_vm(tree);
  BOOST_TEST(protection_word(vm.protection) == protection_word(row.protection));
  BOOST_TEST(vm.believes_off == row.believes_off);
  BOOST_TEST(vm.pid == 100);
  BOOST_TEST(vm.fd == 9);
  BOOST_TEST(vm.program == "qemu-system-x86_64");
  BOOST_TEST(vm.name == "web1");
  BOOST_TEST(vm.resets == 3U);
  BOOST_TEST(vm.reason.empty() == (row.protection == Protection::yes));
}

BOOST_AUTO_TEST_CASE(a_vm_without_the_library_is_not_protected) {
  const Tree tree;
  tree.vmm(7, {"qemu", "-name", "db"}, false);
  const VmStatus vm = only_vm(tree);
  BOOST_TEST((vm.protection == Protection::no));
  BOOST_TEST(vm.name == "db");
  BOOST_TEST(vm.reason == "libvmm_preload.so is not loaded");
}

BOOST_AUTO_TEST_CASE(a_library_that_could_not_be_read_is_told) {
  const Tree tree;
  tree.vmm(7, {"qemu"}, false);
  const std::string variable = "LD_PRELOAD=/usr/lib/vmm-preload/libvmm_preload.so";
  tree.write("/proc/7/environ", std::string("HOME=/") + '\0' + variable + '\0');
  const VmStatus vm = only_vm(tree);
  BOOST_TEST((vm.protection == Protection::no));
  BOOST_TEST(vm.reason.find("AppArmor") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(what_nobody_published_is_unknown) {
  const Tree tree;
  tree.vmm(7, {"qemu"}, true);
  BOOST_TEST((only_vm(tree).protection == Protection::unknown));
  tree.publish(7, page_bytes(41, "svm_pmu", "reset", 0));  // of the process that forked this one
  BOOST_TEST((only_vm(tree).protection == Protection::unknown));
}

BOOST_AUTO_TEST_CASE(a_page_of_another_shape_is_not_read) {
  const std::string good = page_bytes(1, "svm_pmu", "reset", 0);
  BOOST_TEST(read_page(good).has_value());
  BOOST_TEST(!read_page("").has_value());
  BOOST_TEST(!read_page(good.substr(0, good.size() - 1)).has_value());
  for (const std::size_t byte : {0U, 8U, 12U, 16U, 20U, 24U, 28U}) {
    std::string bad = good;
    ++bad[byte];
    BOOST_TEST(!read_page(bad).has_value(), byte);
  }
  std::string unending = good;  // texts without a NUL end with their field
  unending.replace(sizeof(page::StatusHeader), 32, 32, '\x1b');
  const auto read = read_page(unending);
  BOOST_TEST_REQUIRE(read.has_value());
  BOOST_TEST(read->plugins.front().name == std::string(32, '?'));
}

BOOST_AUTO_TEST_CASE(a_host_without_the_bugs_needs_no_plugin) {
  const Tree intel("GenuineIntel"), off("AuthenticAMD", "N"), old("AuthenticAMD", "");
  for (const Tree* tree : {&intel, &off}) {
    tree->vmm(7, {"qemu", "-cpu", "host,-pmu"}, false);
    BOOST_TEST((only_vm(*tree).protection == Protection::not_needed));
    BOOST_TEST((only_vm(*tree, true).protection == Protection::no));
    BOOST_TEST(exit_status(judge(scan_host(tree->root()), false)) == kExitGood);
  }
  old.vmm(7, {"qemu"}, false);  // a kernel without the parameter has the bugs
  BOOST_TEST((only_vm(old).protection == Protection::no));
}

BOOST_AUTO_TEST_CASE(the_exit_status_is_that_of_the_worst) {
  const Tree tree;
  BOOST_TEST(exit_status(judge(scan_host(tree.root()), false)) == kExitGood);
  tree.write("/proc/1/fd/0", "");  // a process without VMs
  tree.vmm(5, {"qemu"}, true);
  tree.publish(5, page_bytes(42, "svm_pmu", "reset", 0));
  BOOST_TEST(exit_status(judge(scan_host(tree.root()), false)) == kExitGood);
  tree.vmm(6, {"qemu"}, true);
  BOOST_TEST(exit_status(judge(scan_host(tree.root()), false)) == kExitUnknown);
  tree.vmm(7, {"qemu"}, false);
  BOOST_TEST(exit_status(judge(scan_host(tree.root()), false)) == kExitWrong);
  Scan scan;
  scan.unreadable = 1;
  BOOST_TEST(exit_status(judge(scan, false)) == kExitUnknown);
  BOOST_TEST(text_of(judge(scan, false), false).find("only root") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_proc_that_does_not_list_all_processes_is_told) {
  const Tree tree;
  fs::remove_all(tree.root() + "/proc/1");  // hidepid=2
  const HostStatus status = judge(scan_host(tree.root()), false);
  BOOST_TEST(exit_status(status) == kExitUnknown);
  BOOST_TEST(text_of(status, false).find("hidepid") != std::string::npos);
  BOOST_TEST(nlohmann::json::parse(json_of(status))["hidden_processes"] == true);
  BOOST_TEST(prometheus_of(status).find("svm_pmu_processes_hidden 1\n") != std::string::npos);
  BOOST_TEST(exit_status(judge(scan_host(tree.root() + "/no/proc"), false)) == kExitUnknown);
  tree.vmm(7, {"qemu"}, false);
  BOOST_TEST(exit_status(judge(scan_host(tree.root()), false)) == kExitWrong);
}

BOOST_AUTO_TEST_CASE(a_library_that_an_upgrade_replaced_is_seen) {
  const Tree tree;
  tree.vmm(7, {"qemu"}, true);
  tree.publish(7, page_bytes(42, "svm_pmu", "reset", 0));
  tree.write("/proc/7/maps", "7f r-xp /usr/lib/vmm-preload/libvmm_preload.so (deleted)\n");
  BOOST_TEST((only_vm(tree).protection == Protection::yes));
  fs::remove(tree.root() + "/proc/7/fd/512");
  BOOST_TEST((only_vm(tree).protection == Protection::unknown));
}

BOOST_AUTO_TEST_CASE(one_process_may_be_asked_for) {
  const Tree tree;
  tree.vmm(7, {"qemu"}, false);
  tree.vmm(8, {"qemu"}, true);
  tree.publish(8, page_bytes(42, "svm_pmu", "reset", 0));
  BOOST_TEST(exit_status(judge(scan_host(tree.root(), 7), false)) == kExitWrong);
  BOOST_TEST(exit_status(judge(scan_host(tree.root(), 8), false)) == kExitGood);
  BOOST_TEST(judge(scan_host(tree.root(), 9), false).vms.empty());
  // who asks for one wants to hear of it
  const ProcessResult none = run_process({kTool, "status", "--pid", "999999999"});
  BOOST_TEST(none.status == kExitUnknown);
  const ProcessResult bad = run_process({kTool, "status", "--pid=-1"});
  BOOST_TEST(bad.status == kExitUsage);
  BOOST_TEST(bad.err.find("--pid=-1; a process number is above 0") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(names_of_others_do_not_reach_the_terminal_as_they_are) {
  const Tree tree;
  tree.vmm(7, {"qemu", "-name", "a\x1b[31m\"b\\"}, false);
  const HostStatus status = judge(scan_host(tree.root()), false);
  BOOST_TEST(status.vms.front().name == "a?[31m\"b\\");
  BOOST_TEST(prometheus_of(status).find("vm=\"a?[31m\\\"b\\\\\"") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(each_format_says_the_same) {
  const Tree tree;
  tree.vmm(7, {"qemu", "-name", "db", "-cpu", "host,pmu=off"}, true);
  tree.publish(7, page_bytes(42, "svm_pmu", "reset", 5));
  const HostStatus status = judge(scan_host(tree.root()), false);
  const auto json = nlohmann::json::parse(json_of(status));
  BOOST_TEST(json["exit_status"] == 1);
  BOOST_TEST(json["vms"][0]["protected"] == "no");
  BOOST_TEST(json["vms"][0]["believes_off"] == true);
  BOOST_TEST(json["vms"][0]["resets"] == 5);
  const std::string metrics = prometheus_of(status);
  for (const char* line :
       {"svm_pmu_vms{protected=\"no\"} 1\n", "svm_pmu_status 1\n",
        "svm_pmu_vm_protected{pid=\"7\",program=\"qemu-system-x86_64\",vm=\"db\",fd=\"9\"} 0\n",
        "vm=\"db\",fd=\"9\"} 5\n"})
    BOOST_TEST(metrics.find(line) != std::string::npos, line);
  const std::string text = text_of(status, false);
  for (const char* part : {"db", "reset", "svm_pmu 1.0.0, log-level=info", "has no PMU"})
    BOOST_TEST(text.find(part) != std::string::npos, part);
}

// ---- the page that the preload library makes ---------------------------------------------------

BOOST_AUTO_TEST_CASE(the_status_file_is_out_of_the_vmms_way_and_makes_no_table_grow) {
  const auto table_size = [] {
    std::ifstream status("/proc/self/status");
    std::string word;
    long size = 0;
    while (status >> word)
      if (word == "FDSize:") status >> size;
    return size;
  };
  const int next = ::dup(2);
  ::close(next);
  const long before = table_size();
  page::StatusPage published;
  BOOST_REQUIRE(published.create(getpid(), "test", {}) == 0);
  BOOST_TEST(table_size() == before);
  const int again = ::dup(2);
  ::close(again);
  BOOST_TEST(again == next);  // a VMM's numbers are as without us
}

BOOST_AUTO_TEST_CASE(what_the_library_writes_is_read) {
  page::StatusPage published;
  BOOST_TEST(published.add_vm(9) == nullptr);  // before there is a page
  BOOST_TEST_REQUIRE(published.create(getpid(), "vmm_preload 1.0.0", {}) == 0);
  page::StatusVm* vm = published.add_vm(9);
  BOOST_TEST_REQUIRE(vm != nullptr);
  page::say_state(vm, 0, "reset");
  page::count_reset(vm, 0);
  page::count_reset(vm, -5);
  std::string path;
  for (const auto& file : fs::directory_iterator("/proc/self/fd"))
    if (read_link(file.path()).value_or("").starts_with("/memfd:vmm-plugins-status"))
      path = file.path();
  BOOST_TEST_REQUIRE(!path.empty());
  auto read = read_page(read_file(path).value());
  BOOST_TEST_REQUIRE(read.has_value());
  BOOST_TEST(read->pid == static_cast<uint32_t>(getpid()));
  BOOST_TEST_REQUIRE(read->vms.size() == 1U);
  BOOST_TEST(read->vms[0].fd == 9);
  BOOST_TEST(read->vms[0].resets == 2U);
  BOOST_TEST(read->vms[0].failed_resets == 1U);
  BOOST_TEST(truncate(path.c_str(), 0) != 0);  // sealed
  page::end_vm(vm);
  BOOST_TEST(read_page(read_file(path).value())->vms.empty());
  for (uint32_t i = 0; i < page::kStatusVms; ++i)
    BOOST_TEST(published.add_vm(static_cast<int>(i)) != nullptr);
  BOOST_TEST(published.add_vm(99) == nullptr);
  BOOST_TEST(read_page(read_file(path).value())->vms_without_room == 1U);
}

// ---- processes of this machine -----------------------------------------------------------------

namespace {

/// Runs the small VMM with a VM that was reset, and the tool beside it; the tool's answer for it.
/// In the folder $d are copies of library and plugin, which are deleted before the tool looks.
nlohmann::json ask_beside_a_vmm(const std::string& variables, const std::string& words) {
  const std::string script =
      "d=$(mktemp -d) && mkfifo $d/in && cd $d || exit 9\n"
      "cp " PRELOAD_LIBRARY " " SVM_PMU_PLUGIN
      " .\n"
      "env " +
      variables + " " TINY_VMM " " + words +
      " hold <in >out 2>err &\n"
      "pid=$!; exec 9>in\n"
      "until grep -q holding out; do kill -0 $pid || { cat out err >&2; exit 9; }; sleep 0.02; "
      "done\n"
      "rm *.so\n" +
      kTool +
      " status --json --require-plugin; echo $pid\n"
      "exec 9>&-; wait $pid; rm -r $d\n";
  const ProcessResult run = run_process({"/bin/sh", "-c", script});
  BOOST_TEST_REQUIRE(run.status == 0, run.err);
  const std::size_t end = run.out.find('\n');
  const auto answer = nlohmann::json::parse(run.out.substr(0, end));
  const int pid = std::stoi(run.out.substr(end + 1));
  for (const auto& vm : answer["vms"])
    if (vm["pid"] == pid) return vm;
  BOOST_FAIL("the VMM's process is not in " << run.out);
  return {};
}

bool skipped() {
  if (const auto kvm = open_kvm_device("/dev/kvm"); !kvm) {
    std::printf("SKIPPED: %s\n", kvm.error().c_str());
    return true;
  }
  return false;
}

const std::string kBoot = "vm vcpu:0 sregs:0:reset regs:0:reset mp:0 run:0 ";
const std::string kReset = "sregs:0:reset regs:0:reset mp:0 run:0 ";

}  // namespace

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_vmm_under_the_library_is_seen_with_its_plugin) {
  if (skipped()) return;
  const std::string variables =
      "LD_PRELOAD=" PRELOAD_LIBRARY " VMM_PLUGINS=" SVM_PMU_PLUGIN ",strict=off";
  const auto before = ask_beside_a_vmm(variables, kBoot);
  const auto after = ask_beside_a_vmm(variables, kBoot + kReset);
  BOOST_TEST(before["protected"] == (has_amd_cpu() ? "yes" : "not-needed"));
  BOOST_TEST(before["plugin"].get<std::string>().starts_with("svm_pmu "));
  BOOST_TEST(before["options"] == "strict=off");
  BOOST_TEST(before["vpmu"] == (has_amd_cpu() ? "reset" : "not-amd"));
  BOOST_TEST(after["resets"].get<int>() == before["resets"].get<int>() + 1);
  BOOST_TEST(after["failed_resets"] == 0);
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_vmm_whose_library_was_deleted_is_seen_with_its_plugin) {
  if (skipped()) return;
  const auto vm =
      ask_beside_a_vmm("LD_PRELOAD=$d/libvmm_preload.so VMM_PLUGINS=$d/svm_pmu.so", kBoot + kReset);
  BOOST_TEST(vm["protected"] == (has_amd_cpu() ? "yes" : "not-needed"));
  BOOST_TEST(vm["plugin"].get<std::string>().starts_with("svm_pmu "));
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_vmm_without_the_library_is_seen_without) {
  if (skipped()) return;
  BOOST_TEST(ask_beside_a_vmm("", "vm")["protected"] == "no");
}
