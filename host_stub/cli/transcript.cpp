// SPDX-License-Identifier: MIT
#include "cli/transcript.hpp"

#include <fmt/format.h>
#include <vmm/plugin.h>

#include <array>
#include <nlohmann/json.hpp>

#include "host_kit/host.hpp"
#include "kvm/errno_names.hpp"

namespace host_stub {
namespace {

/// How a kind of event looks; indexed by Event::Kind.
struct Look {
  const char* word;
  const char* color;
};
constexpr std::array<Look, 6> kLooks{{{"step", "\033[1m"},
                                      {"hook", "\033[36m"},
                                      {"ioctl", "\033[2m"},
                                      {"guest", "\033[33m"},
                                      {"log", "\033[32m"},
                                      {"note", ""}}};
constexpr const char* kBad = "\033[31m";
constexpr const char* kPlain = "\033[0m";

const Look& look(const Event& event) { return kLooks[static_cast<std::size_t>(event.kind)]; }

std::string outcome(int32_t result) {
  return result < 0 ? fmt::format("-{}", errno_name(-result)) : std::to_string(result);
}

std::string line_of(const Event& event) {
  switch (event.kind) {
    case Event::Kind::step:
      return fmt::format("== {}{}", event.name, event.text.empty() ? "" : ": " + event.text);
    case Event::Kind::hook:
      return fmt::format("{}({}) = {}", event.name, event.text, outcome(event.result));
    case Event::Kind::log:
      return fmt::format("{}: {}: {}", host_kit::log_level_name(event.level), event.name,
                         event.text);
    default:
      return event.text;
  }
}

bool is_bad(const Event& event) {
  return (event.kind == Event::Kind::log && event.level < VMM_LOG_WARNING) ||
         (event.kind != Event::Kind::ioctl && event.result < 0);
}

}  // namespace

Transcript::Transcript(std::FILE* out, Format format, bool color)
    : out_(out), format_(format), color_(color) {}

void Transcript::show(const Event& event) {
  if (format_ == Format::json)
    show_json(event);
  else
    show_text(event);
  std::fflush(out_);
}

void Transcript::show_text(const Event& event) {
  const bool step = event.kind == Event::Kind::step;
  const std::string text =
      step ? line_of(event) : fmt::format("  {:<5}| {}", look(event).word, line_of(event));
  if (color_)
    fmt::print(out_, "{}{}{}\n", is_bad(event) ? kBad : look(event).color, text, kPlain);
  else
    fmt::print(out_, "{}\n", text);
}

void Transcript::show_json(const Event& event) {
  nlohmann::ordered_json object;
  object["event"] = look(event).word;
  if (!event.name.empty()) object["name"] = event.name;
  if (event.kind == Event::Kind::log) object["level"] = host_kit::log_level_name(event.level);
  object["text"] = event.text;
  if (event.kind == Event::Kind::hook || event.kind == Event::Kind::ioctl ||
      event.kind == Event::Kind::step)
    object["result"] = event.result;
  // texts may hold bytes of a user's input: never fail on them
  fmt::print(out_, "{}\n",
             object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace host_stub
