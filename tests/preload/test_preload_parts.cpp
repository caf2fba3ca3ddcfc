// SPDX-License-Identifier: MIT
//
// Parts of the preload host and its launcher that need neither KVM nor a preloaded process.
#include <elf.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "host_kit/cpuid_table.hpp"
#include "host_preload/fd_table.hpp"
#include "host_preload/launch.hpp"
#include "host_preload/preload_log.hpp"
#include "host_preload/program_check.hpp"
#include "host_preload/vm_registry.hpp"
#include "support/said.hpp"
#include "support/temporary_folder.hpp"

namespace {

using namespace host_preload;

std::string read_all(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

// ---- the folders of plugins ---------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(bare_names_are_looked_for_paths_are_not) {
  const TemporaryFolder first, second;
  const std::string plugin = second.file("p.so", "");
  const std::vector<std::string> folders{first.path(), second.path()};
  BOOST_TEST(host_kit::find_plugin("p.so", folders).value() == plugin);
  BOOST_TEST(host_kit::find_plugin("p", folders).value() == plugin);
  BOOST_TEST(host_kit::find_plugin(plugin, {}).value() == plugin);
  const auto missing = host_kit::find_plugin("q.so", folders);
  BOOST_REQUIRE(!missing.has_value());
  BOOST_TEST(missing.error() == "there is no 'q.so' in " + first.path() + ", " + second.path());
  BOOST_TEST(!host_kit::find_plugin("./p.so", folders).has_value());
  const std::string nearer = first.file("p.so", "");
  BOOST_TEST(host_kit::find_plugin("p.so", folders).value() == nearer);
}

// ---- the launcher ------------------------------------------------------------------------------

namespace {

using Strings = std::vector<std::string>;

/// A minimal ELF file: header, one program header, what it points to.
std::string elf(uint16_t machine, uint32_t segment_type, const std::string& content,
                unsigned char elf_class = ELFCLASS64) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = elf_class;
  header.e_machine = machine;
  header.e_phoff = sizeof header;
  header.e_phnum = 1;
  Elf64_Phdr segment{};
  segment.p_type = segment_type;
  segment.p_offset = sizeof header + sizeof segment;
  segment.p_filesz = content.size();
  std::string image(sizeof header + sizeof segment, '\0');
  std::memcpy(image.data(), &header, sizeof header);
  std::memcpy(image.data() + sizeof header, &segment, sizeof segment);
  return image + content;
}

const std::string kGlibc("/lib64/ld-linux-x86-64.so.2\0", 28);
const std::string kMusl("/lib/ld-musl-x86_64.so.1\0", 25);
const std::string kDynamic = elf(EM_X86_64, PT_INTERP, kGlibc);

/// A Go program that links libc dynamically: an interpreter, and the section that names its build.
std::string go_program() {
  std::string image = kDynamic;
  Elf64_Ehdr header;
  std::memcpy(&header, image.data(), sizeof header);
  const std::string names("\0.go.buildinfo\0", 15);
  Elf64_Shdr sections[2]{};
  sections[0].sh_offset = image.size();  // the names
  sections[1].sh_name = 1;
  header.e_shoff = image.size() + names.size();
  header.e_shnum = 2;
  std::memcpy(image.data(), &header, sizeof header);
  image += names;
  image.append(reinterpret_cast<const char*>(sections), sizeof sections);
  return image;
}

}  // namespace

BOOST_AUTO_TEST_CASE(programs_that_can_be_preloaded) {
  BOOST_TEST(check_elf(kDynamic).has_value());
  BOOST_TEST(check_program("/proc/self/exe").has_value());
  const TemporaryFolder folder;
  const std::string program = folder.file("p", kDynamic, 0755);
  BOOST_TEST(check_program(folder.file("s", "#! " + program + " -x\necho\n", 0755)).has_value());
}

BOOST_AUTO_TEST_CASE(of_a_large_program_only_the_headers_are_read) {
  const TemporaryFolder folder;
  const std::string program = folder.file("p", kDynamic, 0755);
  if (truncate(program.c_str(), off_t{1} << 38) != 0) {  // sparse; more than any memory holds
    BOOST_TEST_MESSAGE("SKIPPED: this file system has no files of 256 GiB");
    return;
  }
  BOOST_TEST(check_program(program).has_value());
}

