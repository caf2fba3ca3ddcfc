// SPDX-License-Identifier: MIT
//
// The option string: every value, and every way to get it wrong.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "options.hpp"
#include "support/bad_options.hpp"

namespace bdata = boost::unit_test::data;

using svm_pmu::parse_options;
using svm_pmu::PmuCpuid;
using svm_pmu::PmuOff;
using svm_pmu::PmuOffMethod;

BOOST_AUTO_TEST_SUITE(options)

BOOST_AUTO_TEST_CASE(null_and_empty_mean_the_defaults_of_the_table) {
  for (const char* text : {static_cast<const char*>(nullptr), ""}) {
    const auto parsed = parse_options(text);
    BOOST_REQUIRE(parsed.has_value());
    BOOST_TEST((parsed->pmu_cap_disabled == PmuOff::off));
    BOOST_TEST((parsed->pmu_cpuid == PmuCpuid::automatic));
    BOOST_TEST((parsed->pmu_off_method == PmuOffMethod::automatic));
    BOOST_TEST(parsed->pmu_reset);
    BOOST_TEST(parsed->pmu_state);
    BOOST_TEST(!parsed->verify);
    BOOST_TEST(!parsed->strict);
    BOOST_TEST(parsed->log_level == 200u);
  }
}

BOOST_AUTO_TEST_CASE(the_table_names_the_defaults_that_the_parser_has) {
  // each default of the table, given explicitly, changes nothing
  std::string all;
  for (const svm_pmu::OptionRow& row : svm_pmu::kOptionTable)
    all += (all.empty() ? "" : ",") + std::string(row.key) + "=" + row.default_value;
  const auto given = parse_options(all.c_str());
  BOOST_REQUIRE_MESSAGE(given.has_value(), all);
  const auto defaults = parse_options(nullptr);
  BOOST_TEST((given->pmu_cap_disabled == defaults->pmu_cap_disabled));
  BOOST_TEST((given->pmu_cpuid == defaults->pmu_cpuid));
  BOOST_TEST((given->pmu_off_method == defaults->pmu_off_method));
  BOOST_TEST(given->pmu_reset == defaults->pmu_reset);
  BOOST_TEST(given->pmu_state == defaults->pmu_state);
  BOOST_TEST(given->verify == defaults->verify);
  BOOST_TEST(given->strict == defaults->strict);
  BOOST_TEST(given->log_level == defaults->log_level);
}

/// The row that README.md has for an option.
std::string readme_row(const svm_pmu::OptionRow& row) {
  constexpr std::string_view kBool = SVM_PMU_BOOL_VALUES;
  std::string values = row.values;
  if (values.rfind(kBool, 0) == 0) {
    const std::string more = values.substr(kBool.size());
    values = "boolean" + (more.empty() ? "" : ", `" + more.substr(1) + "`");
  } else {
    for (std::size_t at = 0; (at = values.find('|', at)) != std::string::npos; at += 4)
      values.replace(at, 1, "`, `");
    values = "`" + values + "`";
  }
  return "| `" + std::string(row.key) + "` | " + values + " | " + row.default_value + " | " +
         row.help + " |";
}

BOOST_AUTO_TEST_CASE(the_readme_has_the_rows_of_the_table_and_no_other) {
  std::ifstream readme(README);
  BOOST_REQUIRE(readme);
  std::vector<std::string> rows, wanted;
  std::string line;
  while (std::getline(readme, line) && line != "## Options of the plugin") continue;
  while (std::getline(readme, line) && line.rfind("## ", 0) != 0)
    if (line.rfind("| `", 0) == 0) rows.push_back(line);
  for (const svm_pmu::OptionRow& row : svm_pmu::kOptionTable) wanted.push_back(readme_row(row));
  BOOST_TEST(rows == wanted, boost::test_tools::per_element());
}

struct BoolWord {
  const char* word;
  bool value;
};
std::ostream& operator<<(std::ostream& out, const BoolWord& row) { return out << row.word; }
constexpr BoolWord kBoolWords[] = {{"on", true},  {"off", false}, {"true", true}, {"false", false},
                                   {"yes", true}, {"no", false},  {"1", true},    {"0", false}};

BOOST_DATA_TEST_CASE(booleans_take_four_pairs_of_words, bdata::make(kBoolWords), row) {
  const std::string word = row.word;
  const auto parsed = parse_options(("pmu-cap-disabled=" + word + ",pmu-reset=" + word +
                                     ",pmu-state=" + word + ",verify=" + word + ",strict=" + word)
                                        .c_str());
  BOOST_REQUIRE(parsed.has_value());
  BOOST_TEST((parsed->pmu_cap_disabled == (row.value ? PmuOff::on : PmuOff::off)));
  BOOST_TEST(parsed->pmu_reset == row.value);
  BOOST_TEST(parsed->pmu_state == row.value);
  BOOST_TEST(parsed->verify == row.value);
  BOOST_TEST(parsed->strict == row.value);
}

BOOST_AUTO_TEST_CASE(methods_and_levels_take_their_words) {
  BOOST_TEST((parse_options("pmu-off-method=auto")->pmu_off_method == PmuOffMethod::automatic));
  BOOST_TEST((parse_options("pmu-off-method=cap")->pmu_off_method == PmuOffMethod::cap));
  BOOST_TEST(
      (parse_options("pmu-off-method=msr-filter")->pmu_off_method == PmuOffMethod::msr_filter));
  BOOST_TEST(parse_options("log-level=error")->log_level == 100u);
  BOOST_TEST(parse_options("log-level=warning")->log_level == 200u);
  BOOST_TEST(parse_options("log-level=info")->log_level == 300u);
  BOOST_TEST(parse_options("log-level=debug")->log_level == 400u);
}

BOOST_AUTO_TEST_CASE(a_doubled_comma_is_part_of_the_value) {
  const auto parsed = parse_options("log-level=info,,debug,strict=on");
  BOOST_REQUIRE(!parsed.has_value());
  BOOST_TEST(parsed.error().text.view().find("'info,debug'") != std::string_view::npos);
}

BOOST_DATA_TEST_CASE(bad_input_is_named_with_what_is_allowed, bdata::make(kBadOptions), row) {
  const auto parsed = parse_options(row.options);
  BOOST_REQUIRE(!parsed.has_value());
  BOOST_TEST(parsed.error().code == -EINVAL);
  const std::string text(parsed.error().text.view());
  BOOST_TEST_CONTEXT(text) {
    BOOST_TEST(text.find(row.names) != std::string::npos);
    BOOST_TEST(text.find(row.allowed) != std::string::npos);
    BOOST_TEST(text.find('\n') == std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(a_string_of_one_mebibyte_is_refused_by_its_length) {
  const std::string huge(1 << 20, 'a');
  const auto parsed = parse_options(huge.c_str());
  BOOST_REQUIRE(!parsed.has_value());
  BOOST_TEST(parsed.error().text.view() ==
             "options: the string has 1048576 bytes, but at most 4096 are allowed");
}

BOOST_AUTO_TEST_CASE(messages_are_printable_whatever_the_input_was) {
  for (int byte = 1; byte < 256; ++byte) {
    const std::string text = "strict=" + std::string(3, static_cast<char>(byte));
    const auto parsed = parse_options(text.c_str());
    BOOST_REQUIRE(!parsed.has_value());
    for (const char c : parsed.error().text.view()) BOOST_TEST((c >= 0x20 && c < 0x7f));
  }
}

BOOST_AUTO_TEST_SUITE_END()
