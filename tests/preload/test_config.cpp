// SPDX-License-Identifier: MIT
//
// The preload host's configuration: the variables, the file and its drop-ins, and which of them
// counts for which program and VM.
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "host_preload/config.hpp"
#include "host_preload/config_file.hpp"
#include "host_preload/vmm_command_line.hpp"
#include "support/temporary_folder.hpp"

namespace host_kit {
std::ostream& operator<<(std::ostream& out, const PluginSpec& spec) {
  return out << spec.file << " with '" << spec.options << "'";
}
}  // namespace host_kit

namespace {

using namespace host_preload;
using Specs = std::vector<PluginSpec>;
using Strings = std::vector<std::string>;

const Subject kQemu{"/usr/bin/qemu-system-x86_64", "web1"};

Config from_variables(const char* plugins, const char* log = nullptr, const char* rule = nullptr,
                      const char* on_error = nullptr) {
  return read_config({plugins, log, rule, on_error, ""}, {});
}

Config from_text(const std::string& text, const Subject& subject = kQemu) {
  Config config;
  parse_config_text(text, "F", subject, config);
  return config;
}

/// The file's rules, named by a variable as an operator may.
Config from_file(const std::string& file, const Subject& subject = kQemu) {
  Environment environment;
  environment.config_file = file.c_str();
  return read_config(environment, subject);
}

std::string joined(const Strings& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace

// ---- variables ---------------------------------------------------------------------------------

namespace {

struct PluginsRow {
  const char* text;
  Specs expected;
};
std::ostream& operator<<(std::ostream& out, const PluginsRow& row) { return out << row.text; }

const std::vector<PluginsRow> kPluginRows{
    {"", {}},
    {";", {}},
    {"a.so", {{"a.so", ""}}},
    {"a.so;", {{"a.so", ""}}},
    {"a.so,", {{"a.so", ""}}},
    {"a.so,k=v", {{"a.so", "k=v"}}},
    {"a.so,k=v,l=w;/x/b.so", {{"a.so", "k=v,l=w"}, {"/x/b.so", ""}}},
    {"a.so,k=1,,2", {{"a.so", "k=1,,2"}}},  // a doubled comma is the plugin's to read
    {"a.so,k=1;;2;b.so", {{"a.so", "k=1;2"}, {"b.so", ""}}},
};

}  // namespace

BOOST_DATA_TEST_CASE(lists_of_plugins, boost::unit_test::data::make(kPluginRows), row) {
  const Config config = from_variables(row.text);
  BOOST_TEST(config.problems.empty());
  BOOST_TEST(config.plugins == row.expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(no_variable_and_no_file_is_the_default) {
  const Config config = from_variables(nullptr);
  BOOST_TEST(config.problems.empty());
  BOOST_TEST(config.plugins.empty());
  BOOST_TEST(config.log.empty());
  BOOST_TEST(config.file.empty());
  BOOST_CHECK(config.rule == ResetRule::strong);
  BOOST_TEST(!config.continue_on_error);
}

BOOST_AUTO_TEST_CASE(all_variables) {
  const Config config = from_variables("a", "stderr", "broad", "continue");
  BOOST_TEST(config.log == "stderr");
  BOOST_CHECK(config.rule == ResetRule::broad);
  BOOST_TEST(config.continue_on_error);
}

BOOST_AUTO_TEST_CASE(values_that_do_not_parse_name_their_variable) {
  BOOST_TEST(joined(from_variables("a", nullptr, "sloppy").problems) ==
             "VMM_PRELOAD_RESET_RULE=sloppy: use strong or broad\n");
  BOOST_TEST(joined(from_variables("a", nullptr, nullptr, "ignore").problems) ==
             "VMM_PRELOAD_ON_ERROR=ignore: use fail or continue\n");
  BOOST_TEST(joined(from_variables("a;,k=v").problems) ==
             "VMM_PLUGINS: ',k=v' names no plugin before its options\n");
}

// ---- the file's text ---------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_file_for_a_whole_host) {
  const Config config = from_text(
      "# fixes for every VM\n"
      "; and a comment of the other kind\n"
      "\n"
      "plugin = svm_pmu.so,pmu-cap-disabled=on,k=1;2\n"
      "\tplugin=/x/other.so  \r\n"
      "log = journal\n"
      "reset-rule = broad\n"
      "on-error = continue");
  BOOST_TEST(joined(config.problems) == "");
  BOOST_TEST(
      config.plugins == (Specs{{"svm_pmu.so", "pmu-cap-disabled=on,k=1;2"}, {"/x/other.so", ""}}),
      boost::test_tools::per_element());
  BOOST_TEST(config.log == "journal");
  BOOST_CHECK(config.rule == ResetRule::broad);
  BOOST_TEST(config.continue_on_error);
}

namespace {

struct RuleRow {
  const char* section;
  bool applies;  // to kQemu
};
std::ostream& operator<<(std::ostream& out, const RuleRow& row) { return out << row.section; }

const std::vector<RuleRow> kRuleRows{
    {"[program qemu-system-x86_64]", true},
    {"[program qemu-system-*]", true},
    {"[program lkvm qemu-*]", true},
    {"[ program  lkvm\tqemu-* ]", true},
    {"[program /usr/bin/qemu-*]", true},
    {"[program /usr/local/*]", false},
    {"[program qemu]", false},
    {"[program lkvm]", false},
    {"[vm web1]", true},
    {"[vm db* web?]", true},
    {"[vm web? db*]", true},
    {"[vm web[0-9]]", true},
    {"[vm *]", true},
    {"[vm web]", false},
    {"[vm WEB1]", false},
};

}  // namespace

BOOST_DATA_TEST_CASE(sections_are_for_programs_or_vms, boost::unit_test::data::make(kRuleRows),
                     row) {
  const Config config = from_text(std::string(row.section) + "\nplugin = a.so\nlog = stderr\n");
  BOOST_TEST(joined(config.problems) == "");
  BOOST_TEST(config.plugins.size() == (row.applies ? 1u : 0u));
  BOOST_TEST(config.log == (row.applies ? "stderr" : ""));
}

BOOST_AUTO_TEST_CASE(a_vm_without_a_name_is_in_no_vm_section) {
  BOOST_TEST(from_text("[vm *]\nplugin = a.so\n", {"/usr/bin/qemu", ""}).plugins.empty());
}

BOOST_AUTO_TEST_CASE(single_vms_are_left_out_or_get_other_options) {
  const std::string text =
      "[program qemu-system-*]\n"
      "plugin = svm_pmu.so,pmu-cap-disabled=on\n"
      "plugin = other.so\n"
      "[vm legacy-*]\n"
      "plugin =\n"
      "[vm perf]\n"
      "plugin = /usr/lib/svm_pmu.so,pmu-cap-disabled=off\n";
  const auto plugins = [&](const char* vm) { return from_text(text, {kQemu.program, vm}).plugins; };
  BOOST_TEST(plugins("web1") == (Specs{{"svm_pmu.so", "pmu-cap-disabled=on"}, {"other.so", ""}}),
             boost::test_tools::per_element());
  BOOST_TEST(plugins("legacy-7").empty());
  BOOST_TEST(
      plugins("perf") == (Specs{{"/usr/lib/svm_pmu.so", "pmu-cap-disabled=off"}, {"other.so", ""}}),
      boost::test_tools::per_element());
  BOOST_TEST(from_text(text, {"/usr/sbin/libvirtd", ""}).plugins.empty());
}

namespace {

struct BadLine {
  const char* text;
  const char* problem;
};
std::ostream& operator<<(std::ostream& out, const BadLine& row) { return out << row.text; }

const std::vector<BadLine> kBadLines{
    {"\nplugins = a.so", "F:2: 'plugins': use plugin, log, reset-rule or on-error"},
    {"plugin a.so", "F:1: 'plugin a.so': use KEY = VALUE, [program PATTERN...] or [vm PATTERN...]"},
    {"plugin = ,k=v", "F:1: plugin = ',k=v': it names no plugin before its options"},
    {"plugin = a.so b.so",
     "F:1: plugin = 'a.so b.so': one plugin per line, and its options go after a comma"},
    {"plugin = a.so\nplugin = /x/a", "F:2: 'plugin a': named twice; the first time in line 1"},
    {"log = stderr\n\nlog = stderr", "F:3: 'log': named twice; the first time in line 1"},
    {"plugin = a\x01\nplugin = a\x01", "F:2: 'plugin a?': named twice; the first time in line 1"},
    {"log = vmm.log", "F:1: log = 'vmm.log': use journal, stderr or a path that begins with '/'"},
    {"log =", "F:1: log = : the value is missing"},
    {"reset-rule = weak", "F:1: reset-rule = 'weak': use strong or broad"},
    {"on-error = no", "F:1: on-error = 'no': use fail or continue"},
    {"[vm other]\non-error = no", "F:2: on-error = 'no': use fail or continue"},  // not for us
    {"[vm web1", "F:1: '[vm web1': the ']' is missing"},
    {"[vm]", "F:1: '[vm]': it names no vm"},
    {"[program ]", "F:1: '[program ]': it names no program"},
    {"[domain web1]", "F:1: '[domain web1]': use [program PATTERN...] or [vm PATTERN...]"},
    {"\x1b[2J = x", "F:1: '?[2J': use plugin, log, reset-rule or on-error"},
};

}  // namespace

BOOST_DATA_TEST_CASE(bad_lines_are_named, boost::unit_test::data::make(kBadLines), row) {
  BOOST_TEST(joined(from_text(row.text).problems) == std::string(row.problem) + "\n");
}

BOOST_AUTO_TEST_CASE(what_can_be_read_beside_a_bad_line_is_read) {
  const Config config = from_text("on-error = continue\nlog = vmm.log\nplugin = a.so\n");
  BOOST_TEST(config.problems.size() == 1u);
  BOOST_TEST(config.log.empty());
  BOOST_TEST(config.continue_on_error);
  BOOST_TEST(config.plugins.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_file_that_is_no_configuration_does_not_fill_the_log) {
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text +=
        "\x7f"
        "ELF\n";
  BOOST_TEST(from_text(text).problems.size() == 8u);
  BOOST_TEST(joined(from_text(std::string("log\0=\n", 6)).problems) ==
             "F:1: the line has a NUL byte\n");
}

// ---- files -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(drop_ins_are_read_after_the_file_in_the_order_of_their_names) {
  const TemporaryFolder folder;
  const std::string file = folder.file("c.conf", "log = /main\nplugin = a.so\n[vm web1]\n");
  std::filesystem::create_directory(file + ".d");
  folder.file("c.conf.d/20-b.conf", "plugin = a.so,k=20\n");
  folder.file("c.conf.d/10-a.conf", "plugin = a.so,k=10\nlog = /ten\n");
  folder.file("c.conf.d/30-no.conf.bak", "nonsense\n");
  folder.file("c.conf.d/.40.conf", "nonsense\n");
  const Config config = from_file(file);
  BOOST_TEST(joined(config.problems) == "");
  BOOST_TEST(config.file == file);
  BOOST_TEST(config.log == "/ten");
  BOOST_TEST(config.plugins == (Specs{{"a.so", "k=20"}}), boost::test_tools::per_element());
  folder.file("c.conf.d/30-bad.conf", "\nlog\n");
  BOOST_TEST(from_file(file).problems.at(0).starts_with(file + ".d/30-bad.conf:2: 'log': "));
}

BOOST_AUTO_TEST_CASE(variables_go_before_the_file) {
  const TemporaryFolder folder;
  const std::string file = folder.file("c.conf", "log = /x\nreset-rule = broad\nplugin = a.so\n");
  Environment environment{nullptr, "stderr", nullptr, nullptr, file.c_str()};
  const Config mixed = read_config(environment, kQemu);
  BOOST_TEST(mixed.log == "stderr");
  BOOST_CHECK(mixed.rule == ResetRule::broad);
  BOOST_TEST(mixed.plugins.size() == 1u);
  environment.plugins = "";  // set, and nothing: this process has no plugin
  const Config own = read_config(environment, kQemu);
  BOOST_TEST(own.plugins.empty());
  BOOST_TEST(own.file.empty());
  BOOST_CHECK(own.rule == ResetRule::strong);
}

BOOST_AUTO_TEST_CASE(a_file_that_others_may_write_is_refused) {
  const TemporaryFolder folder;
  const std::string file = folder.file("c.conf", "on-error = continue\nplugin = a.so\n", 0664);
  const Config config = from_file(file);
  BOOST_TEST(joined(config.problems) ==
             file + ": refused: others than its owner can write it (mode 664)\n");
  BOOST_TEST(config.plugins.empty());
  BOOST_TEST(!config.continue_on_error);
  chmod(file.c_str(), 0646);
  BOOST_TEST(from_file(file).problems.size() == 1u);
  chmod(file.c_str(), 0644);
  BOOST_TEST(joined(from_file(file).problems) == "");
  chmod(folder.path().c_str(), 0777);
  BOOST_TEST(joined(from_file(file).problems) ==
             folder.path() + ": refused: others than its owner can write it (mode 777)\n");
  chmod(folder.path().c_str(), 0755);
  std::filesystem::create_directory(file + ".d");
  chmod((file + ".d").c_str(), 0775);
  BOOST_TEST(joined(from_file(file).problems) ==
             file + ".d: refused: others than its owner can write it (mode 775)\n");
  chmod((file + ".d").c_str(), 0755);
  const std::string drop_in = folder.file("c.conf.d/10.conf", "plugin = b.so\n", 0666);
  BOOST_TEST(joined(from_file(file).problems) ==
             drop_in + ": refused: others than its owner can write it (mode 666)\n");
}

BOOST_AUTO_TEST_CASE(a_file_of_another_user_is_refused) {
  const TemporaryFolder folder;
  const std::string file = folder.file("c.conf", "plugin = a.so\n");
  if (chown(file.c_str(), 1, static_cast<gid_t>(-1)) != 0) {
    BOOST_TEST_MESSAGE("SKIPPED: only root may give a file away");
    return;
  }
  BOOST_TEST(joined(from_file(file).problems) ==
             file + ": refused: it belongs to user 1, not to root\n");
  BOOST_TEST_REQUIRE(chown(file.c_str(), 0, static_cast<gid_t>(-1)) == 0);
  std::filesystem::create_directory(file + ".d");
  const std::string drop_in = folder.file("c.conf.d/10.conf", "plugin = b.so\n");
  BOOST_TEST_REQUIRE(chown(drop_in.c_str(), 1, static_cast<gid_t>(-1)) == 0);
  BOOST_TEST(joined(from_file(file).problems) ==
             drop_in + ": refused: it belongs to user 1, not to root\n");
}

BOOST_AUTO_TEST_CASE(only_a_regular_file_is_read) {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/c.conf";
  BOOST_TEST(joined(from_file(file).problems) == file + ": No such file or directory\n");
  std::filesystem::create_symlink(folder.file("real", "log = stderr\n"), file);
  BOOST_TEST(joined(from_file(file).problems) == file + ": refused: it is a symbolic link\n");
  std::filesystem::remove(file);
  BOOST_REQUIRE(mkfifo(file.c_str(), 0600) == 0);
  BOOST_TEST(joined(from_file(file).problems) == file + ": refused: it is not a regular file\n");
  std::filesystem::remove(file);
  folder.file("c.conf", std::string(kConfigFileMax + 1, '\n'));
  BOOST_TEST(joined(from_file(file).problems) ==
             file + ": refused: it is longer than 65536 bytes\n");
  folder.file("c.conf.d", "");
  folder.file("c.conf", "");
  BOOST_TEST(joined(from_file(file).problems) == file + ".d: refused: it is not a folder\n");
}

// ---- whom it is for ----------------------------------------------------------------------------

namespace {

struct NameRow {
  Strings arguments;
  const char* name;
};
std::ostream& operator<<(std::ostream& out, const NameRow& row) {
  return out << joined(row.arguments);
}

const std::vector<NameRow> kNameRows{
    {{"-name", "guest=web1,debug-threads=on"}, "web1"},
    {{"-name", "debug-threads=on,guest=web1"}, "web1"},
    {{"-name", "web1"}, "web1"},
    {{"-name", "web1,process=x"}, "web1"},
    {{"-name", "guest=a,,b"}, "a,b"},
    {{"--name", "web1"}, "web1"},
    {{"--name=web1"}, "web1"},
    {{"-name", "process=x"}, ""},
    {{"-name"}, ""},
    {{"-name", ""}, ""},
    {{"-name", "a", "-name", "guest=b"}, "b"},
    {{"-m", "512"}, ""},
};

}  // namespace

BOOST_DATA_TEST_CASE(names_of_vms, boost::unit_test::data::make(kNameRows), row) {
  Strings command{"vmm"};
  command.insert(command.end(), row.arguments.begin(), row.arguments.end());
  BOOST_TEST(read_command_line(command).vm_name == row.name);
}

BOOST_AUTO_TEST_CASE(this_process_is_the_subject) {
  BOOST_TEST(this_process().program == std::filesystem::read_symlink("/proc/self/exe").string());
  const Strings own = own_command_line();
  BOOST_REQUIRE(!own.empty());
  BOOST_TEST(own[0].find("test_config") != std::string::npos);
}
