// SPDX-License-Identifier: MIT
//
// svm-pmu explain: what a line of a log means.
#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <iostream>
#include <sstream>

#include "tool/colour.hpp"
#include "tool/command.hpp"
#include "tool/explain.hpp"
#include "tool/words.hpp"

namespace svm_pmu::tool {

namespace po = boost::program_options;

namespace {

struct Wanted {
  std::vector<std::string> lines;
  bool list = false, help = false;
};

po::options_description description_of(Wanted& wanted) {
  po::options_description d("svm-pmu explain: what a line of a guest's or a host's log means");
  // clang-format off
  d.add_options()
    ("line", po::value(&wanted.lines)->value_name("LINE"),
     "a line, or a part of one; also without --line. Without any: standard input")
    ("list", po::bool_switch(&wanted.list), "all lines that it knows")
    ("help", po::bool_switch(&wanted.help), "this text");
  // clang-format on
  return d;
}

constexpr Colour kColours[] = {Colour::red, Colour::yellow, Colour::green, Colour::green};

/// The first line of a log that has an explanation, and how many lines have the same.
struct Explained {
  std::string line;
  Explanation explanation;
  std::size_t lines = 1;
};

/// In the order of the log. A host logs some lines once per guest and boot, so a log can have
/// thousands that mean the same.
std::vector<Explained> explain_lines(const std::vector<std::string>& lines) {
  Explainer explainer;
  std::vector<Explained> all;
  for (const std::string& line : lines) {
    auto explanation = explainer.explain(line);
    if (!explanation) continue;
    const auto same = std::ranges::find(all, *explanation, &Explained::explanation);
    if (same == all.end())
      all.push_back({line, std::move(*explanation)});
    else
      ++same->lines;
  }
  return all;
}

void print(const Explained& explained, bool colour) {
  const Explanation& e = explained.explanation;
  fmt::print("{}\n", explained.line);
  if (explained.lines > 1) fmt::print("  {} lines of the log mean this.\n", explained.lines);
  fmt::print("  {}\n", painted(verdict_words(e.verdict),
                               kColours[static_cast<std::size_t>(e.verdict)], colour));
  fmt::print("{}", wrapped("  ", 2, e.meaning));
  for (const std::string& detail : e.details) fmt::print("{}", wrapped("  ", 2, detail));
  fmt::print("{}", wrapped("  Next: ", 8, e.next));
}

void print_list() {
  for (const LogMessage& row : log_messages()) {
    const std::string also = row.also == nullptr ? "" : fmt::format(" ... {}", row.also);
    fmt::print("  {}{} ({} log)\n{}{}", row.part, also, row.log, wrapped("      ", 6, row.meaning),
               wrapped("      Next: ", 6, row.next));
  }
}

std::vector<std::string> lines_of(std::istream& in) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// What stands on the command line: each word a line, or all words together one, which a shell has
/// split.
std::vector<std::string> lines_of(const std::vector<std::string>& words) {
  const auto known = [](const std::string& word) { return find_message(word) != nullptr; };
  std::string all;
  for (const std::string& word : words)
    all += (all.empty() ? "" : std::ranges::any_of(words, known) ? "\n" : " ") + word;
  std::istringstream text(all);
  return lines_of(text);
}

}  // namespace

int explain_command(const Arguments& arguments) {
  Wanted wanted;
  const po::options_description description = description_of(wanted);
  po::positional_options_description words;
  words.add("line", -1);
  if (!parse_arguments("explain", arguments, description, words)) return kExitUsage;
  if (wanted.help) {
    fmt::print(
        "{}\nLines that it does not know are left out. Of lines that mean the same it shows the\n"
        "first, and counts them.\n\n"
        "Exit status: 0 a line was explained; 1 none was known; 2 usage.\n",
        help_of(description));
    return kExitGood;
  }
  if (wanted.list) {
    print_list();
    return kExitGood;
  }
  const std::vector<std::string> lines =
      wanted.lines.empty() ? lines_of(std::cin) : lines_of(wanted.lines);
  const bool colour = colour_wanted();
  const std::vector<Explained> all = explain_lines(lines);
  for (const Explained& explained : all) {
    if (&explained != &all.front()) fmt::print("\n");
    print(explained, colour);
  }
  if (!all.empty()) return kExitGood;
  print_error("explain: no line that is known; 'svm-pmu explain --list' lists them");
  return kExitWrong;
}

}  // namespace svm_pmu::tool
