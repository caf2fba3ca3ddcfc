// SPDX-License-Identifier: MIT
//
// The plugin's file as a guest in a process: it exports one symbol, and when it goes, all of it
// goes.
#include <malloc.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "host_kit/plugin_library.hpp"
#include "plugin_fixture.hpp"
#include "sanitizers.hpp"
#include "support/not_sanitized.hpp"

using namespace host_stub;

namespace {

/// Whether the plugin's file is mapped into this process, by the kernel's word: dlclose says 0 also
/// where the file stays.
bool mapped() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (says(line, "/svm_pmu.so")) return true;
  return false;
}

/// One life of the plugin, with everything in it.
void live_once(const char* options) {
  auto library = host_kit::PluginLibrary::open(kPluginPath);
  BOOST_REQUIRE(library.has_value());
  PluginHost host({.kvm = "sim:linux-6.12,host-perfmonv2", .cpuid = "v2", .record = false});
  const auto plugin = make_plugin(host, options, library->descriptor());
  Machine vm(host, *plugin, 1);
  BOOST_REQUIRE(vm.reset(0) == 0);
  BOOST_REQUIRE(vm.hooks().msr_list().has_value());
  // an exception inside: options that are not
  BOOST_REQUIRE(!host_kit::PluginInstance::create(library->descriptor(), host, "verify=maybe"));
}

std::size_t bytes_in_use() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

std::vector<std::string> lines_of(const std::string& command) {
  std::vector<std::string> lines;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), &pclose);
  if (!pipe) return lines;
  std::array<char, 512> buffer{};
  while (std::fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr)
    lines.emplace_back(buffer.data());
  return lines;
}

}  // namespace

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_plugin_that_was_closed_is_gone_and_leaves_nothing_in_memory) {
  constexpr int kRounds = 1000;
  constexpr std::size_t kSlack = std::size_t{64} * 1024;  // caches of the C and C++ libraries
  BOOST_REQUIRE(!mapped());
  for (int round = 0; round < 10; ++round) live_once("");
  BOOST_TEST(!mapped());
  const std::size_t before = bytes_in_use();
  for (int round = 0; round < kRounds; ++round) {
    live_once(round % 2 == 0 ? "" : "pmu-cap-disabled=on,verify=on,log-level=debug");
    if (mapped()) BOOST_REQUIRE_MESSAGE(false, "still mapped after round " << round);
  }
  BOOST_TEST(bytes_in_use() < before + kSlack);
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_plugin_that_another_thread_used_goes_too_while_that_thread_lives) {
  auto library = host_kit::PluginLibrary::open(kPluginPath);
  BOOST_REQUIRE(library.has_value());
  auto kept = std::make_unique<host_kit::PluginLibrary>(std::move(*library));
  BOOST_TEST(mapped());
  std::jthread([&] {
    PluginHost host({.record = false});
    {
      const auto plugin = make_plugin(host, "", kept->descriptor());
      Machine vm(host, *plugin, 1);
      vm.reset(0);
    }
    kept.reset();  // thread_local objects of the plugin would keep it until this thread ends
    BOOST_TEST(!mapped());
  }).join();
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(two_handles_of_the_file_are_one_plugin_until_both_are_closed) {
  {
    auto first = host_kit::PluginLibrary::open(kPluginPath);
    BOOST_REQUIRE(first.has_value());
    {
      auto second = host_kit::PluginLibrary::open(kPluginPath);
      BOOST_REQUIRE(second.has_value());
      BOOST_TEST(second->descriptor().create == first->descriptor().create);
    }
    BOOST_TEST(mapped());
  }
  BOOST_TEST(!mapped());
}

BOOST_AUTO_TEST_CASE(the_entry_is_the_only_symbol_of_the_file) {
  if (lines_of("nm --version 2>/dev/null").empty()) {
    BOOST_TEST_MESSAGE("SKIPPED: there is no nm");
    return;
  }
  const auto symbols = lines_of(std::string("nm -D --defined-only '") + kPluginPath + "'");
  BOOST_REQUIRE(symbols.size() == 1u);
  BOOST_TEST(says(symbols[0], " T vmm_plugin_v1\n"));
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(the_file_asks_for_no_function_that_a_reset_must_not_use) {
  // none of these has a place anywhere in the plugin; its own code is asked, since the C++ library
  // may be in the file
  const std::string code = TEST_BUILD_DIR "/plugin/libsvm_pmu_core.a";
  const auto all = lines_of("nm '" + code + "' 2>/dev/null");
  const auto instrumented = [](const std::string& line) { return says(line, "__gcov_"); };
  if (all.empty() || std::any_of(all.begin(), all.end(), instrumented)) {
    BOOST_TEST_MESSAGE("SKIPPED: there is no nm, or the file is instrumented");
    return;
  }
  const auto symbols = lines_of("nm --undefined-only '" + code + "'");
  BOOST_REQUIRE(!symbols.empty());
  for (const std::string& symbol : symbols)
    for (const std::string banned : {"exit", "abort", "pthread_mutex_lock", "pthread_create",
                                     "ioctl", "open", "printf", "getenv", "signal", "atexit"})
      BOOST_TEST(!says(symbol, " U " + banned + "\n"), symbol);
}