BOOST_AUTO_TEST_CASE(files_that_are_no_programs_say_why) {
  const TemporaryFolder folder;
  BOOST_TEST(contains(check_program(folder.file("empty", "", 0755)).error(), "not a program"));
  BOOST_TEST(contains(check_program(folder.path()).error(), "cannot be read"));
  BOOST_TEST(contains(check_program("/dev/null").error(), "cannot be read"));
}

BOOST_AUTO_TEST_CASE(programs_that_cannot_say_why) {
  const auto why = [](const std::string& image) { return check_elf(image).error(); };
  BOOST_TEST(contains(why(elf(EM_X86_64, PT_LOAD, "x")), "statically linked"));
  BOOST_TEST(contains(why(elf(EM_AARCH64, PT_INTERP, kGlibc)), "wrong architecture"));
  BOOST_TEST(contains(why(elf(EM_386, PT_INTERP, kGlibc, ELFCLASS32)), "wrong architecture"));
  BOOST_TEST(contains(why(elf(EM_X86_64, PT_INTERP, kGlibc, ELFCLASS32)), "wrong architecture"));
  BOOST_TEST(contains(why(elf(EM_X86_64, PT_INTERP, kMusl)), "musl"));
  BOOST_TEST(contains(why(go_program()), "Go program"));
  BOOST_TEST(contains(why("hello"), "not a program"));
  BOOST_TEST(contains(why(""), "not a program"));
  const TemporaryFolder folder;
  const std::string fixed = folder.file("static", elf(EM_X86_64, PT_LOAD, "x"), 0755);
  BOOST_TEST(contains(check_program(folder.file("s", "#!" + fixed + "\n")).error(),
                      "it is a script of " + fixed + ": it is statically linked"));
  BOOST_TEST(contains(check_program(folder.path() + "/none").error(), "No such file"));
}

BOOST_AUTO_TEST_CASE(interpreters_are_followed_as_far_as_the_kernel_does) {
  const TemporaryFolder folder;
  std::string program = folder.file("0", kDynamic, 0755);
  for (int scripts = 1; scripts <= 6; ++scripts) {
    program = folder.file(std::to_string(scripts), "#!" + program + "\n", 0755);
    BOOST_TEST(check_program(program).has_value() == (scripts <= 5), scripts << " scripts");
  }
  const std::string a = folder.path() + "/a", b = folder.path() + "/b";
  folder.file("a", "#!" + b + "\n", 0755);
  folder.file("b", "#!" + a + "\n", 0755);
  const std::string own = folder.path() + "/own";
  folder.file("own", "#!" + own + "\n", 0755);
  for (const std::string& endless : {a, own})
    BOOST_TEST(contains(check_program(endless).error(), "the kernel follows no more"));
}

BOOST_AUTO_TEST_CASE(a_fifo_is_no_program_and_is_not_waited_for) {
  const TemporaryFolder folder;
  const std::string fifo = folder.path() + "/fifo";
  BOOST_REQUIRE(mkfifo(fifo.c_str(), 0755) == 0);
  BOOST_TEST(contains(check_program(fifo).error(), "it cannot be read"));
  const std::string script = folder.file("script", "#!" + fifo + "\n", 0755);
  BOOST_TEST(contains(check_program(script).error(), "it cannot be read"));
}

BOOST_AUTO_TEST_CASE(a_note_of_go_in_a_program_header) {
  std::string note(sizeof(Elf64_Nhdr), '\0');
  note += std::string("Go\0\0id", 6);
  // it has an interpreter as well: otherwise it would be static
  std::string image = kDynamic;
  Elf64_Ehdr header;
  std::memcpy(&header, image.data(), sizeof header);
  std::array<Elf64_Phdr, 2> segments{};
  std::memcpy(&segments[0], image.data() + header.e_phoff, sizeof segments[0]);
  segments[1].p_type = PT_NOTE;
  segments[1].p_offset = image.size();
  segments[1].p_filesz = note.size();
  image += note;
  header.e_phoff = image.size();
  header.e_phnum = segments.size();
  std::memcpy(image.data(), &header, sizeof header);
  image.append(reinterpret_cast<const char*>(segments.data()), sizeof segments);
  BOOST_TEST(contains(check_elf(image).error(), "Go program"));
}

BOOST_AUTO_TEST_CASE(truncated_programs_are_read_within_their_bounds) {
  const std::string whole = go_program();
  for (std::size_t size = 0; size < whole.size(); ++size)
    static_cast<void>(check_elf(whole.substr(0, size)));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string broken = whole;
    broken[at] = static_cast<char>(0xff);
    static_cast<void>(check_elf(broken));
  }
}

