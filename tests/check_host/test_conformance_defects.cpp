// SPDX-License-Identifier: MIT
//
// Every rule that is judged is failed by a host that breaks it, and by none that does not.
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "conformance_runs.hpp"

using namespace host_stub;

namespace {

/// Names of bad_host's defects and the rule of each; and the one that is made when it is built.
std::multimap<unsigned, std::string> defects() {
  std::multimap<unsigned, std::string> found{{7, "no marker"}};
  std::istringstream list(run_process({BAD_HOST, "--list"}).out);
  std::string name;
  for (unsigned rule = 0; list >> name >> rule;) found.emplace(rule, name);
  return found;
}

RuleReport judge_defect(unsigned rule, const std::string& name) {
  return judge_runs([&](const std::string& options) {
    // slow as it says, and of use only where calls must not meet
    if (options.ends_with("run=slow") && rule != 37) return ProcessResult{0, "", ""};
    return name == "no marker" ? run_process({BAD_HOST_WITHOUT_MARKER, HOST_CONFORMANCE, options})
                               : run_process({BAD_HOST, HOST_CONFORMANCE, options, name});
  });
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_rule_that_is_judged_has_a_host_that_breaks_it) {
  std::set<unsigned> judged, broken;
  for (const unsigned rule : conformance_rules()) judged.insert(rule);
  for (const auto& [rule, name] : defects()) broken.insert(rule);
  BOOST_TEST(judged == broken);
}

BOOST_AUTO_TEST_CASE(a_host_that_breaks_a_rule_fails_it_with_what_was_seen) {
  for (const auto& [rule, name] : defects()) {
    const RuleReport report = judge_defect(rule, name);
    BOOST_TEST_CONTEXT(name << '\n' << report.text()) {
      BOOST_TEST(rules_with(report, Verdict::fail).contains(rule));
      for (const RuleResult& result : report.results())
        BOOST_TEST((result.verdict != Verdict::fail || !result.seen.empty()));
      BOOST_TEST(!report.good());
    }
  }
}

BOOST_AUTO_TEST_CASE(the_table_says_of_the_same_rules_that_they_are_judged) {
  std::ifstream table(ABI_HELD_BY);
  BOOST_REQUIRE(table);
  const std::regex row(R"(^VMM-([0-9]+): (.*, )?conformance([, ].*)?$)");
  std::set<unsigned> judged, in_the_table;
  for (const unsigned rule : conformance_rules()) judged.insert(rule);
  std::smatch match;
  for (std::string line; std::getline(table, line);)
    if (std::regex_match(line, match, row))
      in_the_table.insert(static_cast<unsigned>(std::stoul(match[1])));
  BOOST_TEST(in_the_table == judged);
}
