// SPDX-License-Identifier: MIT
//
// The table of rules against the page, and how outcomes become a report.
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "check/report.hpp"
#include "check/rules.hpp"

using namespace host_stub;

BOOST_AUTO_TEST_CASE(the_page_and_the_table_have_the_same_rules_in_the_same_order) {
  std::ifstream page(ABI_PAGE);
  BOOST_REQUIRE(page);
  const std::regex head(R"(^- \*\*VMM-([0-9]+)\*\* .*)");
  std::vector<unsigned> on_the_page, in_the_table;
  std::smatch match;
  for (std::string line; std::getline(page, line);)
    if (std::regex_match(line, match, head))
      on_the_page.push_back(static_cast<unsigned>(std::stoul(match[1])));
  for (const Rule& rule : all_rules()) in_the_table.push_back(rule.number);
  BOOST_TEST(on_the_page == in_the_table, boost::test_tools::per_element());
  BOOST_TEST(find_rule(0) == nullptr);
  BOOST_TEST(find_rule(static_cast<unsigned>(in_the_table.size() + 1)) == nullptr);
  BOOST_TEST(find_rule(74)->number == 74u);
}

BOOST_AUTO_TEST_CASE(of_several_outcomes_of_a_rule_the_worst_stands) {
  RuleReport report("someone");
  report.add({7, Verdict::not_applicable, "no KVM"});
  report.add({7, Verdict::pass, ""});
  BOOST_TEST((report.results().front().verdict == Verdict::pass));
  report.add({7, Verdict::fail, "one"});
  report.add({7, Verdict::pass, "fine"});
  report.add({7, Verdict::fail, "two"});
  BOOST_TEST(report.results().size() == 1u);
  BOOST_TEST((report.results().front().verdict == Verdict::fail));
  BOOST_TEST(report.results().front().seen == "one; two");
  BOOST_TEST(!report.good());
}

BOOST_AUTO_TEST_CASE(a_report_is_by_rule_and_says_what_was_seen) {
  RuleReport report("someone");
  BOOST_TEST(!report.good());  // nothing was checked
  report.add({41, Verdict::pass, ""});
  report.add({1, Verdict::not_applicable, "no file"});
  BOOST_TEST(report.good());
  BOOST_TEST(report.text() ==
             "someone\n"
             "VMM-1   n/a  the plugin exports vmm_plugin_v1 and no other symbol\n"
             "             no file\n"
             "VMM-41  pass S2: no allocation, throw, lock or system call\n"
             "1 passed, 0 failed, 1 not applicable\n");
  const nlohmann::json json = report.json();
  BOOST_TEST(json["subject"] == "someone");
  BOOST_TEST(json["rules"][0]["verdict"] == "not applicable");
  BOOST_TEST(json["rules"][1]["rule"] == "VMM-41");
  BOOST_TEST(json["passed"] == 1);
}