BOOST_AUTO_TEST_CASE(setuid_programs_are_refused_to_others_than_their_owner) {
  const TemporaryFolder folder;
  const std::string program = folder.file("p", kDynamic, 04755);
  BOOST_TEST(check_program(program).has_value());  // it is ours: nothing changes
  if (chown(program.c_str(), 1, static_cast<gid_t>(-1)) != 0) {
    BOOST_TEST_MESSAGE("SKIPPED: only root may give a file away");
    return;
  }
  chmod(program.c_str(), 04755);
  BOOST_TEST(contains(check_program(program).error(), "setuid"));
}

BOOST_AUTO_TEST_CASE(kvm_that_is_none) {
  BOOST_TEST(contains(check_kvm("/dev/none").error(), "/dev/none: No such file"));
  BOOST_TEST(check_kvm("/dev/null").error() == "/dev/null: it is not KVM");
}

BOOST_AUTO_TEST_CASE(programs_are_found_as_a_shell_finds_them) {
  BOOST_TEST(find_program("sh").has_value());
  BOOST_TEST(find_program("/bin/sh").value() == "/bin/sh");
  BOOST_TEST(!find_program("no-such-program-here").has_value());
  BOOST_TEST(!find_program("").has_value());
  const TemporaryFolder first, second;
  BOOST_REQUIRE(mkdir((first.path() + "/vmm").c_str(), 0755) == 0);  // a folder is no program
  const std::string program = second.file("vmm", "", 0755);
  const char* before = std::getenv("PATH");
  const std::string path = before != nullptr ? before : "";
  setenv("PATH", (first.path() + ":" + second.path()).c_str(), 1);
  BOOST_TEST(find_program("vmm").value_or("") == program);
  setenv("PATH", path.c_str(), 1);
}

BOOST_AUTO_TEST_CASE(arguments_of_the_launcher) {
  const auto options = parse_launch({"--plugin", "a.so,k=v", "--plugin=b.so,l=w", "--log", "x",
                                     "--reset-rule=broad", "--on-error", "continue", "--library",
                                     "y", "--check", "--require-kvm", "--", "qemu", "--log", "z"});
  BOOST_REQUIRE(options.has_value());
  BOOST_TEST(options->plugins == (Strings{"a.so,k=v", "b.so,l=w"}),
             boost::test_tools::per_element());
  BOOST_TEST(options->log == "x");
  BOOST_TEST(options->reset_rule == "broad");
  BOOST_TEST(options->on_error == "continue");
  BOOST_TEST(options->library == "y");
  BOOST_TEST(options->check_only);
  BOOST_TEST(options->require_kvm);
  BOOST_TEST(options->command == (Strings{"qemu", "--log", "z"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_program_may_follow_without_dashes) {
  const auto options = parse_launch({"--check", "qemu", "--check"});
  BOOST_REQUIRE(options.has_value());
  BOOST_TEST(options->command == (Strings{"qemu", "--check"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(arguments_that_make_no_sense) {
  const auto why = [](const Strings& arguments) { return parse_launch(arguments).error(); };
  BOOST_TEST(contains(why({}), "no program"));
  BOOST_TEST(contains(why({"--check", "--"}), "no program"));
  BOOST_TEST(why({"--bogus", "x", "qemu"}) == "--bogus: there is no such option; see --help");
  BOOST_TEST(why({"--bogus=x", "qemu"}) == "--bogus: there is no such option; see --help");
  BOOST_TEST(why({"--check=x", "qemu"}) == "--check: there is no such option; see --help");
  BOOST_TEST(why({"-x", "qemu"}) == "-x: there is no such option; see --help");
  BOOST_TEST(contains(why({"-v"}), "--version says the version"));
  BOOST_TEST(why({"--log"}) == "--log: its value is missing; see --help");
  BOOST_TEST(why({"--plugin=", "qemu"}) == "--plugin: its value is empty; see --help");
  BOOST_TEST(why({"--plugin", "", "qemu"}) == "--plugin: its value is empty; see --help");
}

BOOST_AUTO_TEST_CASE(what_has_no_vm_of_its_own_is_told) {
  BOOST_TEST(contains(client_advice({"/usr/bin/virsh", "start", "a"}),
                      "virsh is a client: the VM is started by libvirtd"));
  BOOST_TEST(client_advice({"qemu-system-x86_64"}).empty());
  const auto advice = [](Strings arguments) {
    arguments.insert(arguments.begin(), "/usr/bin/qemu-system-x86_64");
    return accelerator_advice(arguments);
  };
  for (const Strings& without : {Strings{"-accel", "tcg"}, Strings{"--accel", "tcg,thread=multi"},
                                 Strings{"-machine", "q35,accel=tcg"}, Strings{"-M", "accel=tcg"}})
    BOOST_TEST(contains(advice(without), "tcg: use KVM (-accel kvm)"));
  for (const Strings& with :
       {Strings{}, Strings{"-accel", "kvm"}, Strings{"-accel", "tcg", "-accel", "kvm"},
        Strings{"-machine", "q35,accel=tcg:kvm"}, Strings{"-enable-kvm"}, Strings{"-accel"},
        Strings{"-machine", "q35", "-name", "tcg"}})
    BOOST_TEST(advice(with) == "");
  BOOST_TEST(accelerator_advice({"other", "-accel", "tcg"}).empty());
}

BOOST_AUTO_TEST_CASE(options_that_were_taken_for_a_program) {
  const auto advice = [](const Strings& arguments) {
    return lost_options_advice(parse_launch(arguments).value());
  };
  BOOST_TEST(advice({"--plugin", "svm_pmu.so", "pmu-cap-disabled=on", "qemu"}) ==
             "a plugin's options go after a comma: --plugin svm_pmu.so,pmu-cap-disabled=on");
  BOOST_TEST(advice({"--plugin", "svm_pmu.so", "/x/a=b"}).empty());
  BOOST_TEST(advice({"a=b"}).empty());
}

BOOST_AUTO_TEST_CASE(what_the_launcher_puts_into_variables) {
  BOOST_TEST(join_plugins(Strings{"a,k=v", "b"}) == "a,k=v;b");
  BOOST_TEST(join_plugins(Strings{"a,k=1;2"}) == "a,k=1;;2");
  BOOST_TEST(join_plugins(std::vector<host_kit::PluginSpec>{{"a", "k=1;2"}, {"b", ""}}) ==
             "a,k=1;;2;b");
  BOOST_TEST(join_preload("/x/l.so", "").value() == "/x/l.so");
  BOOST_TEST(join_preload("/x/l.so", "/y/m.so").value() == "/x/l.so:/y/m.so");
  BOOST_TEST(!join_preload("/x y/l.so", "").has_value());
}

// ---- CPUID, log --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(leaves_of_the_guests_cpuid) {
  CpuidTable table;
  BOOST_TEST(!table.known());
  const std::vector<kvm_cpuid_entry2> entries{
      {0x80000001, 0, 0, 1, 2, 3, 4, {}},
      {4, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, 40, 0, 0, 0, {}},
      {4, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, 41, 0, 0, 0, {}}};
  table.assign(entries);
  std::array<uint32_t, 4> registers{};
  table.lookup(0x80000001, 9, registers);
  BOOST_TEST(registers == (std::array<uint32_t, 4>{1, 2, 3, 4}), boost::test_tools::per_element());
  table.lookup(4, 1, registers);
  BOOST_TEST(registers[0] == 41u);
  table.lookup(4, 2, registers);
  BOOST_TEST(registers[0] == 0u);
  table.lookup(0x80000022, 0, registers);
  BOOST_TEST(registers[3] == 0u);
  table.assign(std::vector<kvm_cpuid_entry2>(1000));  // longer than KVM takes
  BOOST_TEST(table.known());
  table.clear();
  BOOST_TEST(!table.known());
}

BOOST_AUTO_TEST_CASE(a_log_line) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/log";
  PreloadLog log;
  BOOST_REQUIRE(log.open(path.c_str()) == 0);
  log.set_process();
  errno = 77;
  log.event(VMM_LOG_INFO, "vm_created vm=%d", 9);
  log.plugin(VMM_LOG_DEBUG, "p", "two\nlines");
  log.event(VMM_LOG_INFO, "%s", std::string(5000, 'x').c_str());
  BOOST_TEST(errno == 77);
  std::istringstream lines(read_all(path));
  std::string line;
  const std::string ids =
      "vmm_preload[" + std::to_string(getpid()) + "/" + std::to_string(gettid()) + "] ";
  std::getline(lines, line);
  BOOST_TEST(line == ids + "info: vm_created vm=9");
  std::getline(lines, line);
  BOOST_TEST(line == ids + "debug: p: two lines");
  std::getline(lines, line);
  BOOST_TEST(line.size() > 900u);
  BOOST_TEST(!std::getline(lines, line));
}

BOOST_AUTO_TEST_CASE(the_journal_gets_what_an_operator_reads) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/socket";
  PreloadLog log;
  BOOST_TEST(log.open_journal(path.c_str()) == -ENOENT);
  BOOST_TEST(log.open_journal(std::string(200, 'x').c_str()) == -ENAMETOOLONG);
  const int journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  BOOST_REQUIRE(bind(journal, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  BOOST_REQUIRE(log.open_journal(path.c_str()) == 0);
  const auto entry = [&] {
    std::array<char, 4096> data{};
    const ssize_t length = recv(journal, data.data(), data.size(), 0);
    return std::string(data.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  };
  log.event(kLogNotice, "vm_ready vm=%d", 9);
  BOOST_TEST(entry() == "PRIORITY=5\nSYSLOG_IDENTIFIER=vmm_preload\nMESSAGE=vm_ready vm=9\n");
  log.plugin(VMM_LOG_WARNING, "p", "two\nFIELD=lines");
  BOOST_TEST(entry() == "PRIORITY=4\nSYSLOG_IDENTIFIER=vmm_preload\nMESSAGE=p: two FIELD=lines\n");
  log.event(VMM_LOG_INFO, "vcpu_reset");  // not for the journal
  BOOST_TEST(entry() == "");
  log.event(kLogNotice, "%s", std::string(5000, 'x').c_str());
  BOOST_TEST(entry().size() > 900u);
  // nobody reads: lines are lost, and nothing waits
  for (int i = 0; i < 5000; ++i) log.event(kLogNotice, "%d", i);
  close(journal);
  log.event(kLogNotice, "nobody is there");
}

BOOST_AUTO_TEST_CASE(a_log_that_cannot_be_written) {
  PreloadLog log;
  BOOST_TEST(log.open("/no/such/folder/log") == -ENOENT);
  BOOST_TEST(log.open("/tmp") == -EISDIR);
  BOOST_TEST(log.open("") == 0);
  BOOST_TEST(log.open(nullptr) == 0);
}

BOOST_AUTO_TEST_CASE(a_log_whose_descriptor_became_another_file_falls_silent) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/log", disk = folder.file("disk", "data");
  PreloadLog log;
  BOOST_REQUIRE(log.open(path.c_str()) == 0);
  log.event(VMM_LOG_INFO, "before");
  // what a daemon does that closes all it did not open
  for (int fd = 100; fd < 200; ++fd) {
    std::array<char, 256> link{};
    const std::string name = "/proc/self/fd/" + std::to_string(fd);
    if (readlink(name.c_str(), link.data(), link.size() - 1) > 0 && link.data() == path) {
      const int other = open(disk.c_str(), O_RDWR);
      BOOST_REQUIRE(dup2(other, fd) == fd);
      close(other);
      log.event(VMM_LOG_INFO, "after");
      close(fd);
    }
  }
  BOOST_TEST(contains(read_all(path), "before"));
  BOOST_TEST(!contains(read_all(path), "after"));
  BOOST_TEST(read_all(disk) == "data");
}

// ---- descriptors and lives ---------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(what_a_descriptor_leads_to) {
  FdTable<int> table;
  int a = 1, b = 2;
  BOOST_TEST(table.get(7) == nullptr);
  BOOST_TEST(table.get(-1) == nullptr);
  BOOST_TEST(table.get(1 << 30) == nullptr);
  BOOST_TEST(table.put(7, &a) == nullptr);
  BOOST_TEST(table.get(7) == &a);
  BOOST_TEST(table.get(8) == nullptr);
  BOOST_TEST(table.put(7, &b) == &a);
  BOOST_TEST(table.put(FdTable<int>::kMaxFds - 1, &a) == nullptr);
  BOOST_TEST(table.get(FdTable<int>::kMaxFds - 1) == &a);
  BOOST_TEST(table.put(FdTable<int>::kMaxFds, &a) == &a);  // no room: handed back
  BOOST_TEST(!table.reserve(-1));
  int seen = 0;
  table.for_each([&](int, int*) { ++seen; });
  BOOST_TEST(seen == 2);
  BOOST_TEST(table.put(7, nullptr) == &b);
  BOOST_TEST(table.get(7) == nullptr);
  BOOST_TEST(table.put(500000, nullptr) == nullptr);
}

BOOST_AUTO_TEST_CASE(threads_that_fill_the_table) {
  FdTable<int> table;
  std::array<int, 4> objects{};
  std::vector<std::thread> threads;
  threads.reserve(objects.size());
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int fd = t; fd < 20000; fd += 4) table.put(fd, &objects[static_cast<std::size_t>(t)]);
    });
  for (std::thread& thread : threads) thread.join();
  for (int fd = 0; fd < 20000; ++fd)
    BOOST_REQUIRE(table.get(fd) == &objects[static_cast<std::size_t>(fd % 4)]);
}

BOOST_AUTO_TEST_CASE(a_vm_lives_until_its_last_descriptor_and_user_are_gone) {
  PreloadLog log;
  VmRegistry registry(log);
  BOOST_TEST(!registry.any_vm());
  {
    const Use<Vm> made(registry, registry.make_vm(1000));
    registry.publish(*made);
  }
  BOOST_TEST(registry.any_vm());
  {
    const Use<Vm> vm = registry.vm(1000);
    BOOST_REQUIRE(static_cast<bool>(vm));
    BOOST_REQUIRE(registry.add_vcpu(*vm, 1001, 3, nullptr) != nullptr);
  }
  BOOST_TEST(!registry.vm(1001));
  BOOST_TEST(!registry.vcpu(1000));
  registry.forget_fd(1000);
  BOOST_TEST(!registry.vm(1000));
  BOOST_TEST(registry.any_vm());
  {
    const Use<Vcpu> vcpu = registry.vcpu(1001);
    BOOST_REQUIRE(static_cast<bool>(vcpu));
    BOOST_TEST(vcpu->index == 3u);
    registry.forget_fd(1001);
    BOOST_TEST(registry.any_vm());  // this use
  }
  BOOST_TEST(!registry.any_vm());
}

BOOST_AUTO_TEST_CASE(a_number_that_comes_again_heals_a_missed_close) {
  PreloadLog log;
  VmRegistry registry(log);
  for (int i = 0; i < 3; ++i) {
    registry.forget_fd(1000);
    const Use<Vm> vm(registry, registry.make_vm(1000));
    registry.publish(*vm);
    registry.forget_fd(1001);
    BOOST_REQUIRE(registry.add_vcpu(*vm, 1001, 0, nullptr) != nullptr);
    BOOST_TEST(registry.vcpu(1001)->vm == &*vm);
  }
  registry.forget_fd(1001);
  registry.forget_fd(1000);
  BOOST_TEST(!registry.any_vm());
}

BOOST_AUTO_TEST_CASE(threads_that_use_what_others_close) {
  PreloadLog log;
  VmRegistry registry(log);
  constexpr int kRounds = 3000, kFds = 4;  // each thread has its own VM and a vCPU of each other
  std::atomic<bool> stop{false};
  std::atomic<int> uses{0};
  std::vector<std::thread> makers, users;
  for (int t = 0; t < kFds; ++t)
    makers.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        {
          const Use<Vm> vm(registry, registry.make_vm(1000 + t));
          registry.publish(*vm);
          registry.add_vcpu(*vm, 1100 + t, static_cast<uint32_t>(i), nullptr);
        }
        registry.forget_fd(i % 2 == 0 ? 1000 + t : 1100 + t);
        registry.forget_fd(i % 2 == 0 ? 1100 + t : 1000 + t);
      }
    });
  for (int t = 0; t < 2; ++t)
    users.emplace_back([&] {
      while (!stop.load()) {
        for (int fd = 0; fd < kFds; ++fd) {
          if (const Use<Vcpu> vcpu = registry.vcpu(1100 + fd)) {
            vcpu->detector.on(VcpuEvent::run, ResetRule::strong);
            const std::lock_guard lock(vcpu->vm->mutex);
            uses += vcpu->cpuid.known() ? 0 : 1;
          }
          if (const Use<Vm> vm = registry.vm(1000 + fd)) uses += vm->number >= 1000 ? 1 : 0;
        }
      }
    });
  for (std::thread& thread : makers) thread.join();
  stop.store(true);
  for (std::thread& thread : users) thread.join();
  BOOST_TEST(!registry.any_vm());
  BOOST_TEST_MESSAGE(uses.load() << " uses");
}
